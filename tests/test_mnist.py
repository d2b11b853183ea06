"""The main job on the real MNIST."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from helpers import run
from vae_anomaly import VAEDetector
from vae_anomaly.datasets import load_named, locate

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def real_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if locate("mnist") is None:
        pytest.skip("MNIST is not on disk")
    monkeypatch.chdir(tmp_path)


def test_three_normal_digits_are_distinguished_from_the_rest() -> None:
    result = run("fit", "--normal", "0,1,2", "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["data"]["name"] == "mnist"
    assert summary["test"]["roc_auc"]["value"] >= 0.975
    assert (summary["test"]["roc_auc"]["n_normal"], summary["test"]["roc_auc"]["n_anomalous"]) == (3147, 6853)
    low, high = summary["test"]["promised_false_alarms"]
    assert low <= summary["test"]["decisions"]["false_alarm_rate"]["value"] <= high
    assert high < 0.07
    scores = pd.read_csv("model.scores.csv")
    auc = roc_auc_score(scores["anomaly"], scores["anomaly_score"])
    assert summary["test"]["roc_auc"]["value"] == pytest.approx(auc, abs=1e-12)
    _, test = load_named("mnist")
    np.save("test.npy", test.X)
    streamed = run("score", "test.npy", "--output", "again.csv")
    assert streamed.exit_code == 0
    pd.testing.assert_series_equal(pd.read_csv("again.csv")["anomaly_score"], scores["anomaly_score"], check_exact=True)


@pytest.mark.parametrize("architecture", ["mlp", "conv"])
def test_the_same_seed_gives_the_same_bits(architecture: str) -> None:
    training, _ = load_named("mnist")
    X = training.X[training.labels == "1"][:3000]
    for name in ("a.vae", "b.vae"):
        VAEDetector(epochs=2, architecture=architecture).fit(X).save(name)
    assert Path("a.vae").read_bytes() == Path("b.vae").read_bytes()
