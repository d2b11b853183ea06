"""Files that appear complete or not at all.

A file is written beside its place under a hidden name, ``.NAME.*.part``, forced to disk, and then renamed: a reader
sees the old file or the new one, two writers never mix, and a crash leaves the old one. Who is killed outright leaves
the hidden file. Each writer holds a lock on its own for as long as it lives, so the next writer of the same file can
tell those that nobody owns any more, and removes them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

if sys.platform != "win32":
    from fcntl import LOCK_EX, LOCK_NB, flock


@contextlib.contextmanager
def atomic_write(path: Path, mode: str = "wb", **options: Any) -> Iterator[IO[Any]]:
    """Open a file beside ``path``; move it there once the block ends well, remove it otherwise.

    Raises
    ------
    OSError
        Naming ``path``, if it is no regular file, the folder cannot be written to, or the disk is full: what stood
        there is then untouched.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the name of a file")
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is a pipe or a device, not a file that could be replaced")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {path.parent}")
    remove_stale(path)
    try:
        with part_of(path) as part:
            with part.open(mode, **options) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.chmod(0o666 & ~current_umask())
            part.replace(path)
            sync_folder(path.parent)
    except OSError as error:
        own = error.filename is None or Path(error.filename).name.startswith(f".{path.name}.")
        if own and isinstance(error.errno, int):
            raise OSError(error.errno, error.strerror, str(path)) from error
        if type(error) is OSError and error.errno is None:  # NumPy's for a short write
            raise OSError(f"{path} cannot be written: {error}") from error
        raise


@contextlib.contextmanager
def part_of(path: Path) -> Iterator[Path]:
    """An empty hidden file beside ``path``, locked, and removed if it is still there at the end."""
    while True:
        try:
            descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        if sys.platform != "win32":
            with contextlib.suppress(OSError):  # some network file systems have no locks
                flock(descriptor, LOCK_EX)
        if os.fstat(descriptor).st_nlink:  # otherwise removed as stale between the two calls
            break
        os.close(descriptor)
    try:
        yield Path(name)
    finally:
        with contextlib.suppress(OSError):  # such as that of a folder which has gone
            os.unlink(name)
        os.close(descriptor)


def remove_stale(path: Path) -> None:
    """Remove hidden files that killed writers of ``path`` left behind."""
    if sys.platform == "win32":  # without locks nobody can tell what is stale
        return
    for part in path.parent.iterdir():
        if not re.fullmatch(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}\.part", part.name):
            continue
        with contextlib.suppress(OSError):  # gone already, or its writer is alive
            descriptor = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                flock(descriptor, LOCK_EX | LOCK_NB)
                part.unlink()
            finally:
                os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Force a renaming to disk, where the system lets folders be."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP):
            raise


def current_umask() -> int:
    """The process's file-mode mask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
