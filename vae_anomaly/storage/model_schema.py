"""What a model file may say about itself, field by field: types and ranges, before anything is built from it.

What a parameter may be is read from `vae_anomaly.parameters`, and nothing is repeated here. Needs neither torch nor
NumPy, so that ``inspect`` can trust what it prints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_type_hints

from vae_anomaly.columns import CYCLES, DATE_FORMS, KINDS, MAX_LEVELS, YEAR, Columns
from vae_anomaly.constraints import Constraint, Integer, Number, Optional, is_integer
from vae_anomaly.errors import ModelFileError
from vae_anomaly.history import EpochRecord, validation_elbo
from vae_anomaly.parameters import parameters_in
from vae_anomaly.storage.model_file import Description, read_config

MAX_FEATURES = 1 << 24
MAX_SEED = 1 << 32
BINS = 32  # of the histograms of `vae_anomaly.fitted_images`
FLOAT_TYPES = ("float16", "float32", "float64", "longdouble", "float96", "float128")
NUMBER_TYPES = ("bool", *FLOAT_TYPES, *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))


class Text(Constraint):
    """Any text."""

    def allows(self, value: Any) -> bool:
        return isinstance(value, str)

    def __str__(self) -> str:
        return "text"


NUMBER = Number(-math.inf)
SHARE = Number(0, 1, high_open=False)
DETECTION = ("detection_rate", "detection_low", "detection_high")
OF_TARGET = ("n_effective", "n_target", "target_auc")
EARLIER = dict.fromkeys(("basis", "n_unseen", *OF_TARGET))
ASKED_FOR = Optional(Number(0, 1, low_open=True))
COUNT = Integer(0)

CALIBRATION: dict[str, Constraint] = {
    "method": Text(),
    "threshold": NUMBER,
    "threshold_low": Optional(NUMBER),
    "threshold_high": Optional(NUMBER),
    "rate": ASKED_FOR,
    "delta": ASKED_FOR,
    "false_alarm_rate": SHARE,
    "false_alarm_low": SHARE,
    "false_alarm_high": SHARE,
    "detection_rate": Optional(SHARE),
    "detection_low": Optional(SHARE),
    "detection_high": Optional(SHARE),
    "n_normal": Integer(),
    "n_anomalous": COUNT,
    "note": Optional(Text()),
    "basis": Optional(Text()),
    "n_unseen": Optional(Integer()),
    "n_effective": Optional(Number(0, low_open=True)),
    "n_target": Optional(Integer()),
    "target_auc": Optional(SHARE),
}
"""The fields of `vae_anomaly.calibration.result.Calibration`."""

EPOCH: dict[str, Constraint] = {
    **{name: Integer() if kind is int else NUMBER for name, kind in get_type_hints(EpochRecord).items()},
    "learning_rate": Number(),
}
"""The fields of a record of the history."""


def check_fields(value: Any, constraints: Mapping[str, Constraint], what: str) -> None:
    """Refuse what is not an object with these fields and no other.

    Raises
    ------
    ValueError
        Naming the first field at fault.
    """
    if not isinstance(value, dict):
        raise ValueError(f"its {what} is not an object")
    if odd := sorted(value.keys() ^ constraints.keys()):
        raise ValueError(f"its {what}: fields {', '.join(odd)[:100]} are missing or unknown")
    for name, constraint in constraints.items():
        if not constraint.allows(value[name]):
            raise ValueError(f"its {what}: {name} must be {constraint}, got {repr(value[name])[:100]}")


def check_calibrations(calibrations: Any) -> None:
    """Refuse what are not calibrations by the names of their scores; raises as `check_fields`."""
    if not isinstance(calibrations, dict):
        raise ValueError("its calibrations are not an object")
    for score, fields in calibrations.items():
        # earlier versions did not say what the rates rest on, and knew no weights
        known = EARLIER | fields if isinstance(fields, dict) else fields
        check_fields(known, CALIBRATION, f"calibration of {score[:100]}")
        if len({fields[name] is None for name in DETECTION}) > 1:
            raise ValueError(f"its calibration of {score[:100]}: {', '.join(DETECTION)} must all be None, or none")
        of_target = {known[name] is None for name in OF_TARGET}
        if len(of_target) > 1 or (known["method"] != "weighted" and of_target == {False}):
            names = ", ".join(OF_TARGET)
            raise ValueError(
                f"its calibration of {score[:100]}: {names} must all be None, or none where the method is weighted"
            )


def check_history(history: Any) -> None:
    """Refuse what are not the records of epochs 1, 2, ..., of which a best can be named; raises as `check_fields`."""
    if not isinstance(history, list) or not history:
        raise ValueError("its history does not fit: it needs a list of at least one epoch")
    for number, record in enumerate(history, 1):
        check_fields(record, EPOCH, f"history's epoch {number}")
        if record["epoch"] != number or not math.isfinite(validation_elbo(record)):
            raise ValueError(f"its history's epoch {number} does not fit")


def is_shape(value: Any) -> bool:
    """Up to three sizes of at least 1, of at most 16,777,216 features."""
    return (
        isinstance(value, list)
        and 1 <= len(value) <= 3
        and all(is_integer(side) and 1 <= side <= MAX_FEATURES for side in value)
        and math.prod(value) <= MAX_FEATURES
    )


def is_names(value: Any) -> bool:
    """None, or a list of text."""
    return value is None or (isinstance(value, list) and all(isinstance(name, str) for name in value))


def is_versions(value: Any) -> bool:
    """An object that holds text."""
    return isinstance(value, dict) and all(isinstance(version, str) for version in value.values())


def is_columns(value: Any) -> bool:
    """None, or a list of what `vae_anomaly.columns.Column` has."""
    return value is None or (isinstance(value, list) and all(map(is_column, value)) and has_columns(value))


def has_columns(columns: list[dict[str, Any]]) -> bool:
    """Whether the columns differ in name, and one is modelled."""
    names = {column["name"] for column in columns}
    return len(names) == len(columns) and len(Columns.from_json(columns)) > 0


def is_column(value: Any) -> bool:
    """The fields of a column, each of its type; a kind that there is, and what only that kind has."""
    if not isinstance(value, dict) or value.keys() != COLUMN.keys():
        return False
    if not all(fits(value[name]) for name, fits in COLUMN.items()):
        return False
    of_category, of_date = bool(value["levels"]), bool(value["cycles"] or value["form"])
    return not (
        (of_category and value["kind"] not in ("category", "constant"))
        or (value["kind"] == "category" and not of_category)
        or (of_date and value["kind"] != "date")
    )


def is_text(value: Any) -> bool:
    """Text."""
    return isinstance(value, str)


def are_levels(value: Any) -> bool:
    """Different texts, not too many."""
    return is_list(value) and all(map(is_text, value)) and len(set(value)) == len(value) <= MAX_LEVELS


def are_cycles(value: Any) -> bool:
    """Different cycles of a date."""
    return (
        is_list(value) and all(is_text(cycle) and cycle in CYCLES for cycle in value) and len(set(value)) == len(value)
    )


def is_form(value: Any) -> bool:
    """How dates are written: one of the ways that are known, or none in particular."""
    return value in ("", YEAR, *DATE_FORMS)


def is_kind(value: Any) -> bool:
    """A kind of column."""
    return is_text(value) and value in KINDS


def is_flag(value: Any) -> bool:
    """True or false."""
    return isinstance(value, bool)


COLUMN: dict[str, Callable[[Any], bool]] = {
    "name": is_text,
    "kind": is_kind,
    "levels": are_levels,
    "cycles": are_cycles,
    "marks_gaps": is_flag,
    "form": is_form,
    "why": is_text,
    "note": is_text,
}
"""The fields of `vae_anomaly.columns.Column`."""


def is_dtype(value: Any) -> bool:
    """A precision that a model computes in."""
    return value in ("float32", "float64")


def is_list(value: Any) -> bool:
    """A list of anything."""
    return isinstance(value, list)


def is_object(value: Any) -> bool:
    """An object of anything."""
    return isinstance(value, dict)


def is_fitted_on(value: Any) -> bool:
    """None, or what `vae_anomaly.fitted_rows.FittedRows` has beside its digests."""
    if value is None:
        return True
    if not isinstance(value, dict) or value.keys() != {"n_rows", "n_groups", "is_complete"}:
        return False
    counts = value["n_rows"], value["n_groups"]
    return is_flag(value["is_complete"]) and is_counts(counts[0]) and (counts[1] is None or is_counts(counts[1]))


def is_counts(value: Any) -> bool:
    """A count for each of the parts of a fit's rows."""
    return is_list(value) and len(value) == 3 and all(is_integer(count) and 0 <= count < 1 << 62 for count in value)


