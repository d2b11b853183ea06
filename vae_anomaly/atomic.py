"""Files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def atomic_write(path: Path, mode: str = "wb", **options: Any) -> Iterator[IO[Any]]:
    """Open a file beside ``path``; move it there once the block ends well, remove it otherwise.

    Raises
    ------
    OSError
        If the folder cannot be written to, or the disk is full: what stood at ``path`` is then untouched.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the name of a file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {path.parent}")
    # named before it exists: an interruption at any moment finds what to remove
    part = path.parent / f".{path.name}.{secrets.token_hex(4)}.part"
    try:
        with part.open(mode.replace("w", "x"), **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(part):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A new folder beside ``path``; moved there once the block ends well, removed otherwise.

    What stood at ``path`` goes only after the new folder is complete; there is a moment in which neither is there.

    Raises
    ------
    OSError
        If the folder cannot be written: what stood at ``path`` is then untouched.
    """
    path = Path(os.path.abspath(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {path.parent}")
    part = path.parent / f".{path.name}.{secrets.token_hex(4)}.part"
    old = part.with_suffix(".old")
    try:
        try:
            part.mkdir()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        yield part
        if path.exists():
            path.replace(old)
        try:
            part.replace(path)
        except OSError:
            if old.exists():
                old.replace(path)
            raise
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
