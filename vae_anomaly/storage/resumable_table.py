"""Score tables that survive being killed: rows on disk as they come, and how many of them count.

While ``scores.csv`` is being written there are ``scores.csv.partial``, its rows so far, and, in
``scores.csv.partial.json``, how many rows and bytes of it count, the digest of both and the identity of the run that
writes it. A chunk is on disk before the second file counts it; what a kill left beyond that is cut off on
resuming, and bytes that count but are not as they were written are refused. The table itself appears once it is whole,
and the other two are removed. If ``scores.csv`` is a link, they lie beside what it leads to.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from vae_anomaly.errors import DataError
from vae_anomaly.storage.access import keep_access
from vae_anomaly.storage.atomic import atomic_write, link_target, sync
from vae_anomaly.storage.locks import try_lock
from vae_anomaly.storage.run_identity import RunIdentity
from vae_anomaly.storage.safe_reading import read_data
from vae_anomaly.storage.score_formats import TABLE_FORMATS, Columns
from vae_anomaly.storage.strict_json import loads

CHUNK_BYTES = 1 << 20
RESUMABLE_SUFFIXES = tuple(suffix for suffix, known in TABLE_FORMATS.items() if known.to_text is not None)


class ResumableTable:
    """A table to append to.

    Attributes
    ----------
    n_rows, n_flagged : int
        Rows on disk, and how many of them have decision 1.
    """

    def __init__(self, file: IO[bytes], path: Path, identity: RunIdentity, *, fresh: bool) -> None:
        self.file = file
        self.path = path
        self.progress = companions(path)[1]
        self.identity = identity
        self.n_rows = self.n_flagged = n_bytes = 0
        self.sha = hashlib.sha256()
        if self.progress.exists() and not fresh:
            self.n_rows, self.n_flagged, n_bytes = self.recorded()
        file.truncate(n_bytes)
        file.seek(n_bytes)
        self.record()

    def recorded(self) -> tuple[int, int, int]:
        """Rows, flagged rows and bytes that count, if the same run wrote them."""
        advice = f"remove {companions(self.path)[0]} to start over"
        try:
            known = loads(read_data(self.progress, 1 << 20))
            n_rows, n_flagged, n_bytes = (int(known[name]) for name in ("rows", "flagged", "bytes"))
            written, sha256 = dict(known["identity"]), known["sha256"]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{self.progress}: not the progress of a score table, or damaged: {advice}") from error
        self.identity.check(written, self.path, advice, DataError)
        if not 0 <= n_bytes <= os.fstat(self.file.fileno()).st_size or not 0 <= n_flagged <= n_rows:
            raise DataError(f"{self.progress} does not fit what is there of {self.path}: {advice}")
        while chunk := self.file.read(min(CHUNK_BYTES, n_bytes - self.file.tell())):
            self.sha.update(chunk)
        if self.digest(n_rows, n_flagged, n_bytes) != sha256:
            raise DataError(f"{companions(self.path)[0]} and its progress are not as they were written: {advice}")
        return n_rows, n_flagged, n_bytes

    def digest(self, *counts: int) -> str:
        """SHA-256 of the rows that count and of how many they are, in hexadecimal."""
        sha = self.sha.copy()
        sha.update(repr(counts).encode())
        return sha.hexdigest()

    def record(self) -> None:
        """Write how far the table is."""
        os.fsync(self.file.fileno())
        counts = {"rows": self.n_rows, "flagged": self.n_flagged, "bytes": self.file.tell()}
        with atomic_write(self.progress, "w", encoding="utf-8") as file:
            json.dump(counts | {"sha256": self.digest(*counts.values()), "identity": self.identity.facts}, file)

    def write(self, columns: Columns) -> None:
        """Append rows; once this returns they are on disk and count."""
        to_text = TABLE_FORMATS[self.path.suffix].to_text
        assert to_text is not None, "open_resumable_table refuses other formats"
        text = to_text(columns, first=self.n_rows == 0).encode()
        self.file.write(text)
        self.file.flush()
        self.sha.update(text)
        self.n_rows += len(columns["decision"])
        self.n_flagged += int(columns["decision"].sum())
        self.record()


@contextlib.contextmanager
def open_resumable_table(path: Path, identity: RunIdentity) -> Iterator[ResumableTable]:
    """A table that continues an earlier run's; it appears at ``path`` once the ``with`` block has ended well.

    Parameters
    ----------
    path
        A ``.csv`` or ``.jsonl`` file.
    identity
        What the rows depend on.

    Raises
    ------
    DataError
        If the suffix is another, an earlier run had another identity, another run is writing it, or something else has
        the names of its companions.
    OSError
        If a file cannot be written.
    """
    if path.suffix not in RESUMABLE_SUFFIXES:
        raise DataError(f"{path}: --resume goes with {' and '.join(RESUMABLE_SUFFIXES)}, not {path.suffix!r}")
    target = link_target(path)
    partial, progress = companions(path)
    try:
        fresh = not partial.exists()
        if progress.is_symlink() or (fresh and progress.exists() and not is_progress(progress)):
            raise DataError(f"{progress} is not the progress of a score table: move it away")
        if not progress.exists() and not fresh and partial.stat().st_size:
            raise DataError(f"{partial} is there, but not its progress, {progress.name}: remove it to start over")
        mode = 0o600 if target.exists() else 0o666
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), mode)
        with open(descriptor, "r+b") as file:
            lock(file, partial)
            yield ResumableTable(file, path, identity, fresh=fresh)
            keep_access(target, partial)
            partial.replace(target)
            progress.unlink()
            sync(target.parent)
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def is_progress(path: Path) -> bool:
    """Whether a file is the progress of a score table, which may be replaced where its rows are gone."""
    try:
        return {"rows", "bytes", "identity"} <= set(loads(read_data(path, 1 << 20)))
    except (ValueError, TypeError):
        return False


def lock(file: IO[bytes], partial: Path) -> None:
    """Keep other runs from writing the same table; the lock goes with the process."""
    alone = try_lock(file.fileno())
    # on Windows, where there are no locks, the name of an open file cannot go either
    if not alone or not partial.exists() or not os.path.samestat(partial.stat(), os.fstat(file.fileno())):
        raise DataError(f"{partial} is being written by another run")  # or was until it was opened here


def companions(path: Path) -> tuple[Path, Path]:
    """Where the rows of an unfinished table are kept, and its progress."""
    target = link_target(path)
    return target.with_name(target.name + ".partial"), target.with_name(target.name + ".partial.json")
