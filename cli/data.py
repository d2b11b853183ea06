"""The data that a command's options name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

from vae_anomaly.cli.divided import divided_by, dividing_columns
from vae_anomaly.datasets.reading import INFERRED, ImageReading, Reading
from vae_anomaly.errors import DataError, DataUnavailableError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from vae_anomaly.datasets import Dataset
    from vae_anomaly.detector import VAEDetector
    from vae_anomaly.fitted_model import FittedModel
    from vae_anomaly.progress import Progress
    from vae_anomaly.storage.rows import Rows

SPOOLED_ROWS = 4_096  # at a time
AS_TEXT = {"constant": "category"}  # kinds that are read as others: a constant was one text, or none


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The options that say which data a command works on, None where one was not given.

    Parameters
    ----------
    data
        A file or folder of the user's.
    dataset, data_dir
        Name of a known data set, and where to look for it first.
    labels, label_column
        Where the labels of ``data`` are, if not beside them.
    normal
        Classes that are normal.
    reading
        How a table is read, as far as it is said.
    id_columns
        Columns of a table that name its rows in every output.
    group_column, time_column
        Columns of a table by which rows are held out: those that stay together, and in which order.
    """

    data: Path | None
    dataset: str | None
    data_dir: Path | None
    labels: Path | None
    label_column: str | None
    normal: tuple[str, ...] | None
    reading: Reading = INFERRED
    id_columns: tuple[str, ...] = ()
    group_column: str | None = None
    time_column: str | None = None


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Samples as rows that a model takes, in memory or on disk, and what is known of each.

    Parameters
    ----------
    rows
        The samples; of a table its codes.
    table
        The table as it came, beside its codes; None for arrays, and for tables that are too large to keep.
    labels
        Class names ``(N,)`` of str, if any.
    row_names
        File names of the samples ``(N,)``, for a folder of images.
    row_numbers
        Each sample's number in its source, ``(N,)`` int64.
    ids
        What else names the samples: text ``(N,)`` by column.
    parts
        "train" or "test" for each sample ``(N,)``, where the data say which are which.
    masks
        For each sample the file that shows where its defect is, or None; for `vae_anomaly.datasets.load_masks`.
    normal
        The classes that are normal, where the data say it.
    groups, times
        The group of each sample, text ``(N,)``, and when it was, ``(N,)`` float64, where columns of these were named.
    """

    rows: Rows
    row_numbers: np.ndarray
    table: pd.DataFrame | None = None
    labels: np.ndarray | None = None
    row_names: tuple[str, ...] | None = None
    ids: Mapping[str, np.ndarray] = field(default_factory=dict)
    parts: np.ndarray | None = None
    masks: tuple[Path | None, ...] | None = None
    normal: tuple[str, ...] | None = None
    groups: np.ndarray | None = None
    times: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: np.ndarray) -> Self:
        """The samples with these indices, in memory."""
        from vae_anomaly.storage.rows import RowsInMemory

        rows = self.rows
        values = RowsInMemory(rows[indices], rows.feature_names, rows.source, rows.columns)
        return replace(self, rows=values, **self._known_of(indices))

    def without(self, indices: np.ndarray) -> Self:
        """All but the samples with these indices."""
        import numpy as np

        others = np.setdiff1d(np.arange(len(self)), indices)
        return replace(self, rows=self.rows.without(indices), **self._known_of(others))

    def original(self) -> np.ndarray | pd.DataFrame:
        """The samples as they came, for samples in memory; what is left of them after encoding where that is gone."""
        from vae_anomaly.tables.words import decoded

        if self.table is not None:
            return self.table
        columns, values = self.rows.columns, self.rows[:]
        if columns is not None:
            return decoded(values, columns)
        return in_columns(values, self.rows.feature_names)

    def _known_of(self, indices: np.ndarray) -> dict[str, Any]:
        labels, names, masks = self.labels, self.row_names, self.masks
        return {
            "table": None if self.table is None else self.table.iloc[indices].reset_index(drop=True),
            "labels": None if labels is None else labels[indices],
            "row_names": None if names is None else tuple(names[i] for i in indices),
            "row_numbers": self.row_numbers[indices],
            "parts": None if self.parts is None else self.parts[indices],
            "masks": None if masks is None else tuple(masks[i] for i in indices),
            "ids": {name: texts[indices] for name, texts in self.ids.items()},
            "groups": None if self.groups is None else self.groups[indices],
            "times": None if self.times is None else self.times[indices],
        }


def in_columns(values: np.ndarray, names: tuple[str, ...] | None) -> np.ndarray | pd.DataFrame:
    """Values ``(N, D)`` as a DataFrame where columns have names; otherwise as they are."""
    if names is None:
        return values
    import pandas as pd  # a third of a second, which arrays do without

    return pd.DataFrame(values, columns=list(names))


def samples_to_fit(data: Dataset, parameters: Mapping[str, Any], id_columns: tuple[str, ...] = ()) -> Samples:
    """Samples that are loaded, checked and encoded as a fit does it."""
    from vae_anomaly.fitting.samples import rows_to_fit

    return samples_of(data, rows_to_fit(data.X, parameters, data.source), id_columns)


def samples_for(model: FittedModel, data: Dataset, id_columns: tuple[str, ...] = ()) -> Samples:
    """Samples that are loaded, as rows of a model."""
    from vae_anomaly.storage.rows import RowsInMemory

    values = model.rows(data.X, data.source)
    return samples_of(data, RowsInMemory(values, model.feature_names, data.source, model.columns), id_columns)


def samples_of(data: Dataset, rows: Rows, id_columns: tuple[str, ...]) -> Samples:
    """A data set and its rows, with what names them."""
    import numpy as np

    from vae_anomaly.tables.row_names import ids_of

    return Samples(
        rows=rows,
        row_numbers=data.row_numbers,
        table=None if isinstance(data.X, np.ndarray) else data.X,
        labels=data.labels,
        row_names=data.row_names,
        parts=data.parts,
        masks=data.masks,
        normal=data.normal,
        ids=ids_of(data.X, rows.columns, id_columns, data.source),
    )


def load_named_parts(name: str | None, data_dir: Path | None) -> tuple[str, Dataset, Dataset]:
    """Name, training part and test part of a named data set.

    Without a name it is MNIST. If that is neither on disk nor reachable, it is ``digits``, and a line on stderr says
    so.
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


