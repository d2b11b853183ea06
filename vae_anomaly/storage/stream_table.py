"""The state of a stream of rows that are decided one after the other, and the table that they are written to.

Only the state file says what counts: what the rule knows after the rows so far, and, of the table that the present run
writes, how many rows and bytes count and their digest. While ``scores.csv`` is being written, its rows are in
``scores.csv.partial``. A chunk is on disk there before the state, replaced in one step, counts it; what a kill left
beyond that is cut off by the next run of the same command, which goes on from there. So each row is decided and counted
once, whenever the process is killed. The table appears once the state says that it is whole; if the process is
killed in between, the same command finishes that and counts nothing again. Whoever removes ``scores.csv.partial`` gives
up the run that was interrupted, and the state goes back to what it was before it.

A hidden file ``.stream.json.lock`` beside the state is locked while a run uses it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from vae_anomaly.constraints import is_integer
from vae_anomaly.errors import DataError
from vae_anomaly.storage.access import keep_access
from vae_anomaly.storage.atomic import atomic_write, check_writable, link_target, naming, sync
from vae_anomaly.storage.locks import try_lock
from vae_anomaly.storage.resumable_table import CHUNK_BYTES, RESUMABLE_SUFFIXES, companions, lock
from vae_anomaly.storage.run_identity import RunIdentity
from vae_anomaly.storage.safe_reading import read_data
from vae_anomaly.storage.score_formats import TABLE_FORMATS, Columns
from vae_anomaly.storage.strict_json import dumps, loads

FORMAT = "vae-anomaly stream 1"
LARGEST_STATE = 1 << 26


@dataclass
class Progress:
    """How far a run is that writes a table.

    Parameters
    ----------
    identity
        What the rows depend on; ``data`` is what they come from.
    output
        The table, as an absolute path.
    rows, flagged, bytes
        What counts of it.
    sha256
        Digest of these bytes, in hexadecimal.
    whole
        Whether these are all rows.
    before
        What the rule knew before the first of them.
    """

    identity: dict[str, Any]
    output: str
    rows: int = 0
    flagged: int = 0
    bytes: int = 0
    sha256: str = hashlib.sha256().hexdigest()
    whole: bool = False
    before: dict[str, Any] | None = None

    def is_valid(self) -> bool:
        """Whether a run can have written it."""
        counts = (self.flagged, self.rows, self.bytes)
        return (
            isinstance(self.identity, dict)
            and "data" in self.identity
            and isinstance(self.output, str)
            and isinstance(self.sha256, str)
            and isinstance(self.whole, bool)
            and isinstance(self.before, dict | None)
            and all(map(is_integer, counts))
            and 0 <= self.flagged <= self.rows <= self.bytes
        )


class StreamTable:
    """A table to append to, with the state that its rows lead to.

    Parameters
    ----------
    path
        The state file, which may not be there yet.
    output
        The table.
    stream
        What all rows of the stream have in common, such as the model and the rule.
    run
        What the rows of this table depend on; its ``data`` is what they come from.

    Attributes
    ----------
    rule_state : dict or None
        What the rule knows after the rows that count, as it was given to `write`; None before the first.
    progress : Progress
        Of this table.

    Raises
    ------
    DataError
        If the state is of another stream, damaged, or counts rows of a table that is not whole.
    """

    def __init__(self, path: Path, output: Path, stream: RunIdentity, run: RunIdentity) -> None:
        self.path, self.output, self.stream, self.run = path, output, stream, run
        self.rule_state: dict[str, Any] | None = None
        self.file: IO[bytes] | None = None
        begun = self.recorded() if path.exists() else None
        own = Progress(run.facts, os.path.realpath(link_target(output)))
        self.progress = own if begun is None else self.continued(begun, own)
        self.is_fresh = self.progress is own
        if self.is_fresh:
            own.before = self.rule_state

    def recorded(self) -> Progress:
        """Read the state, if the same stream has it."""
        advice = "give another --state, which starts a stream of its own"
        try:
            known = dict(loads(read_data(self.path, LARGEST_STATE)))
            sha256 = known.pop("sha256")
            if known["format"] != FORMAT or sha256 != digest_of(known):
                raise ValueError("it is not as it was written")
            stream, self.rule_state, begun = dict(known["stream"]), known["rule"], Progress(**known["run"])
            if not begun.is_valid() or not isinstance(self.rule_state, dict | None):
                raise ValueError("no run can have written it")
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{self.path}: not the state of a stream, or damaged: {advice}") from error
        self.stream.check(stream, self.path, advice, DataError)
        return begun

    def continued(self, begun: Progress, own: Progress) -> Progress:
        """What to go on with: the run that the state is of, or the next one if that is done."""
        same_data, same_output = begun.identity["data"] == own.identity["data"], begun.output == own.output
        partial = companions(Path(begun.output))[0]
        if not begun.whole and not partial.exists():
            self.rule_state = begun.before
            return own
        give_up = "" if begun.whole else f", or remove {partial} to take its rows out of the state"
        if same_output and same_data:
            if not begun.whole:
                self.run.check(begun.identity, self.path, f"go on as it began{give_up}", DataError)
            return begun
        if partial.exists():
            raise DataError(
                f"{self.path}: the run before was interrupted, and not all of its rows are in {begun.output}: run its "
                f"command again first, on the same data{give_up}"
            )
        if same_data:
            raise DataError(f"{self.path}: the rows of these data are counted already, and are in {begun.output}")
        return own

    def attach(self, file: IO[bytes]) -> None:
        """Go on in the file of the rows so far, after those that count."""
        progress, partial = self.progress, companions(self.output)[0]
        self.file, self.sha = file, hashlib.sha256()
        size = os.fstat(file.fileno()).st_size
        if self.is_fresh and size:
            raise DataError(f"{partial} is there, but {self.path} counts none of its rows: move it away")
        while chunk := file.read(min(CHUNK_BYTES, max(0, progress.bytes - file.tell()))):
            self.sha.update(chunk)
        if size < progress.bytes or self.sha.hexdigest() != progress.sha256:
            raise DataError(
                f"{partial} is not as it was written, and {self.path} counts its rows: put it back, or remove it to "
                "take them out of the state"
            )
        file.truncate(progress.bytes)
        file.seek(progress.bytes)
        if self.is_fresh:
            self.record()  # before the first row: who finds rows here knows that they are ours

    def write(self, columns: Columns, rule_state: Mapping[str, Any]) -> None:
        """Append rows, and what the rule knows after them, ready for JSON; once this returns they are counted."""
        to_text, progress = TABLE_FORMATS[self.output.suffix].to_text, self.progress
        assert to_text is not None, "open_stream_table refuses other formats"
        assert self.file is not None, "a table that is whole takes no more rows"
        text = to_text(columns, first=progress.rows == 0).encode()
        self.file.write(text)
        self.file.flush()
        os.fsync(self.file.fileno())
        self.sha.update(text)
        progress.rows += len(columns["decision"])
        progress.flagged += int(columns["decision"].sum())
        progress.bytes += len(text)
        progress.sha256 = self.sha.hexdigest()
        self.rule_state = dict(rule_state)
        self.record()

    def record(self) -> None:
        """Write the state."""
        content = {
            "format": FORMAT,
            "stream": self.stream.facts,
            "rule": self.rule_state,
            "run": asdict(self.progress),
        }
        with atomic_write(self.path, "w", encoding="utf-8") as file:
            file.write(dumps(content | {"sha256": digest_of(content)}) + "\n")


@contextlib.contextmanager
def open_stream_table(path: Path, output: Path, stream: RunIdentity, run: RunIdentity) -> Iterator[StreamTable]:
    """A table that goes on with a stream; it appears at ``output`` once the ``with`` block has ended well.

    Parameters are those of `StreamTable`. If the state says that the table is whole, `Progress.whole`, there is nothing
    to write.

    Raises
    ------
    DataError
        If the suffix is neither ``.csv`` nor ``.jsonl``, another run uses the state or writes the table, or as
        `StreamTable` raises it.
    OSError
        If a file cannot be written.
    """
    if output.suffix not in RESUMABLE_SUFFIXES:
        raise DataError(f"{output}: --state goes with {' and '.join(RESUMABLE_SUFFIXES)}, not {output.suffix!r}")
    check_writable(path)
    with one_run_with(path):
        table = StreamTable(path, output, stream, run)
        target, partial = link_target(output), companions(output)[0]
        if table.progress.whole and not partial.exists():
            yield table
            return
        mode = 0o600 if target.exists() else 0o666
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), mode)
        with open(descriptor, "r+b") as file:
            lock(file, partial)
            table.attach(file)
            try:
                yield table
            except BaseException:
                if not table.progress.rows:  # nothing to go on with
                    partial.unlink()
                raise
            table.progress.whole = True
            table.record()
            keep_access(target, partial)
            partial.replace(target)
            sync(target.parent)


@contextlib.contextmanager
def one_run_with(path: Path) -> Iterator[None]:
    """Keep other runs from a state for the block, by a lock that goes with the process."""
    target = link_target(path)
    held = lock_at(path)
    with naming(path, target):
        descriptor = os.open(held, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        alone = try_lock(descriptor)
        if not alone or not held.exists() or not os.path.samestat(held.stat(), os.fstat(descriptor)):
            raise DataError(f"{path} is being used by another run")
        try:
            yield
        finally:
            if os.fstat(descriptor).st_size == 0:  # else it is not ours
                with contextlib.suppress(OSError):
                    held.unlink()
    finally:
        os.close(descriptor)


def lock_at(path: Path) -> Path:
    """The hidden file that is locked while a run uses a state."""
    target = link_target(path)
    return target.with_name(f".{target.name}.lock")


def digest_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of the state as JSON, in hexadecimal."""
    return hashlib.sha256(dumps(content).encode()).hexdigest()
