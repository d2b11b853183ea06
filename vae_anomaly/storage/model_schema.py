"""What a model file may say about itself, field by field: types and ranges, before anything is built from it.

Values of the detector's parameters are checked where they are known, in `vae_anomaly.parameters`; here they only have
to be there. Needs neither torch nor NumPy, so that ``inspect`` can trust what it prints.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vae_anomaly.errors import ModelFileError
from vae_anomaly.storage.model_file import Description, read_config

MAX_FEATURES = 1 << 24


def is_number(value: Any) -> bool:
    """A finite number, and not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_share(value: Any) -> bool:
    """A number from 0 to 1."""
    return is_number(value) and 0 <= value <= 1


def is_count(value: Any) -> bool:
    """A whole number of at least 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_text(value: Any) -> bool:
    """Text."""
    return isinstance(value, str)


def optional(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Nothing, or what ``holds`` says."""
    return lambda value: value is None or holds(value)


def is_shape(value: Any) -> bool:
    """Up to three sizes of at least 1, of at most 16,777,216 features."""
    return (
        isinstance(value, list)
        and 1 <= len(value) <= 3
        and all(is_count(side) and 1 <= side <= MAX_FEATURES for side in value)
        and math.prod(value) <= MAX_FEATURES
    )


def is_history(value: Any) -> bool:
    """A list of objects that hold finite numbers; at least one."""
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(epoch, dict) and all(map(is_number, epoch.values())) for epoch in value)
    )


def is_object_of(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """An object whose every value is such."""
    return lambda value: isinstance(value, dict) and all(map(holds, value.values()))


CALIBRATION: dict[str, Callable[[Any], bool]] = {
    "method": is_text,
    "threshold": is_number,
    "threshold_low": is_number,
    "threshold_high": is_number,
    "rate": optional(is_share),
    "delta": optional(is_share),
    "false_alarm_rate": is_share,
    "false_alarm_low": is_share,
    "false_alarm_high": is_share,
    "detection_rate": optional(is_share),
    "detection_low": optional(is_share),
    "detection_high": optional(is_share),
    "n_normal": is_count,
    "n_anomalous": is_count,
    "note": optional(is_text),
}


def is_calibration(value: Any) -> bool:
    """The fields of `vae_anomaly.calibration.methods.Calibration`, each in its range."""
    return (
        isinstance(value, dict)
        and value.keys() == CALIBRATION.keys()
        and all(holds(value[name]) for name, holds in CALIBRATION.items())
    )


def is_parameters(value: Any) -> bool:
    """Parameters by name: text, finite numbers, truth values, nothing, or a list of sizes."""
    kinds = str | int | float | bool | None
    return isinstance(value, dict) and all(
        isinstance(v, kinds) or (name == "image_shape" and is_shape(v)) for name, v in value.items()
    )


CONFIG: dict[str, Callable[[Any], bool]] = {
    "parameters": is_parameters,
    "sample_shape": is_shape,
    "feature_names": optional(lambda names: isinstance(names, list) and all(map(is_text, names))),
    "dtype": lambda dtype: dtype in ("float32", "float64"),
    "calibrations": is_object_of(is_calibration),
    "history": is_history,
    "metadata": lambda metadata: isinstance(metadata, dict),
    "versions": is_object_of(is_text),
}


def check_config(config: dict[str, Any]) -> None:
    """Refuse a configuration that no detector wrote.

    Raises
    ------
    ValueError
        Naming the first field at fault.
    """
    if config.keys() != CONFIG.keys():
        odd = sorted(config.keys() ^ CONFIG.keys())
        raise ValueError(f"its fields {', '.join(odd)[:100]} are missing or unknown")
    for name, holds in CONFIG.items():
        if not holds(config[name]):
            raise ValueError(f"its {name} does not fit")
    seed = config["parameters"].get("random_state")
    if seed is not None and not (is_count(seed) and seed < 1 << 32):
        raise ValueError(f"its random_state does not fit: {seed!r}")
    names, score = config["feature_names"], config["parameters"].get("score")
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
