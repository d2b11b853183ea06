"""From options to data: which samples, which of them are normal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vae_anomaly.errors import DataError, DataUnavailableError

if TYPE_CHECKING:
    import numpy as np

    from vae_anomaly.datasets import Dataset


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


def to_frame(data: Dataset) -> Any:
    """The samples, with their column names if they have some."""
    if data.feature_names is None:
        return data.X
    import pandas as pd

    return pd.DataFrame(data.X, columns=list(data.feature_names))


def listed(names: list[str] | tuple[str, ...]) -> str:
    """Names separated by commas, the many cut short."""
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