def reading_for(model: VAEDetector | FittedModel, reading: Reading) -> Reading:
    """How to read data for a model: its columns decide, where they have names, and of images what it was fitted on."""
    fitted: FittedModel = getattr(model, "model_", model)
    reading = replace(reading, images=images_for(fitted, reading.images))
    if fitted.feature_names is None:
        return reading
    if fitted.columns is None:
        return replace(reading, columns=dict.fromkeys(fitted.feature_names, "number"))
    kinds = fitted.columns.kinds
    return replace(reading, columns={name: AS_TEXT.get(kind, kind) for name, kind in kinds.items()})


def images_for(fitted: FittedModel, reading: ImageReading) -> ImageReading:
    """How images become samples of a model: as those that it was fitted on."""
    shape, known = fitted.image_shape, fitted.images
    if shape is None:
        return reading
    if known is not None and (known.resize or known.crop):
        reading = replace(reading, resize=known.resize, crop=known.crop)
    return replace(reading, size=(shape[0], shape[1]), channels=shape[2])


def load_own_data(path: Path, labels: Path | None, label_column: str | None, reading: Reading) -> Dataset:
    """A user's data with its labels, from the data itself or from a file of their own; of parts, the one to test."""
    import numpy as np

    from vae_anomaly.datasets import load_file

    data = load_file(path, label_column, reading)
    if data.parts is not None:
        n, data = len(data), data.take(np.asarray(data.parts == "test"))
        click.echo(f"note: {path}: the {len(data):,} samples of its part test are taken, of {n:,}", err=True)
    return replace(data, labels=labels_of(path, len(data), data.labels, labels))


