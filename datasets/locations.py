"""Where data lie: a path, or a URL.

A URL (``s3://``, ``gs://``, ``memory://``, ...) is read through fsspec in place: of a file, only the bytes of the rows
that are asked for. Only the protocol decides which code reads it; its content is read as that of a file on disk.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias

from vae_anomaly.errors import DataError
from vae_anomaly.storage.safe_reading import open_data, parsing

Location: TypeAlias = Path | str
"""A path, or a URL as text."""
STDIN = Path("-")


def is_url(location: object) -> bool:
    """Whether it names a protocol."""
    return isinstance(location, str) and "://" in location


def location_of(text: Location) -> Location:
    """A URL as it is, anything else as a path."""
    return text if is_url(text) else Path(text)


def filesystem(url: str) -> tuple[Any, str]:
    """The file system that fsspec has for a URL, and the URL's path in it.

    Raises
    ------
    DataError
        If fsspec or what it needs for the protocol is missing, or there is no such protocol.
    """
    try:
        import fsspec
    except ImportError:
        raise DataError(f"{url}: reading URLs needs fsspec: pip install 'vae-anomaly[ray]'") from None
    with parsing(f"{url} cannot be read"):
        files, path = fsspec.core.url_to_fs(url)
        return files, path


@contextlib.contextmanager
def opened(location: Location) -> Iterator[IO[bytes]]:
    """A file, open for reading.

    Raises
    ------
    DataError
        If there is none, or it cannot be read.
    """
    if isinstance(location, Path):
        with open_data(location) as file:
            yield file
        return
    files, path = filesystem(location)
    with parsing(f"{location} cannot be read"):
        if not files.exists(path):
            raise DataError(f"{location} does not exist")
        file = files.open(path, "rb")
    with file:
        yield file
