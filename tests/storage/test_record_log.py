"""A log of records loses at most the line that was being written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vae_anomaly.errors import DataError
from vae_anomaly.storage.record_log import RecordLog


def test_any_altered_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = RecordLog(path, {"quick": True})
    log.append({"auc": 0.9876, "n": 12})
    whole = path.read_bytes()
    for place in range(len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DataError, match="its records are damaged|not a record file of ours|another run"):
            RecordLog(path, {"quick": True})
    path.write_bytes(whole)
    assert RecordLog(path, {"quick": True}).records == [{"auc": 0.9876, "n": 12}]


def test_the_log_forgets_a_torn_line_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = RecordLog(path, {"quick": True})
    log.append({"a": 1})
    log.append({"a": 2})
    whole = path.read_bytes()
    for cut in range(len(whole) - 1, len(whole) - len(whole.splitlines()[-1]) - 1, -1):
        path.write_bytes(whole[:cut])
        again = RecordLog(path, {"quick": True})
        assert again.records == [{"a": 1}]
        again.append({"a": 2})
        assert path.read_bytes() == whole
    path.write_bytes(whole[:5])
    assert RecordLog(path, {"quick": False}).records == []
    path.write_bytes(whole)
    with pytest.raises(DataError, match=re.escape("quick (True there, False here): give another")):
        RecordLog(path, {"quick": False})
    assert path.read_bytes() == whole
    assert RecordLog(path, {"quick": False}, fresh=True).records == []
    for damaged in (
        whole[:-3] + b"\n",
        whole.replace(b": true", b": tru"),
        whole + b"[]\n",
        whole + b"[" * 9999 + b"\n",
    ):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="--fresh starts over"):
            RecordLog(path, {"quick": True})


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize(
    "foreign", [b"my notes, one line", b"junk\n", b'{"a": 1}\n', b'{"settings": null}\n', b"[" * 9999 + b"\n"]
)
def test_a_file_of_somebody_else_is_never_emptied(tmp_path: Path, foreign: bytes, *, fresh: bool) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(foreign)
    with pytest.raises(DataError, match="not a record file of ours: give another --output"):
        RecordLog(path, {"quick": True}, fresh=fresh)
    assert path.read_bytes() == foreign
