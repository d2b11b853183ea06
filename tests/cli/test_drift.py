"""``vae-anomaly drift``, against a model and a score file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from helpers import run

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