def labels_of(path: Path, n: int, own: np.ndarray | None, labels: Path | None) -> np.ndarray | None:
    """Labels of the ``n`` samples in ``path``: those found there, or those in the file ``labels``, or none."""
    from vae_anomaly.datasets import load_labels

    if labels is None:
        return own
    if own is not None:
        raise DataError(f"{path} has labels of its own: leave out --labels")
    names = load_labels(labels)
    if len(names) != n:
        raise DataError(f"{labels} has {len(names)} labels, {path} has {n} samples: they must match row by row")
    return names


def load_data_to_fit(given: DataOptions, parameters: Mapping[str, Any]) -> Samples:
    """A user's data with its labels; what is too large to load stays on disk, in a file open until the command ends.

    Any format but NumPy's is copied into a temporary NumPy file as it is read, since its size is not known in advance.
    A table is kept beside its codes as long as it is small.
    """
    import numpy as np

    from vae_anomaly.cli.kept_table import KeptTable
    from vae_anomaly.datasets import STDIN, chunks, facts_of
    from vae_anomaly.datasets.files import check_label_column, known_of
    from vae_anomaly.datasets.images.arrays import check_are_images
    from vae_anomaly.fitting.samples import spooled_to_fit
    from vae_anomaly.storage.numpy_files import open_npy
    from vae_anomaly.storage.rows import LOADED_BYTES
    from vae_anomaly.storage.spool import open_rows

    path, label_column = given.data, given.label_column
    assert path is not None
    facts, images = facts_of(path), given.reading.images
    stays_on_disk = facts.get("stays_on_disk", False) and not images.changes_size
    if facts.get("read_whole") or (stays_on_disk and open_npy(path).nbytes <= LOADED_BYTES):
        data = load_own_data(path, given.labels, label_column, given.reading)
        check_are_images(data.X, images, data.source)
        named = (*given.id_columns, *dividing_columns(given)) if given.id_columns else ()
        return replace(samples_to_fit(data, parameters, named), **divided_by(data.X, given, data.source))
    parts: list[Dataset] = []
    kept = KeptTable(given)

    def batches() -> Iterator[Any]:
        with row_bar(path, "reading") as bar:
            n_rows = facts.get("chunk_rows", SPOOLED_ROWS)
            for part in chunks(path, n_rows, label_column, reading=given.reading):
                check_are_images(part.X, images, part.source)
                kept.add(part.X, part.source)
                yield part.X
                parts.append(replace(part, X=part.X[:0], row_numbers=part.row_numbers[:0]))
                bar.update(len(part))

    if stays_on_disk:
        check_label_column(path, label_column)
        divided_by(open_npy(path), given, str(path))
    source = "standard input" if path == STDIN else str(path)
    opened = open_rows(path) if stays_on_disk else spooled_to_fit(batches(), parameters, source)
    rows = click.get_current_context().with_resource(opened).loaded()
    known = known_of(parts)
    return Samples(
        rows=rows,
        row_numbers=np.arange(len(rows)),
        table=kept.table(),
        **known | {"labels": labels_of(path, len(rows), known["labels"], given.labels)},
        ids=kept.ids(rows.columns),
        **kept.divided_by(),
    )


def even_rows(n: int, most: int) -> np.ndarray:
    """Indices of at most ``most`` of ``n`` rows, spread evenly."""
    import numpy as np

    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(int))


def row_bar(path: Path, what: str, first_row: int = 0) -> Progress:
    """Progress on stderr; with the time left where the file says how many rows it has."""
    from vae_anomaly.datasets import count_rows
    from vae_anomaly.progress import progress_bar

    return progress_bar(what, count_rows(path), done=first_row)


def check_one_source(given: DataOptions) -> None:
    """Refuse options that name no data, or two."""
    if (given.data is None) == (given.dataset is None):
        raise click.UsageError("give either DATA or --dataset")


def load_samples(given: DataOptions, model: VAEDetector) -> Dataset:
    """The samples of a file for a model, or the test part of a named data set."""
    if given.data is None:
        return load_named_parts(given.dataset, given.data_dir)[2]
    return load_own_data(given.data, given.labels, given.label_column, reading_for(model, given.reading))
