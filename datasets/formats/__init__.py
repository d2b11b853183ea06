"""The formats of data, one a file: a class registered in `vae_anomaly.registry.FORMATS`.

A format's facts say how it is recognised and what it can do; they are read without importing it, so that ``--help`` and
messages list what there is at no cost:

``suffixes``
    Of its files.
``folder``
    True if its data lie in a folder: one with such a suffix, or, of a format without suffixes, any folder.
``holds``
    Of a format without suffixes: the suffix of the files that make a folder its own.
``shown``
    What to call a format without suffixes, or with many.
``images``
    True if its samples are made from image files, which can be resized and cropped.
``compressed``
    True if a suffix such as .gz may follow.
``columns``
    True if it is a table, whose labels may be one of its columns.
``shardable``
    True if ranges of rows can be read by several workers, also by URL: it has an ``extent``.
``stays_on_disk``
    True if rows are read in place, without a copy.
``read_whole``
    True if it can only be read into memory as a whole.
``chunk_rows``
    How many rows to copy at a time, if few of them are large.

A new format is a module here, and one in `vae_anomaly.storage` if its files need a reader.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from vae_anomaly.datasets.locations import STDIN, Location, location_of
from vae_anomaly.datasets.reading import INFERRED, Reading
from vae_anomaly.errors import DataError
from vae_anomaly.registry import FORMATS
from vae_anomaly.storage.compression import OPENERS

if TYPE_CHECKING:
    from vae_anomaly.datasets.formats.base import Format


def suffixes(**facts: Any) -> tuple[str, ...]:
    """Suffixes of the formats that have these facts."""
    return tuple(suffix for name in FORMATS.where(**facts) for suffix in FORMATS.entry(name).facts["suffixes"])


def suffixes_help(**facts: Any) -> str:
    """The formats that have these facts, for messages and help: suffixes, then what others are called."""
    others = [shown for name in FORMATS.where(**facts) if (shown := FORMATS.entry(name).facts.get("shown"))]
    listed = [name for name in FORMATS.where(**facts) if "shown" not in FORMATS.entry(name).facts]
    short = [suffix for name in listed for suffix in FORMATS.entry(name).facts["suffixes"]]
    return " or ".join([", ".join(short), *others])


def format_of(location: Location) -> str:
    """The name of the format at a path or URL.

    Raises
    ------
    DataError
        If no format is known by such a name.
    """
    place = location_of(location)
    name_of_file = PurePosixPath(str(place).lower())
    suffix = name_of_file.suffix
    inner = PurePosixPath(name_of_file.stem).suffix if suffix in OPENERS else ""
    in_folder = isinstance(place, Path) and place.is_dir()
    for name in FORMATS:
        facts = FORMATS.entry(name).facts
        found = suffix in facts["suffixes"] or (inner in facts["suffixes"] and facts.get("compressed"))
        if found and (facts.get("folder") or not in_folder):
            return name
    if in_folder:
        others = FORMATS.where(folder=True, suffixes=())
        for name in others:
            holds = FORMATS.entry(name).facts.get("holds")
            if holds and holds_files(Path(str(place)), holds):
                return name
        for name in others:
            if "holds" not in FORMATS.entry(name).facts:
                return name
    raise DataError(f"{location}: no known kind of data: give {suffixes_help()}")


def holds_files(folder: Path, suffix: str) -> bool:
    """Whether a folder has a file with this suffix, at any depth, that is not hidden."""
    for _, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        if any(name.lower().endswith(suffix) and not name.startswith((".", "_")) for name in names):
            return True
    return False


def facts_of(location: Location) -> Mapping[str, Any]:
    """The facts of the format at a path or URL; standard input has none."""
    return {} if location == STDIN else FORMATS.entry(format_of(location)).facts


def open_format(location: Location, reading: Reading = INFERRED) -> Format:
    """The data at a path or URL, in the format that its name says.

    Raises
    ------
    DataError
        If there is no such path, or no format is known by such a name.
    """
    place = location_of(location)
    if isinstance(place, Path) and not place.exists():
        raise DataError(f"{place} does not exist")
    data: Format = FORMATS[format_of(place)](place, reading)
    return data
