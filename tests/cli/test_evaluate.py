"""``vae-anomaly evaluate``, by its figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers import run

pytestmark = pytest.mark.usefixtures("own_folder")


def test_digits_not_trained_on_score_higher(digits_model: Path) -> None:
    result = run("evaluate", "--dataset", "digits", "--model", digits_model, "--json")
    assert json.loads(result.stdout)["test"]["roc_auc"]["value"] > 0.9
    text = run("evaluate", "--dataset", "digits", "--model", digits_model).stdout
    assert "ROC-AUC 0.9" in text
    assert "false alarms" in text


def test_evaluate_saves_everything(digits_model: Path) -> None:
    result = run("evaluate", "--dataset", "digits", "--model", digits_model, "--output", "e.json")
    assert result.exit_code == 0, result.output
    saved = json.loads(Path("e.json").read_text())["test"]
    assert saved["roc"]["y"][-1] == 1
    assert saved["p_value_check"]["p_value"] > 0
    assert f"average precision {saved['average_precision']['value']:.4f}" in result.stdout
