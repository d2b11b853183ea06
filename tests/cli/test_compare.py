"""``vae-anomaly compare``, on models and on score files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from helpers import fails, run
from vae_anomaly.datasets import load_named

QUICK = ["--epochs", "3", "--no-report"]

pytestmark = pytest.mark.usefixtures("own_folder")


def test_compare_models_and_score_files(digits_model: Path, own_folder: Path) -> None:
    fitted = run("fit", "--normal", "0,1,2", "--dataset", "digits", "--output", "b.vae", *QUICK)
    assert fitted.exit_code == 0
    a_scores = digits_model.with_suffix(".scores.csv")
    files = json.loads(run("compare", a_scores, "b.scores.csv", "--json").stdout)
    assert files["difference"]["value"] == files["a"]["value"] - files["b"]["value"] > 0
    _, test = load_named("digits")
    np.save("X.npy", test.X)
    np.save("y.npy", test.labels)
    labelled = ("--data", "X.npy", "--labels", "y.npy", "--normal", "0,1,2", "--json")
    models = json.loads(run("compare", digits_model, "b.vae", *labelled).stdout)
    assert models.pop("fitted_on")["left_out"] == 0
    assert models == files
    by_labels = run("compare", a_scores, "b.scores.csv", "--labels", "y.npy", "--normal", "0,1,2")
    assert f"difference {files['difference']['value']:+.4f}" in by_labels.stdout
    assert "two models need --data" in fails(2, "compare", digits_model, "b.vae")
    assert "two models or two score files" in fails(2, "compare", digits_model, "b.scores.csv")
