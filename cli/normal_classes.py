"""Which classes of labelled samples are normal: those that are named, or those that labels say by themselves."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from vae_anomaly.cli.options import training_data_of
from vae_anomaly.cli.text import comma_separated
from vae_anomaly.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from vae_anomaly.cli.data import DataOptions, Samples
    from vae_anomaly.datasets import Dataset

TRUTH_VALUES = (("False", "True"), ("false", "true"), ("FALSE", "TRUE"))
NORMAL_NAMES = ("normal", "good", "no", "ok", "benign", "healthy", "inlier", "negative", "false", "0", "n", "f")
ANOMALY_NAMES = {"anomaly", "anomalous", "abnormal", "outlier", "bad", "yes", "y", "fraud", "attack", "malignant"}
ANOMALY_NAMES |= {"positive", "true", "t", "defect", "defective", "faulty", "-1"}


def is_normal(labels: np.ndarray, normal: tuple[str, ...] | None, source: str) -> np.ndarray:
    """Which samples are normal, ``(N,)`` bool: those of the classes in ``normal`` (None: `usual_normal`)."""
    import numpy as np

    found, counts = np.unique(labels, return_counts=True)
    classes = found.tolist()
    if normal is None:
        normal = (usual_normal(dict(zip(classes, counts.tolist(), strict=True)), source),)
        return np.asarray(labels == normal[0])
    unknown = [name for name in normal if name not in classes]
    if unknown:
        raise DataError(
            f"{source} has no samples of class {comma_separated(unknown)}; its classes are {comma_separated(classes)}"
        )
    return np.isin(labels, normal)


def usual_normal(counts: dict[str, int], source: str) -> str:
    """The normal class where none is named: 0 of 0 and 1, 1 of 1 and -1, False of False and True.

    Raises
    ------
    DataError
        If the classes are others, or all are 1; with their counts, and the option that may be meant.
    """
    classes = set(counts)
    if classes == {"1"}:
        raise DataError(
            f"{source}: all labels are 1, which is an anomaly beside 0 and a normal beside -1: say --normal 1 if all "
            "samples are normal"
        )
    for normal, anomalous in (("0", "1"), ("1", "-1"), *TRUTH_VALUES):
        if classes <= {normal, anomalous}:
            return normal
    named = [f"{name} ({n:,})" for name, n in sorted(counts.items(), key=lambda item: -item[1])]
    likely = likely_normal(counts)
    how = "with --normal" if likely is None else f"such as --normal {shlex.quote(quoted(likely))}"
    raise DataError(
        f"{source} has the classes {comma_separated(named)}: name the normal ones, {how} (without --normal, labels "
        "must be 0 = normal and 1 = anomaly, or 1 = normal and -1 = anomaly)"
    )


def likely_normal(counts: dict[str, int]) -> str | None:
    """The class that is normal by its name, or else the only one that is not named as an anomaly; None: who knows."""
    by_count = sorted(counts, key=lambda name: -counts[name])
    for usual in NORMAL_NAMES:
        for name in by_count:
            if name.lower() == usual:
                return name
    others = [name for name in by_count if name.lower() not in ANOMALY_NAMES]
    return others[0] if len(others) == 1 and len(by_count) > 1 else None


def quoted(name: str) -> str:
    """A name as --normal takes it."""
    return name if "," not in name and '"' not in name else '"' + name.replace('"', '""') + '"'


def normal_classes(given: DataOptions, samples: Dataset | Samples, metadata: dict[str, Any]) -> tuple[str, ...] | None:
    """The normal classes: those given, or those in the metadata of a model; None if labels are 0 and 1."""
    _, trained_on = training_data_of(metadata)
    if given.normal is not None or trained_on is None:
        return given.normal
    if given.dataset is None and samples.labels is not None and set(samples.labels) <= {"0", "1"}:
        raise DataError(
            f"labels 0 and 1 could be classes (the model's normal ones are {comma_separated(trained_on)}) or "
            "1 = anomaly: say which are normal with --normal"
        )
    return trained_on