def is_images(value: Any) -> bool:
    """None, or what `vae_anomaly.fitted_images.FittedImages` has."""
    if value is None:
        return True
    return (
        isinstance(value, dict) and value.keys() == IMAGES.keys() and all(IMAGES[name](value[name]) for name in value)
    )


def is_size(value: Any) -> bool:
    """None, or height and width."""
    return value is None or (is_shape(value) and len(value) == 2)


def is_number(value: Any) -> bool:
    """A finite number."""
    return NUMBER.allows(value)


def are_histograms(value: Any) -> bool:
    """Histograms of as many shares each."""
    return (
        is_list(value)
        and 0 < len(value) <= MAX_FEATURES
        and all(is_list(one) and len(one) == BINS and all(map(SHARE.allows, one)) for one in value)
    )


def is_number_type(value: Any) -> bool:
    """The name of a type of numbers."""
    return value in NUMBER_TYPES


IMAGES: dict[str, Callable[[Any], bool]] = {
    "dtype": is_number_type,
    "low": is_number,
    "high": is_number,
    "usual_high": is_number,
    "levels": are_histograms,
    "spread": SHARE.allows,
    "resize": is_size,
    "crop": is_size,
}
"""The fields of `vae_anomaly.fitted_images.FittedImages`."""


CONFIG: dict[str, Callable[[Any], bool]] = {
    "parameters": is_object,
    "sample_shape": is_shape,
    "feature_names": is_names,
    "columns": is_columns,
    "dtype": is_dtype,
    "calibrations": is_object,
    "history": is_list,
    "metadata": is_object,
    "fitted_on": is_fitted_on,
    "images": is_images,
    "versions": is_versions,
}


