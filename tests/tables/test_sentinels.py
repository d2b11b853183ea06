"""Values that look as if they stand for a gap are found, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from click.testing import CliRunner

from vae_anomaly.cli import main
from vae_anomaly.columns import Column, Columns
from vae_anomaly.storage.rows import RowsInMemory
from vae_anomaly.tables.sentinels import likely_sentinels

X = np.random.default_rng(0).normal(size=(1_000, 4))


def test_a_repeated_value_far_from_all_others_is_found() -> None:
    marked = X.copy()
    marked[:10, 0], marked[:30, 2] = -9999, 999
    assert likely_sentinels(RowsInMemory(marked)) == {0: (-9999, 0.01), 2: (999, 0.03)}


def test_long_tails_single_values_and_constants_are_none() -> None:
    others = np.stack([np.exp(2 * X[:, 0]), X[:, 1], np.round(X[:, 2]), np.full(1_000, 7.0)], axis=1)
    others[0, 1] = 1e9
    assert likely_sentinels(RowsInMemory(others)) == {}


def test_truth_values_and_whole_numbers_are_compared_as_numbers() -> None:
    assert likely_sentinels(RowsInMemory(X > 0)) == {}
    whole = np.round(100 * X).astype(np.int64)
    whole[:10, 0] = np.iinfo(np.int64).min
    assert likely_sentinels(RowsInMemory(whole)) == {0: (-(2.0**63), 0.01)}
    assert likely_sentinels(RowsInMemory((whole - whole.min(axis=0)).astype(np.uint8))) == {}


def test_a_gap_counts_as_no_value_and_a_category_has_none() -> None:
    marked = X[:, :2].copy()
    marked[:10], marked[10:20] = -9999, np.nan
    columns = Columns([Column(name="a", kind="number"), Column(name="b", kind="category", levels=("x", "y"))])
    assert likely_sentinels(RowsInMemory(marked, ("a", "b"), "X", columns)) == {0: (-9999, 0.01)}


def test_the_command_notes_them(tmp_path: Path) -> None:
    marked = pd.DataFrame(X, columns=list("abcd"))
    marked.loc[:9, "b"] = -9999
    marked.to_csv(tmp_path / "t.csv", index=False)
    arguments = ["fit", "--data", f"{tmp_path}/t.csv", "--epochs", "1", "--no-report", "--output", f"{tmp_path}/t.vae"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "note: column 'b': -9999 in 1.0% of the rows, far from all others" in result.stderr
