"""Files and folders that appear complete or not at all.

Each is written beside its place under a hidden name, ``.NAME.*.part``, forced to disk, and then renamed: a reader
sees the old one or the new one, two writers never mix, and a crash leaves the old one. A writer that is killed outright
leaves its hidden file behind. Every writer locks its own for as long as it lives, so the next writer of the same name
recognises those without an owner, and removes them.

What replaces a file or a folder has its owner, group and mode (`access.keep_access`). A link stays a link: what it
leads to is replaced, and the hidden file lies there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from vae_anomaly.storage.access import keep_access

if sys.platform != "win32":
    from fcntl import LOCK_EX, LOCK_NB, flock


@contextlib.contextmanager
def atomic_write(path: Path, mode: str = "wb", *, private: bool = False, **options: Any) -> Iterator[IO[Any]]:
    """Open a file beside ``path``; move it there once the ``with`` block ends well, remove it otherwise.

    A new file is for its owner's eyes alone if it is ``private``.

    Raises
    ------
    OSError
        Naming ``path``, if it is no regular file, the folder cannot be written to, or the disk is full: what stood
        there is then untouched.
    """
    target = link_target(path)
    refuse_special(path)
    with naming(path, target), part_of(target, private=private) as part:
        with part.open(mode, **options) as file:
            yield file
            file.flush()
            keep_access(target, part)
            os.fsync(file.fileno())
        part.replace(target)
        sync(target.parent)


def check_writable(path: Path) -> None:
    """Find out whether `atomic_write` could write a file, without touching what stands there; raises as it does."""
    target = link_target(path)
    refuse_special(path)
    with naming(path, target), part_of(target) as part, part.open("wb"):
        pass


def link_target(path: Path) -> Path:
    """What a link leads to, be it there or not; any other path as it is.

    Raises
    ------
    OSError
        If the link leads back to itself.
    """
    if not path.is_symlink():
        return path
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return target


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, unless it is there; a link that leads nowhere yet leads to it."""
    link_target(path).mkdir(parents=True, exist_ok=True)


def refuse_special(path: Path) -> None:
    """Raise an `OSError` if there is something at ``path`` that no file can replace."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the name of a file")
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is a pipe or a device, not a file that could be replaced")


@contextlib.contextmanager
def atomic_folder(path: Path, check: Callable[[Path], None]) -> Iterator[Path]:
    """A new folder beside ``path``; moved there once the ``with`` block ends well, removed otherwise.

    What stood at ``path`` is removed only after the new folder is complete; for a moment neither is there.

    Parameters
    ----------
    path
        The folder.
    check
        Raises an error if ``path`` holds anything that may not be removed. It is asked before the block and again
        just before the replacement.

    Raises
    ------
    OSError
        Naming ``path``, if the folder cannot be written: what stood there is then untouched.
    """
    check(path)
    target = link_target(Path(os.path.abspath(path)))
    with naming(path, target), part_of(target, folder=True) as part:
        yield part
        for entry in (*part.rglob("*"), part):
            keep_access(target / entry.relative_to(part), entry)
            sync(entry)
        old = part.with_suffix(".old")
        check(path)
        try:
            if target.exists():
                target.replace(old)
            part.replace(target)
            sync(target.parent)
            shutil.rmtree(old, ignore_errors=True)
        except BaseException:
            if old.exists() and not target.exists():
                old.replace(target)
            shutil.rmtree(old, ignore_errors=True)
            raise


@contextlib.contextmanager
def naming(path: Path, target: Path) -> Iterator[None]:
    """Let errors about the hidden file of ``target`` name the path that was given."""
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {target.parent}")
    try:
        yield
    except OSError as error:
        own = error.filename is None or f"{os.sep}.{target.name}." in f"{os.sep}{error.filename}"
        if own and isinstance(error.errno, int):
            raise OSError(error.errno, error.strerror, str(path)) from error
        if type(error) is OSError and error.errno is None:  # NumPy's for a short write
            raise OSError(f"{path} cannot be written: {error}") from error
        raise


@contextlib.contextmanager
def part_of(path: Path, *, folder: bool = False, private: bool = False) -> Iterator[Path]:
    """An empty hidden file or folder beside ``path``, locked, and removed if it is still there at the end.

    What is to replace something is private until it has the access rights of that.
    """
    remove_stale(path)
    private = private or path.exists()
    while True:
        part = path.parent / f".{path.name}.{secrets.token_hex(4)}.part"
        with claimed(part, folder=folder, private=private) as ours:
            if ours:
                yield part
                return


@contextlib.contextmanager
def claimed(part: Path, *, folder: bool, private: bool) -> Iterator[bool]:
    """Make a file or folder and lock it; false if another writer took it for stale before the lock was there."""
    descriptor = None
    try:  # before it exists: an interruption at any moment finds what to remove
        if folder:
            part.mkdir(0o700 if private else 0o777)
        else:
            part.touch(0o600 if private else 0o666, exist_ok=False)
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(part, os.O_RDONLY)
        if descriptor is not None and sys.platform != "win32":
            with contextlib.suppress(OSError):  # some network file systems have no locks
                flock(descriptor, LOCK_EX)
        yield descriptor is not None and os.fstat(descriptor).st_nlink > 0
    finally:
        try:
            discard(part)
        except KeyboardInterrupt:  # a process handles only one
            discard(part)
            raise
        finally:
            if descriptor is not None:
                os.close(descriptor)


def remove_stale(path: Path) -> None:
    """Remove what killed writers of ``path`` left behind."""
    if sys.platform == "win32":  # without locks nothing says what is stale
        return
    for part in path.parent.iterdir():
        if not re.fullmatch(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.(part|old)", part.name):
            continue
        with contextlib.suppress(OSError):  # gone already, or its writer is alive
            descriptor = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                flock(descriptor, LOCK_EX | LOCK_NB)
                remove(part)
            finally:
                os.close(descriptor)


def discard(part: Path) -> None:
    """`remove`, as far as that goes: the folder that it was in may have gone."""
    with contextlib.suppress(OSError):
        remove(part)


def remove(part: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)


def sync(entry: Path) -> None:
    """Force a folder's entries, or a file's bytes, to disk, where the system lets them be."""
    try:
        descriptor = os.open(entry, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP):
            raise
