"""``vae-anomaly drift``, against a model and a score file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from helpers import run
from vae_anomaly import VAEDetector

pytestmark = pytest.mark.usefixtures("own_folder")


def test_drift_against_a_model_and_a_score_file(table_model: Path, make_table) -> None:
    rows = make_table(300)
    rng = np.random.default_rng(1)
    np.save("same.npy", rows.mean(axis=0) + (rng.normal(size=(300, 300)) @ (rows - rows.mean(axis=0))) / 300**0.5)
    np.save("moved.npy", 2 * make_table(300, seed=3))
    for name in ("same", "moved"):
        assert run("score", f"{name}.npy", "--model", table_model, "--output", f"{name}.csv").exit_code == 0
    quiet = run("drift", table_model, "same.csv", "--fail-on-drift")
    assert quiet.exit_code == 0
    assert "no alarm" in quiet.stdout
    moved = run("drift", "same.csv", "moved.csv", "--fail-on-drift")
    assert moved.exit_code == 3
    assert "ALARM at row" in moved.stdout
    assert json.loads(run("drift", "same.csv", "moved.csv", "--json").stdout)["alarm"] is not None


def test_the_false_alarm_rate_may_be_looked_at_every_day(make_table) -> None:
    detector = VAEDetector(prior="normal", epochs=2).fit(make_table(400))
    detector.save("m.vae")
    threshold = detector.calibration_.threshold
    flagged = np.random.default_rng(3).random(2000)
    for name, rate in (("few", 0.05), ("many", 0.4)):
        np.savetxt(f"{name}.csv", threshold + np.where(flagged < rate, 1, -1), header="anomaly_score", comments="")
    few = run("drift", "m.vae", "few.csv", "--sequential").stdout
    assert f"flagged    {(flagged < 0.05).sum()} of 2,000, 5." in few
    assert "at least 95 % sure, however often you look" in few
    assert "warning" not in few
    assert "warning: since row " in run("drift", "m.vae", "many.csv", "--sequential").stdout
    found = json.loads(run("drift", "m.vae", "many.csv", "--sequential", "--json").stdout)["sequential"]
    assert found["rate"]["low"] > found["expected_at_most"] == detector.calibration_.false_alarm_high
    assert "flagged" not in run("drift", "m.vae", "few.csv").stdout
    refused = run("drift", "few.csv", "many.csv", "--sequential")
    assert refused.exit_code == 2
    assert "--sequential needs a model as REFERENCE" in refused.stderr


def test_the_verdict_is_a_sentence_and_a_changed_spread_an_alarm() -> None:
    rng = np.random.default_rng(2)
    for name, spread in (("reference", 1.0), ("same", 1.0), ("wider", 2.0)):
        np.savetxt(f"{name}.csv", spread * rng.normal(size=500), header="anomaly_score", comments="")
    same = run("drift", "reference.csv", "same.csv", "--fail-on-drift")
    assert same.exit_code == 0
    assert "martingale no alarm: no change is shown" in same.stdout
    wider = run("drift", "reference.csv", "wider.csv", "--fail-on-drift")
    assert wider.exit_code == 3
    assert "the scores have changed: without a change, as much evidence for one would come in " in wider.stdout
    assert "10^" not in wider.stdout
