"""``vae-anomaly evaluate``, by its figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers import run
from vae_anomaly.cli.evaluate import describe_trust

pytestmark = pytest.mark.usefixtures("own_folder")


def test_digits_not_trained_on_score_higher(digits_model: Path) -> None:
    result = run("evaluate", "--dataset", "digits", "--model", digits_model, "--json")
    assert json.loads(result.stdout)["test"]["roc_auc"]["value"] > 0.9
    text = run("evaluate", "--dataset", "digits", "--model", digits_model).stdout
    assert "ROC-AUC 0.9" in text
    assert "false alarms" in text


def test_a_prevalence_is_shown_with_its_precision_and_cost(digits_model: Path) -> None:
    arguments = ("evaluate", "--dataset", "digits", "--model", digits_model, "--prevalence", "0.001", "--miss", "50")
    text = run(*arguments).stdout
    assert "where 0.001 of the samples are anomalies: precision" in text
    assert "at 50 for a miss and 1 for a false alarm" in text
    found = json.loads(run(*arguments, "--json").stdout)["test"]
    worth, decisions = found["at_prevalence"], found["decisions"]
    d, a = decisions["detection_rate"]["value"], decisions["false_alarm_rate"]["value"]
    assert worth["precision"]["value"] == pytest.approx(0.001 * d / (0.001 * d + 0.999 * a))
    assert worth["cost"]["value"] == pytest.approx(0.05 * (1 - d) + 0.999 * a)


@pytest.mark.parametrize(("p", "words"), [(0.06, ": like the held-out ones"), (0.027, ": warning, these normals")])
def test_the_terminal_passes_what_the_page_passes(p: float, words: str) -> None:
    check = {"distance": 0.1, "p_value": p}
    test = {"roc_auc": {"n_normal": 9}, "decisions": {"false_alarm_rate": {"value": 0.09}}, "p_value_check": check}
    lines = describe_trust(test | {"promised_false_alarms": (0.0, 0.08)})
    assert lines[0].endswith("(95 % prediction interval): warning, there are more")
    assert lines[1].endswith(f"(KS, p = {p:.2g}){words}" + (" are not like the held-out ones" if p < 0.05 else ""))


def test_evaluate_saves_everything(digits_model: Path) -> None:
    result = run("evaluate", "--dataset", "digits", "--model", digits_model, "--output", "e.json")
    assert result.exit_code == 0, result.output
    saved = json.loads(Path("e.json").read_text())["test"]
    assert saved["roc"]["y"][-1] == 1
    assert saved["p_value_check"]["p_value"] > 0
    assert f"average precision {saved['average_precision']['value']:.4f}" in result.stdout
