"""Ranges of rows of data by path or URL, which several workers can read: of one file, or of all in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from vae_anomaly.datasets.dataset import Dataset
from vae_anomaly.datasets.files import at_size, check_label_column, numbered
from vae_anomaly.datasets.formats import open_format, suffixes
from vae_anomaly.datasets.formats.base import Extent
from vae_anomaly.datasets.locations import filesystem, is_url
from vae_anomaly.datasets.reading import INFERRED, ImageReading
from vae_anomaly.errors import DataError
from vae_anomaly.storage.safe_reading import parsing


def data_files(location: str) -> list[str]:
    """The files at a path or URL: itself, or all in the folder, at any depth, in order of their names.

    In a folder, names that begin with a dot or an underscore do not count, as for other readers of such folders.

    Raises
    ------
    DataError
        If there is none, or one has a format that cannot be read in ranges of rows.
    """
    if PurePosixPath(location).suffix.lower() in suffixes(folder=True):
        return [location]
    if is_url(location):
        files, root = filesystem(location)
        with parsing(f"{location} cannot be read"):
            names = files.find(root)
        inside = [name[len(root) :].lstrip("/") for name in names if name != root]
        found = {whole_data(name) for name in inside if is_visible(name)}
        joined = [f"{location.rstrip('/')}/{name}" for name in found]
        whole = bool(names) and not inside
    else:
        whole = Path(location).is_file()
        joined = [] if whole else walked(Path(location))
    joined = [location] if whole else sorted(joined)
    if not joined:
        raise DataError(f"{location}: does not exist, or holds no data")
    for name in joined:
        if PurePosixPath(name).suffix.lower() not in suffixes(shardable=True):
            known = ", ".join(suffixes(shardable=True))
            raise DataError(f"{name}: is scored on one machine only: save it as {known}")
    return joined


def is_visible(name: str) -> bool:
    """Whether no part of a file's name hides it; names inside a folder that is one array do not count."""
    parts = PurePosixPath(whole_data(name)).parts
    return not any(part.startswith((".", "_")) for part in parts)


def whole_data(name: str) -> str:
    """The folder that holds the array that a file belongs to, or the file itself."""
    parts = PurePosixPath(name).parts
    ends = [i for i, part in enumerate(parts) if PurePosixPath(part).suffix in suffixes(folder=True)]
    return str(PurePosixPath(*parts[: ends[0] + 1])) if ends else name


def walked(folder: Path) -> list[str]:
    """Files, and folders that hold one array each, in a folder, at any depth."""
    found = []
    for place, folders, names in os.walk(folder):
        arrays = [name for name in folders if PurePosixPath(name).suffix in suffixes(folder=True)]
        folders[:] = [name for name in folders if is_visible(name) and name not in arrays]
        found += [os.path.join(place, name) for name in (*names, *arrays) if is_visible(name)]
    return found


def extent(location: str) -> Extent:
    """How many rows a file has, by its header or metadata.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    return open_format(location).extent()


def stamp(location: str) -> str:
    """Text that changes whenever the data change: sizes and times, or what a server says of them."""
    return open_format(location).stamp()


def rows_at(
    location: str,
    first_row: int,
    n_rows: int,
    step: int,
    label_column: str | None,
    images: ImageReading = INFERRED.images,
) -> Iterator[Dataset]:
    """A range of ``n_rows`` rows of a file from ``first_row`` on, at most ``step`` at a time.

    A chunk's array is good until the next chunk is asked for. Images are resized and cropped as is said.

    Raises
    ------
    DataError
        If they are not there, or an array of anything but finite numbers; rows in messages count in the file.
    """
    row, last = first_row, first_row + n_rows
    check_label_column(location, label_column)
    for part in open_format(location).chunks(min(step, n_rows), first_row, label_column):
        kept = numbered(replace(part, X=part.X[: last - row], labels=None, row_names=None), row)
        row += len(kept)
        yield at_size(kept, location, images)
        if row == last:
            return
    raise DataError(f"{location}: was cut short while it was read: has {row} rows, not {last}")
