"""Score tables, read back by what reads each kind."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae_anomaly.errors import DataError
from vae_anomaly.storage.score_formats import csv_text, json_lines_text
from vae_anomaly.storage.score_table import open_score_table

FRAMES = [
    pd.DataFrame({"index": [0, 1], "anomaly_score": [1 / 3, -2e-300], "decision": [1, 0]}),
    pd.DataFrame({"index": [2], "anomaly_score": [np.pi], "decision": [1]}),
]
WHOLE = pd.concat(FRAMES, ignore_index=True)


def read(path: Path) -> pd.DataFrame:
    if path.suffix == ".csv":
        return pd.read_csv(path)
    if path.suffix == ".jsonl":
        return pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])
    if path.suffix == ".npy":
        return pd.DataFrame(np.load(path, allow_pickle=False))
    return pd.read_parquet(path)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".npy", ".parquet"])
def test_chunks_make_one_table_with_every_bit(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scores{suffix}"
    with open_score_table(path) as write:
        for frame in FRAMES:
            write(frame)
        assert not path.exists()
    pd.testing.assert_frame_equal(read(path), WHOLE, check_exact=True)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".npy", ".parquet"])
def test_a_broken_off_table_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scores{suffix}"
    path.write_text("old")
    table = open_score_table(path)
    table.__enter__()(FRAMES[0])
    assert len(list(tmp_path.iterdir())) == 2
    assert not table.__exit__(KeyError, KeyError(), None)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@given(
    numbers=st.lists(st.floats(allow_nan=False) | st.integers(-(2**53), 2**53).map(float), min_size=1, max_size=20),
    data=st.data(),
)
def test_csv_and_json_lines_are_those_of_pandas(numbers: list[float], data: st.DataObject) -> None:
    n = len(numbers)
    text = data.draw(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=n, max_size=n))
    columns = {"index": np.arange(n), "score": np.array(numbers), "a,b": np.array(text, dtype=object)}
    frame = pd.DataFrame(columns)
    for header in (True, False):
        expected = frame.to_csv(index=False, header=header, lineterminator="\n")
        assert csv_text(columns, first=header) == csv_text(frame, first=header) == expected
    expected = "".join(json.dumps(row) + "\n" for row in frame.to_dict("records"))
    assert json_lines_text(columns) == expected


def test_a_stream_gets_csv() -> None:
    stream = io.StringIO()
    with open_score_table(stream) as write:
        for frame in FRAMES:
            write(frame)
    assert stream.getvalue().splitlines()[0] == "index,anomaly_score,decision"
    assert len(stream.getvalue().splitlines()) == 4


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"scores are written as .csv, .jsonl, .npy, .parquet, not '.xlsx'"):
        open_score_table(tmp_path / "scores.xlsx").__enter__()
