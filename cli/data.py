"""From options to data: which samples, which of them are normal."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vae_anomaly.cli import options
from vae_anomaly.errors import DataError, DataUnavailableError

if TYPE_CHECKING:
    import numpy as np

    from vae_anomaly.datasets import Dataset
    from vae_anomaly.detector import VAEDetector


def named_parts(name: str | None, data_dir: Path | None) -> tuple[str, Dataset, Dataset]:
    """Name, training part and test part of a named data set.

    No name means MNIST, or ``digits``, with a line on stderr, where MNIST is neither on disk nor reachable.
    """
    from vae_anomaly.datasets import load_named

    try:
        return (name or "mnist", *load_named(name or "mnist", data_dir, progress=True))
    except DataUnavailableError:
        if name is not None:
            raise
        click.echo(
            "note: MNIST is neither on disk nor reachable, so this runs on scikit-learn's built-in digits (8x8) "
            "instead; --dataset mnist says how to get it",
            err=True,
        )
        return ("digits", *load_named("digits"))


def own_data(path: Path, labels: Path | None, label_column: str | None) -> Dataset:
    """A user's data with its labels, from wherever they come."""
    from vae_anomaly.datasets import load_file, load_labels

    data = load_file(path, label_column)
    if labels is None:
        return data
    if data.labels is not None:
        raise DataError(f"{path} has labels of its own: leave out --labels")
    names = load_labels(labels)
    if len(names) != len(data):
        raise DataError(f"{labels} has {len(names)} labels, {path} has {len(data)} samples: they must match row by row")
    return replace(data, labels=names)


def is_normal(labels: np.ndarray, normal: tuple[str, ...] | None, source: str) -> np.ndarray:
    """Which samples are normal, ``(N,)`` bool: the classes named, or without names those labelled 0 of 0 and 1."""
    import numpy as np

    classes = np.unique(labels).tolist()
    if normal is None:
        if not set(classes) <= {"0", "1"}:
            raise DataError(
                f"{source} has the classes {listed(classes)}: name the normal ones, such as --normal {classes[0]} "
                "(without --normal, labels must be 0 = normal and 1 = anomaly)"
            )
        normal = ("0",)
    unknown = [name for name in normal if name not in classes]
    if unknown:
        raise DataError(f"{source} has no samples of class {listed(unknown)}; its classes are {listed(classes)}")
    return np.isin(labels, normal)


def samples_of(
    data: Path | None, dataset: str | None, data_dir: Path | None, labels: Path | None, label_column: str | None
) -> Dataset:
    """The samples of a file, or the test part of a named data set."""
    if (data is None) == (dataset is None):
        raise click.UsageError("give either DATA or --dataset")
    return named_parts(dataset, data_dir)[2] if data is None else own_data(data, labels, label_column)


def normal_classes(
    detector: VAEDetector, samples: Dataset, normal: tuple[str, ...] | None, named: bool
) -> tuple[str, ...] | None:
    """The classes that count as normal: those given, or those the model was trained on, or None: labels are 0 and 1."""
    _, trained_on = options.trained_on(detector.metadata_)
    if normal is not None or trained_on is None:
        return normal
    if not named and samples.labels is not None and set(samples.labels) <= {"0", "1"}:
        raise DataError(
            f"labels 0 and 1 could be classes (the model's normal ones are {listed(trained_on)}) or 1 = anomaly: "
            "say which are normal with --normal"
        )
    return trained_on


def fingerprint(*arrays: np.ndarray) -> str:
    """SHA-256 of arrays, with their types and shapes."""
    import numpy as np

    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data.cast("B") if array.dtype.kind != "U" else array.tobytes())
    return digest.hexdigest()


def to_frame(data: Dataset) -> Any:
    """The samples, with their column names if they have some."""
    if data.feature_names is None:
        return data.X
    import pandas as pd

    return pd.DataFrame(data.X, columns=list(data.feature_names))


def listed(names: list[str] | tuple[str, ...]) -> str:
    """Names separated by commas, the many cut short."""
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
