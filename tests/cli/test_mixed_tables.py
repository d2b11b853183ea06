"""Mixed tables through the commands: rows keep their names, and columns their values."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers import fails
from odd_rows import ODD, N, make_frame, ok
from vae_anomaly import VAEDetector
from vae_anomaly.cli import kept_table

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture
def table_csv() -> Path:
    make_frame().to_csv("t.csv", index=False)
    return Path("t.csv")


@pytest.fixture(scope="module")
def mixed_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mixed") / "mixed.vae"
    VAEDetector(epochs=40).fit(make_frame().drop(index=ODD)).save(path)
    return path


def test_fit_prints_the_kinds_and_scores_are_those_of_the_library(table_csv: Path) -> None:
    text = ok("fit", "--data", table_csv, "--epochs", 2, "--categorical", "price", "--no-report")
    assert "columns    1 number, 2 categories, 1 date\n" in text
    assert "not modelled: key (120 different texts in 120 rows)" in text
    assert "as told: price (category)" in text
    shown = ok("inspect", "model.vae")
    assert "kind: category of 2 levels: hat, shoe (2 different texts)" in shown
    assert "sold: date with the cycles of week, year" in shown
    ok("score", table_csv, "--output", "s.csv")
    scores, frame = pd.read_csv("s.csv"), pd.read_csv(table_csv)
    assert list(scores.columns[:3]) == ["row", "key", "anomaly_score"]
    assert scores["key"].tolist() == frame["key"].tolist()
    assert scores["missing"].tolist() == frame.drop(columns="key").isna().sum(axis=1).tolist()
    table = VAEDetector.load("model.vae").model_.score_table(frame.astype({"price": object}))
    np.testing.assert_array_equal(scores["anomaly_score"], table["anomaly_score"])
    assert "cannot be both a category and a number" in fails(
        2, "fit", "--data", table_csv, "--categorical", "size", "--numeric", "size"
    )


def test_rows_of_a_test_part_keep_their_numbers(table_csv: Path) -> None:
    frame = pd.read_csv(table_csv)
    frame["label"] = (frame.index % 3 == 0).astype(int)
    frame.to_csv("labelled.csv", index=False)
    ok("fit", "--data", "labelled.csv", "--label-column", "label", "--epochs", 2)
    scores = pd.read_csv("model.scores.csv")
    assert len(scores) < N
    assert not (scores["row"] == np.arange(len(scores))).all()
    assert scores["key"].tolist() == frame["key"][scores["row"]].tolist()
    assert scores["label"].tolist() == frame["label"][scores["row"]].tolist()
    odd = int(scores.loc[scores["anomaly_score"].idxmax(), "row"])
    numbers = json.loads(Path("model.report/report.json").read_text())
    assert numbers["gallery"]["most anomalous"][0] == odd
    why = json.loads(ok("explain", "model.vae", "labelled.csv", "--row", odd, "--label-column", "label", "--json"))
    assert why["ids"] == {"key": frame["key"][odd]}
    assert why["anomaly_score"] == scores["anomaly_score"].max()
    page = Path("model.report/report.html").read_text()
    assert f"Sample {odd}, class {frame['label'][odd]}, key {frame['key'][odd]}" in page
    assert '<th scope="row">kind</th><td>hat</td>' in page


def test_explain_speaks_of_levels_dates_and_gaps(mixed_model: Path, table_csv: Path) -> None:
    text = ok("explain", mixed_model, table_csv, "--row", ODD)
    assert text.startswith(f"sample     row {ODD} of t.csv, key {make_frame()['key'][ODD]}\n")
    (line,) = [line for line in text.splitlines() if line.split()[:2] == ["kind", "hat"]]
    assert "shoe (" in line
    whole = json.loads(ok("explain", mixed_model, table_csv, "--row", 0, "--json"))["features"]
    observed = dict(zip(whole["name"], whole["observed"], strict=True))
    first = make_frame().iloc[0]
    assert observed == {
        "kind": first["kind"],
        "size": pytest.approx(first["size"]),
        "sold": first["sold"].isoformat(),
        "price": None,
    }
    assert "price" in ok("explain", mixed_model, table_csv, "--row", 0)
    ok("explain", mixed_model, table_csv, "--row", ODD, "--output", "why.png")
    assert Path("why.png").read_bytes().startswith(b"\x89PNG")


def test_id_columns_are_told_and_not_modelled(table_csv: Path) -> None:
    frame = pd.read_csv(table_csv).rename(columns={"size": "kl"})
    frame.to_csv("ids.csv", index=False)
    ok("fit", "--data", "ids.csv", "--epochs", 1, "--id-column", "kl", "--no-report")
    assert "kl" not in VAEDetector.load("model.vae").feature_names_in_
    scores = pd.read_csv("s.csv") if ok("score", "ids.csv", "--output", "s.csv", "--id-column", "kl,key") else None
    assert scores is None
    scores = pd.read_csv("s.csv")
    np.testing.assert_allclose(scores["kl (in the data)"], frame["kl"])
    assert scores["key"].tolist() == frame["key"].tolist()
    assert "no column 'nobody' for --id-column" in fails(1, "score", "ids.csv", "--id-column", "nobody")


def test_a_table_too_large_to_keep_is_decoded(table_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ok("fit", "--data", table_csv, "--epochs", 1, "--id-column", "key")
    whole = Path("model.report/report.html").read_text()
    monkeypatch.setattr(kept_table, "KEPT_BYTES", 0)
    ok("fit", "--data", table_csv, "--epochs", 1, "--id-column", "key")
    decoded = Path("model.report/report.html").read_text()
    assert pd.read_csv("model.report/scores.csv")["key"].tolist() == make_frame()["key"].tolist()
    assert (
        decoded[decoded.index("<h3>Most anomalous") : decoded.index('id="table"')]
        == (whole[whole.index("<h3>Most anomalous") : whole.index('id="table"')])
    )


def test_review_holds_the_rows_own_values(mixed_model: Path, table_csv: Path) -> None:
    ok("score", table_csv, "--model", mixed_model, "--output", "s.csv")
    ok("review", "s.csv", "--model", mixed_model, "-k", 3, "--data", table_csv)
    review, frame = pd.read_csv("review.csv"), pd.read_csv(table_csv)
    assert len(review) == 6
    for name in frame.columns:
        pd.testing.assert_series_equal(
            review[name], frame[name][review["row"]].reset_index(drop=True), check_dtype=False
        )
    frame.iloc[:50].to_csv("short.csv", index=False)
    assert "short.csv has 50 rows, and row" in fails(
        1, "review", "s.csv", "--model", mixed_model, "-k", 100, "--data", "short.csv"
    )
