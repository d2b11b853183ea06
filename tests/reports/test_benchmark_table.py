"""Tables of benchmark records: means over cases of means over seeds, and nothing that failed is averaged over."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vae_anomaly.errors import DataError
from vae_anomaly.reports import check_benchmark_folder, record_frame, summary_table, write_benchmark
from vae_anomaly.reports.benchmark_table import markdown, matrices, summary


def made_records() -> pd.DataFrame:
    """Two methods, two cases; one draws, with seeds 0 and 1; the other does not."""
    rows = [("a", "x", 0, 0.9), ("a", "x", 1, 0.7), ("a", "y", 0, 0.5), ("a", "y", 1, 0.5)]
    rows += [("b", "x", 0, 0.4), ("b", "y", 0, 0.6)]
    return record_frame(
        {"protocol": "p", "case": c, "test": "all", "method": m, "score": "own", "seed": s, "roc_auc": auc}
        | {"average_precision": auc, "fpr_at_95_tpr": 0.0, "fit_seconds": 1.0, "score_seconds": 2.0, "error": None}
        for m, c, s, auc in rows
    )


def test_the_summary_is_the_mean_over_cases_of_the_means_over_seeds() -> None:
    table = summary(made_records()).set_index("method")
    assert table.index.tolist() == ["a", "b"]
    assert table["roc_auc"].tolist() == pytest.approx([0.65, 0.5])
    assert table.loc["a", "std_over_seeds"] == pytest.approx(np.std([0.7, 0.6], ddof=1))
    assert np.isnan(table.loc["b", "std_over_seeds"])
    assert table["worst_case"].tolist() == ["y", "x"]
    (matrix,) = matrices(made_records(), "roc_auc").values()
    assert matrix.columns.tolist() == ["x", "y", "mean"]
    assert matrix.loc[("b", "own")].tolist() == pytest.approx([0.4, 0.6, 0.5])
    text = summary_table(made_records())
    assert "**0.4000** (x)" in text
    assert len({len(line) for line in text.splitlines()}) == 1


def test_a_failed_seed_leaves_no_mean(tmp_path: Path) -> None:
    records = made_records()
    records["error"] = records["error"].astype(object)
    records.loc[0, ["roc_auc", "average_precision", "fpr_at_95_tpr", "error"]] = [np.nan, np.nan, np.nan, "Bad: luck"]
    table = summary(records).set_index("method")
    assert np.isnan(table.loc["a", "roc_auc"])
    assert table.loc["a", "n_failed"] == 1
    write_benchmark(tmp_path, "made", records, {"date": "today"}, ["a note"])
    assert "- a, x, seed 0: Bad: luck" in (tmp_path / "made.md").read_text()
    content = json.loads((tmp_path / "made.json").read_text())
    assert content["date"] == "today"
    assert content["records"][0]["roc_auc"] is None
    assert len(pd.read_csv(tmp_path / "made.csv")) == len(content["records"]) == 6


@pytest.mark.parametrize("suffix", [".csv", ".json", ".md"])
def test_only_tables_of_a_benchmark_are_replaced(tmp_path: Path, suffix: str) -> None:
    write_benchmark(tmp_path, "multi", made_records(), {}, [])
    check_benchmark_folder(tmp_path, "multi")
    (tmp_path / f"multi{suffix}").write_text('{"mine": 1}')
    with pytest.raises(DataError, match=f"multi{suffix} is of no benchmark: give another --output"):
        check_benchmark_folder(tmp_path, "multi")
    check_benchmark_folder(tmp_path, "ood")


def test_what_only_some_tests_and_methods_have_is_averaged_over_those_and_leaves_no_gaps() -> None:
    """Method a has maps, b has none; the second test has no masks."""
    shared = {"average_precision": 0.5, "fpr_at_95_tpr": 0.5, "fit_seconds": 1.0, "score_seconds": 2.0, "error": None}
    records = record_frame(
        {"protocol": "p", "case": "x", "test": test, "method": method, "score": "own", "seed": seed, "roc_auc": 0.8}
        | {"roc_auc_low": 0.7 - 0.1 * seed, "roc_auc_high": 0.9, "found": 0.5, "false_alarms": 0.1, **shared}
        | {"region_overlap": 0.2 + 0.2 * seed if method == "a" and test == "masked" else None}
        for method in "ab"
        for test in ("masked", "bare")
        for seed in (0, 1)
    )
    table = summary(records).set_index("method")
    assert table["region_overlap"].tolist() == pytest.approx([0.3, np.nan], nan_ok=True)
    (overlap,) = matrices(records, "region_overlap").values()
    assert (overlap.index.tolist(), overlap.columns.tolist()) == ([("a", "own")], ["masked"])
    text = markdown("made", [], records)
    assert "| a      | 0.8000 [0.65, 0.90] | 0.8000 [0.65, 0.90] |" in text
    assert text.count("Per-region overlap (PRO), x\n") == 1
    records["region_overlap"] = np.nan
    assert matrices(records, "region_overlap") == {}


def test_a_seed_that_failed_leaves_no_mean_of_what_only_some_tests_have() -> None:
    records = made_records().assign(region_overlap=0.5)
    records["error"] = records["error"].astype(object)
    records.loc[0, ["roc_auc", "region_overlap", "error"]] = [np.nan, np.nan, "Bad: luck"]
    table = summary(records).set_index("method")["region_overlap"]
    assert np.isnan(table["a"])
    assert table["b"] == 0.5
