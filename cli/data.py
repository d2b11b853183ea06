"""From options to data: which samples, which of them are normal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vae_anomaly.cli import options
from vae_anomaly.errors import DataError, DataUnavailableError

if TYPE_CHECKING:
    import numpy as np
    from tqdm import tqdm

    from vae_anomaly.datasets import Dataset
    from vae_anomaly.detector import VAEDetector
    from vae_anomaly.storage.rows import RowsOnDisk

SPOOLED_ROWS = 4_096  # at a time


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
    from vae_anomaly.datasets import load_file

    data = load_file(path, label_column)
    return replace(data, labels=all_labels(path, len(data), data.labels, labels))


def all_labels(path: Path, n: int, own: np.ndarray | None, labels: Path | None) -> np.ndarray | None:
    """Labels of the ``n`` samples in ``path``: their own, or those in another file, or none."""
    from vae_anomaly.datasets import load_labels

    if labels is None:
        return own
    if own is not None:
        raise DataError(f"{path} has labels of its own: leave out --labels")
    names = load_labels(labels)
    if len(names) != n:
        raise DataError(f"{labels} has {len(names)} labels, {path} has {n} samples: they must match row by row")
    return names


def data_to_fit(
    path: Path, labels: Path | None, label_column: str | None
) -> tuple[Dataset | RowsOnDisk, np.ndarray | None]:
    """A user's data and its labels; what is too large to load stays on disk, open until the command ends.

    What is no NumPy file is copied into a temporary one as it is read, since its size is not known before.
    """
    import numpy as np

    from vae_anomaly.datasets import STDIN, Dataset, chunks, facts_of
    from vae_anomaly.datasets.files import check_label_column
    from vae_anomaly.storage.numpy_files import open_npy
    from vae_anomaly.storage.rows import LOADED_BYTES
    from vae_anomaly.storage.spool import spooled, stored

    facts = facts_of(path)
    stays_on_disk = facts.get("stays_on_disk", False)
    if facts.get("read_whole") or (stays_on_disk and open_npy(path).nbytes <= LOADED_BYTES):
        data = own_data(path, labels, label_column)
        return data, data.labels
    parts: list[Dataset] = []

    def batches() -> Iterator[Any]:
        with row_bar(path, "reading") as bar:
            for part in chunks(path, facts.get("chunk_rows", SPOOLED_ROWS), label_column):
                yield part.to_frame()
                parts.append(replace(part, X=part.X[:0]))
                bar.update(len(part))

    if stays_on_disk:
        check_label_column(path, label_column)
    source = "standard input" if path == STDIN else str(path)
    rows = click.get_current_context().with_resource(stored(path) if stays_on_disk else spooled(batches(), source))
    found = [part.labels for part in parts if part.labels is not None]
    names = all_labels(path, len(rows), np.concatenate(found) if found else None, labels)
    if not rows.small:
        return rows, names
    files = tuple(name for part in parts for name in part.row_names or ())
    return Dataset(rows[:], str(path), names, rows.feature_names, files or None), names


def take(data: Dataset | RowsOnDisk, rows: np.ndarray, labels: np.ndarray | None = None) -> Dataset:
    """Samples with these indices; ``labels`` are those of all that is on disk."""
    from vae_anomaly.datasets import Dataset

    if isinstance(data, Dataset):
        return data.take(rows)
    return Dataset(data[rows], data.source, None if labels is None else labels[rows], data.feature_names)


def row_bar(path: Path, what: str, first_row: int = 0) -> tqdm[Any]:
    """A progress bar on stderr, on a terminal only; with the time left where the file says how many rows it has."""
    from tqdm import tqdm

    from vae_anomaly.datasets import count_rows

    total = count_rows(path)
    return tqdm(total=total, initial=first_row, unit=" rows", unit_scale=True, desc=what, disable=None, leave=False)


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


def listed(names: list[str] | tuple[str, ...]) -> str:
    """Names separated by commas, the many cut short."""
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
