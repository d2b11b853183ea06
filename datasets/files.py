"""A user's own data, by path, in any format of `vae_anomaly.datasets.formats`.

`load_file` gives all of it, `chunks` a chunk at a time in constant memory. Nothing here unpickles, and no memory is
taken because a header asks for it: the readers in `vae_anomaly.storage` state their bounds.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.datasets.dataset import Dataset
from vae_anomaly.datasets.formats import facts_of, open_format, suffixes
from vae_anomaly.datasets.formats.base import ALL_ROWS
from vae_anomaly.datasets.locations import STDIN, Location
from vae_anomaly.datasets.reading import INFERRED, ImageReading, Reading, TableNote
from vae_anomaly.datasets.standard_input import SOURCE, stdin_chunks
from vae_anomaly.errors import DataError
from vae_anomaly.storage.checks import check_samples
from vae_anomaly.storage.safe_reading import LARGEST

if TYPE_CHECKING:
    import pandas as pd


def load_file(path: Path, label_column: str | None = None, reading: Reading = INFERRED) -> Dataset:
    """All samples of a file or folder. A ``.npy`` file stays on disk, mapped into memory.

    Parameters
    ----------
    path
        The file; ``-`` is standard input, CSV or ``.npy``.
    label_column
        Column of a table that holds class names and not a feature; counted from 0 where there is no header.
    reading
        What is said of a table's file; the rest is inferred.

    Raises
    ------
    DataError
        If it is missing, malformed, of no known format, empty, an array of anything but finite numbers, or, unless
        it stays on disk, takes more than 4 GiB.
    """
    if path != STDIN:
        data = open_format(path)
        check_label_column(path, label_column)
        X = data.on_disk()
        if X is not None and not is_brought_to_size(X, path, reading.images):
            check_samples(X, str(path), gaps=True)
            return Dataset(X, str(path))
    parts: list[Dataset] = []
    n_bytes = 0
    typed = path == STDIN or facts_of(path).get("compressed")  # text, whose types are decided on all rows
    for part in chunks(path, ALL_ROWS if typed else 65_536, label_column, reading=reading):
        parts.append(replace(part, X=part.X.copy()) if isinstance(part.X, np.ndarray) else part)
        n_bytes += bytes_of(part.X)
        if n_bytes > LARGEST:
            raise DataError(f"{path}: takes more than {LARGEST:,} bytes: save it as .npy, which stays on disk")
    return Dataset(joined([part.X for part in parts]), str(path), **known_of(parts))


def known_of(parts: Sequence[Dataset]) -> dict[str, Any]:
    """What is known of the samples of chunks beside their values, as fields of one `Dataset`."""
    labels, of_parts, names, masks = (
        [getattr(part, name) for part in parts if getattr(part, name) is not None]
        for name in ("labels", "parts", "row_names", "masks")
    )
    return {
        "labels": np.concatenate(labels) if labels else None,
        "parts": np.concatenate(of_parts) if of_parts else None,
        "row_names": tuple(chain.from_iterable(names)) if names else None,
        "masks": tuple(chain.from_iterable(masks)) if masks else None,
        "normal": parts[0].normal if parts else None,
    }


def chunks(
    path: Path, n_rows: int, label_column: str | None = None, first_row: int = 0, reading: Reading = INFERRED
) -> Iterator[Dataset]:
    """The samples from ``first_row`` on in order, at most ``n_rows`` at a time; the rest as `load_file`.

    A chunk's array is good until the next chunk is asked for.
    """
    source = SOURCE if path == STDIN else str(path)
    seen = first_row
    for part in unchecked_chunks(path, n_rows, label_column, first_row, reading):
        if reading.missing_columns == "as-gaps":
            part = with_missing_columns(part, reading.columns or {}, says_so=seen == first_row)
        yield at_size(numbered(part, seen), path, reading.images)
        seen += len(part)
    if not seen:
        raise DataError(f"{source}: holds no samples")


def numbered(part: Dataset, first_row: int) -> Dataset:
    """A chunk with the numbers of its rows, the first of which is ``first_row``; an array is checked.

    What a table may hold is up to the model.
    """
    if isinstance(part.X, np.ndarray):
        check_samples(part.X, part.source, first_row, gaps=True)
    return replace(part, row_numbers=np.arange(first_row, first_row + len(part)))


def is_brought_to_size(X: object, location: Location, images: ImageReading) -> bool:
    """Whether these are images in an array that are to be resized or cropped; those of files have been."""
    is_array = isinstance(X, np.ndarray) and X.ndim in (3, 4)
    return images.changes_size and is_array and not facts_of(location).get("images")


def at_size(part: Dataset, location: Location, images: ImageReading) -> Dataset:
    """A chunk, its images resized and cropped if they come in an array; of rows and tables nothing changes."""
    if not is_brought_to_size(part.X, location, images):
        return part
    from vae_anomaly.datasets.images.arrays import images_at_size

    X = images_at_size(np.asarray(part.X), resize=images.resize, crop=images.crop, source=part.source)
    return replace(part, X=X)


def with_missing_columns(part: Dataset, kinds: Mapping[str, str], *, says_so: bool) -> Dataset:
    """A table with gaps for all columns of a model that it lacks, but identifiers; which they are is noted.

    Raises
    ------
    DataError
        If it has none of them.
    """
    if isinstance(part.X, np.ndarray):
        return part
    named = part.X.set_axis([str(name) for name in part.X.columns], axis=1)
    wanted = [name for name, kind in kinds.items() if kind != "identifier"]
    missing = [name for name in wanted if name not in named]
    if missing == wanted:
        raise DataError(
            f"{part.source}: has none of the model's columns, {', '.join(map(repr, wanted[:20]))}; its own are "
            f"{', '.join(map(repr, list(named)[:20]))}"
        )
    if missing and says_so:
        listed = ", ".join(map(repr, missing))
        warnings.warn(TableNote(f"{part.source} lacks {listed}, which count as gaps"), stacklevel=2)
    return replace(part, X=named.assign(**dict.fromkeys(missing, np.nan)))


def joined(parts: Sequence[np.ndarray | pd.DataFrame]) -> np.ndarray | pd.DataFrame:
    """Chunks of samples as one."""
    if len(parts) == 1:
        return parts[0]
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if arrays:
        return np.concatenate(arrays)
    import pandas as pd  # a third of a second, which arrays do without

    return pd.concat([part for part in parts if isinstance(part, pd.DataFrame)], ignore_index=True)


def bytes_of(X: np.ndarray | pd.DataFrame) -> int:
    """Bytes that samples take in memory."""
    return X.nbytes if isinstance(X, np.ndarray) else int(X.memory_usage(deep=True).sum())


def unchecked_chunks(
    path: Path, n_rows: int, label_column: str | None, first_row: int, reading: Reading
) -> Iterator[Dataset]:
    """The samples as they are in the file."""
    if path == STDIN:
        return stdin_chunks(sys.stdin.buffer, n_rows, label_column, reading)
    data = open_format(path, reading)
    check_label_column(path, label_column)
    return data.chunks(n_rows, first_row, label_column)


def count_rows(path: Path) -> int | None:
    """How many samples there are, if the file says so without being read."""
    return None if path == STDIN else open_format(path).count()


def check_label_column(location: Location, label_column: str | None) -> None:
    """Raise `DataError` for a label column of data that are no table with columns."""
    if label_column is not None and not facts_of(location).get("columns"):
        tables = " and ".join(suffixes(columns=True))
        raise DataError(f"{location} has no columns to take labels from: --label-column is for {tables}")
