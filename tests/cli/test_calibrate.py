"""``vae-anomaly calibrate`` and ``review``, which go together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers import fails, run
from vae_anomaly import VAEDetector
from vae_anomaly.cli import main
from vae_anomaly.datasets import load_named

pytestmark = pytest.mark.usefixtures("own_folder")


def test_calibrate_writes_another_model(digits_model: Path, own_folder: Path) -> None:
    before = digits_model.read_bytes()
    result = run("calibrate", digits_model, "--rate", "0.2", "--output", "c.vae")
    assert result.exit_code == 0, result.output
    assert "a new normal is flagged with probability at most 0.2" in result.stdout
    assert "% of 36 held-out normals score above it" in result.stdout
    assert digits_model.read_bytes() == before
    old, new = VAEDetector.load(digits_model), VAEDetector.load("c.vae")
    assert new.offset_ > old.offset_
    assert new.metadata_ == old.metadata_
    _, test = load_named("digits")
    np.testing.assert_array_equal(new.score_samples(test.X), old.score_samples(test.X))
    assert "needs at least 99 held-out normals, there are 36" in fails(1, "calibrate", digits_model, "--rate", "0.01")
    np.save("X.npy", test.X)
    np.save("y.npy", test.labels)
    with_data = ("--data", "X.npy", "--labels", "y.npy", "--normal", "0,1,2", "--output", "d.vae", "--json")
    summary = json.loads(run("calibrate", digits_model, "--method", "cost", "--miss", "5", *with_data).stdout)
    assert (summary["n_normal"], summary["n_anomalous"]) == (172, 427)
    assert summary["detection_rate"] > 0.9
    assert summary["threshold"] == VAEDetector.load("d.vae").calibration_.threshold
    assert "method 'youden' does not take rate" in fails(
        1, "calibrate", digits_model, "--method", "youden", "--rate", "0.1", *with_data
    )


def test_options_of_calibrate_agree_with_the_library() -> None:
    import inspect

    from vae_anomaly.registry import CALIBRATION_METHODS as METHODS

    taken = {name for method in METHODS.values() for name in inspect.signature(method).parameters}
    offered = {option.name for option in main.commands["calibrate"].params}
    assert taken <= offered


def test_review_and_back_into_calibrate(digits_model: Path, own_folder: Path) -> None:
    _, test = load_named("digits")
    np.save("X.npy", test.X)
    assert run("score", "X.npy", "--model", digits_model, "--output", "scores.csv").exit_code == 0
    result = run("review", "scores.csv", "-k", 15, "--model", digits_model)
    assert result.exit_code == 0, result.output
    table = pd.read_csv("review.csv")
    scores = pd.read_csv("scores.csv")
    assert table["reason"].value_counts().to_dict() == {"anomalous": 15, "uncertain": 15}
    assert table["anomaly_score"].tolist()[:15] == scores["anomaly_score"].nlargest(15).tolist()
    assert table["row"].is_unique
    threshold = VAEDetector.load(digits_model).calibration_.threshold
    nearest = (scores["anomaly_score"] - threshold).abs().nsmallest(15).index
    assert set(table["row"][15:]) == set(nearest)
    assert table["label"].isna().all()
    table["label"] = (~np.isin(test.labels[table["row"]], ["0", "1", "2"])).astype(int)
    table.loc[3, "label"] = np.nan
    table.to_csv("review.csv", index=False)
    again = ("review", "scores.csv", "--model", digits_model)
    assert "review.csv holds 29 labels that were filled in" in fails(1, *again)
    assert pd.read_csv("review.csv").equals(table)
    calibrated = run(
        "calibrate", digits_model, "--reviewed", "review.csv", "--method", "youden", "--output", "r.vae", "--json"
    )
    assert calibrated.exit_code == 0, calibrated.output
    summary = json.loads(calibrated.stdout)
    assert summary["n_normal"] == 36
    assert "cross-validated in 10 folds" in summary["basis"]
    assert "the anomalies were chosen for review by their scores" in VAEDetector.load("r.vae").calibration_.basis
    assert summary["n_anomalous"] == (table["label"] == 1).sum()
    table.assign(label=0).to_csv("zeros.csv", index=False)
    assert "no row is labelled 1" in fails(1, "calibrate", digits_model, "--reviewed", "zeros.csv")
    table["label"] = "yes"
    table.to_csv("review.csv", index=False)
    assert "labels must be 1 (anomaly), 0 (normal) or nothing" in fails(
        1, "calibrate", digits_model, "--reviewed", "review.csv"
    )
    pd.DataFrame({"a": [1]}).to_csv("other.csv", index=False)
    assert "has no column anomaly_score" in fails(1, "review", "other.csv", "--model", digits_model)
