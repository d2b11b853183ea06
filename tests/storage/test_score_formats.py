"""Every format of score tables: what is written comes back, to the bit, however it was cut into chunks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
import pytest

from vae_anomaly.errors import DataError
from vae_anomaly.storage import score_table
from vae_anomaly.storage.resumable_table import RESUMABLE_SUFFIXES, open_resumable_table
from vae_anomaly.storage.run_identity import RunIdentity
from vae_anomaly.storage.score_formats import TABLE_FORMATS, Columns, ScoreTable, TableFormat
from vae_anomaly.storage.score_table import open_score_table, read_score_table

TABLE = pd.DataFrame(
    {
        "index": np.arange(60),
        "anomaly_score": np.random.default_rng(0).normal(size=60) * 10.0 ** np.arange(-30, 30),
        "decision": np.arange(60) % 2,
    }
)
SUFFIXES = tuple(TABLE_FORMATS)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("n_rows", [1, 7, 60])
def test_a_table_comes_back_to_the_bit(tmp_path: Path, suffix: str, n_rows: int) -> None:
    path = tmp_path / f"scores{suffix}"
    with open_score_table(path) as write:
        for start in range(0, 60, n_rows):
            write(TABLE[start : start + n_rows])
        assert not path.exists()
    pd.testing.assert_frame_equal(read_score_table(path), TABLE, check_exact=True)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_table_that_is_cut_off_is_not_there(tmp_path: Path, suffix: str) -> None:
    with contextlib.suppress(InterruptedError), open_score_table(tmp_path / f"scores{suffix}") as write:
        write(TABLE)
        raise InterruptedError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"\0" * 99, b'{"a"'])
def test_what_is_no_table_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"scores{suffix}").write_bytes(content)
    with pytest.raises(DataError, match=f"scores{suffix}"):
        read_score_table(tmp_path / f"scores{suffix}")


@pytest.mark.parametrize("suffix", RESUMABLE_SUFFIXES)
def test_text_is_the_same_when_it_is_continued(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scores{suffix}"
    for start in (0, 20, 40):
        with contextlib.suppress(InterruptedError), open_resumable_table(path, RunIdentity({})) as table:
            assert table.n_rows == start
            table.write(TABLE[start : start + 20])
            if start < 40:
                raise InterruptedError
    pd.testing.assert_frame_equal(read_score_table(path), TABLE, check_exact=True)


def test_a_format_is_added_in_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path) -> pd.DataFrame:
        return pd.read_table(path, sep="|")

    @contextlib.contextmanager
    def write(file: IO[bytes]) -> Iterator[ScoreTable]:
        chunks: list[Columns] = []
        yield chunks.append
        pd.concat(chunks).to_csv(file, sep="|", index=False)

    monkeypatch.setitem(TABLE_FORMATS, ".bars", TableFormat(read, write))
    with open_score_table(tmp_path / "x.bars") as append:
        append(TABLE)
    pd.testing.assert_frame_equal(read_score_table(tmp_path / "x.bars"), TABLE, check_exact=True)
    with (
        pytest.raises(DataError, match="--resume goes with"),
        open_resumable_table(tmp_path / "x.bars", RunIdentity({})),
    ):
        pass


def test_messages_list_the_formats() -> None:
    assert score_table.SCORE_SUFFIXES == SUFFIXES
    assert set(RESUMABLE_SUFFIXES) < set(SUFFIXES)
