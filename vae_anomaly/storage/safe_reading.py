"""Bytes from anywhere: opened without waiting, read within bounds, and every failure reported as one error.

A parser that meets hostile bytes may raise anything: its own errors, `MemoryError` or `RecursionError`. `parsing`
turns them all into one sentence. The size of what is read whole is bounded before reading, by the size of the file and
by `LARGEST`, never by what a header claims.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from vae_anomaly.errors import DataError, ModelFileError

LARGEST = 4 << 30
"""Bytes that one array, table or model may take once it is held in memory."""
MAX_CELLS = 1 << 24
"""Cells of a table that are held at a time."""
MAX_COLUMNS = 1 << 17
"""Columns of a table."""


@contextlib.contextmanager
def parsing(what: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into one `DataError`: ``what``, and the reason in parentheses."""
    try:
        yield
    except (DataError, ModelFileError):
        raise
    except FileNotFoundError as error:
        raise DataError(f"{error.filename} does not exist") from error
    except Exception as error:
        raise DataError(f"{what} ({reason(error)})") from error


def reason(error: Exception) -> str:
    """Why something failed, on one line and not at length."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.strip().partition("\n")[0] or type(error).__name__)[:300]


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file for reading, but nothing that could block or never end.

    Raises
    ------
    OSError
        If it cannot be opened, or is a folder, a pipe, a socket or a device.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
        raise OSError(errno.EINVAL, f"is {kind}, not a regular file", str(path))
    return open(descriptor, "rb")


def open_data(path: Path) -> io.BufferedReader:
    """`open_regular`, with a `DataError` for a file that cannot be opened."""
    with parsing(f"{path} cannot be read"):
        return open_regular(path)


def read_data(path: Path, limit: int) -> bytes:
    """A file's bytes.

    Raises
    ------
    DataError
        If it cannot be read, or is larger than ``limit`` bytes.
    """
    with open_data(path) as file, parsing(f"{path} cannot be read"):
        data = file.read(limit + 1)
    if len(data) > limit:
        raise DataError(f"{path} has more than {limit:,} bytes, the most that is read of such a file")
    return data


class SmallReads(io.BufferedReader):
    """A file that refuses to be read in large pieces, so that no parser allocates what a header claims."""

    largest = 1 << 20

    def read(self, size: int | None = -1, /) -> bytes:
        """At most a mebibyte.

        Raises
        ------
        ValueError
            If there is more of what was asked for.
        """
        data = super().read(self.largest + 1 if size is None or size < 0 else min(size, self.largest + 1))
        if len(data) > self.largest:
            raise ValueError("a directory or header above a mebibyte")
        return data


def printable(text: object) -> str:
    """Text on one line and without control characters, bidirectional overrides or halves of surrogate pairs.

    They come from file names, class names, labels and column names, and could overwrite what was printed before.
    """
    return "".join(
        c if c.isprintable() or unicodedata.category(c) == "Zs" else c.encode("unicode_escape").decode()
        for c in str(text)
    )
