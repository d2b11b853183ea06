"""Records on disk as soon as they exist, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vae_anomaly.errors import DataError
from vae_anomaly.storage.run_identity import RunIdentity
from vae_anomaly.storage.safe_reading import read_data
from vae_anomaly.storage.strict_json import loads

LARGEST_LOG = 1 << 28
DIGEST = "sha256"


class RecordLog:
    """JSON lines: the settings that all records share, then one record a line, each on disk before the next is made.

    Each line holds its own digest. A last line that was cut off counts as never written.

    Parameters
    ----------
    path
        The file; made if it is not there.
    settings
        What has to be the same for records to belong together, ready for JSON.
    fresh
        Start over, even if the records are of other settings or damaged.

    Attributes
    ----------
    records : list of dict
        Those on disk.

    Raises
    ------
    DataError
        If the file holds records of other settings, or is no such file.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], *, fresh: bool = False) -> None:
        self.path = path
        self.records: list[dict[str, Any]] = []
        identity = RunIdentity(settings)
        *lines, torn = read_data(path, LARGEST_LOG).split(b"\n") if path.exists() else [b""]
        if (lines or torn) and not is_header((lines or [torn])[0]):
            raise DataError(f"{path}: not a record file of ours: give another --output, or move it away")
        if fresh or not lines:
            path.write_bytes(b"")
            self._write({"settings": identity.facts})
            return
        try:
            header, *self.records = map(checked_content, lines)
            written = dict(header["settings"])
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path}: its records are damaged: --fresh starts over") from error
        identity.check(written, path, "give another --output, or --fresh to start over", DataError)
        os.truncate(path, path.stat().st_size - len(torn))

    def append(self, record: dict[str, Any]) -> None:
        """Add a record; once this returns it is on disk."""
        self._write(record)
        self.records.append(record)

    def _write(self, content: Mapping[str, Any]) -> None:
        with self.path.open("ab") as file:
            file.write(json.dumps({**content, DIGEST: digest_of(content)}, allow_nan=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def digest_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of a record as JSON, in hexadecimal."""
    return hashlib.sha256(json.dumps(content, allow_nan=False).encode()).hexdigest()


def checked_content(line: bytes) -> dict[str, Any]:
    """The record in a line.

    Raises
    ------
    ValueError
        If it is not as it was written.
    """
    content = loads(line)
    if not isinstance(content, dict) or content.pop(DIGEST, None) != digest_of(content):
        raise ValueError("a line is not as it was written")
    return content


def is_header(line: bytes) -> bool:
    """Whether a file that begins with this line is a record file, though perhaps of a run that was killed at once."""
    start = b'{"settings": {'
    return line.startswith(start) or start.startswith(line)