def check_stored_parameters(stored: dict[str, Any]) -> None:
    """Refuse parameters that no detector has, and what JSON can hold but a fit cannot write.

    Raises
    ------
    ValueError
        Naming the first parameter at fault.
    """
    parameters_in(stored, stored.get("device", "auto"))
    seed, image_shape = stored.get("random_state"), stored.get("image_shape")
    if seed is not None and not (is_integer(seed) and 0 <= seed < MAX_SEED):
        raise ValueError(f"its random_state does not fit: {seed!r}")
    if image_shape is not None and not is_shape(image_shape):
        raise ValueError("its image_shape does not fit")


def check_config(config: dict[str, Any]) -> None:
    """Refuse a configuration that no detector wrote.

    Raises
    ------
    ValueError
        Naming the first field at fault.
    """
    config = {"columns": None, "fitted_on": None, "images": None} | config  # which older files lack
    if config.keys() != CONFIG.keys():
        odd = sorted(config.keys() ^ CONFIG.keys())
        raise ValueError(f"its fields {', '.join(odd)[:100]} are missing or unknown")
    for name, fits in CONFIG.items():
        if not fits(config[name]):
            raise ValueError(f"its {name} does not fit")
    check_stored_parameters(config["parameters"])
    check_calibrations(config["calibrations"])
    check_history(config["history"])
    names, score = config["feature_names"], config["parameters"].get("score")
    if config["columns"] is not None and [len(Columns.from_json(config["columns"]))] != config["sample_shape"]:
        raise ValueError("its columns do not fit its sample_shape")
    if names is not None and len(names) != math.prod(config["sample_shape"]):
        raise ValueError(f"its feature_names do not fit: there are {len(names)}")
    if not isinstance(score, str) or score not in config["calibrations"]:
        raise ValueError("its score has no calibration")


def read_checked(path: Path) -> Description:
    """What a model file says about itself, checked against its hash and field by field; no tensor is loaded.

    Raises
    ------
    ModelFileError
        If it is not a model file, is damaged or no detector wrote it.
    OSError
        If it cannot be read.
    """
    description = read_config(path)
    try:
        check_config(description.config)
    except ValueError as error:
        raise ModelFileError(f"{path} does not describe a model that this version can build: {error}") from error
    return description


def read_description(path: Path) -> dict[str, Any]:
    """The configuration in `read_checked`."""
    return read_checked(path).config
