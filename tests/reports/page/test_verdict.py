"""The sentences on top of a report: good news, notes and warnings, as the numbers demand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vae_anomaly.calibration.methods import calibrate
from vae_anomaly.evaluation import Estimate, Evaluation, PValueCheck, evaluate
from vae_anomaly.reports.page.glossary import GLOSSARY
from vae_anomaly.reports.page.verdict import Finding, findings, percent

HELD_OUT = np.arange(200.0)
CALIBRATION = calibrate("conformal", HELD_OUT, rate=0.05)


def findings_of(**fields: Any) -> list[Finding]:
    """The findings of a report that has only the fields which they need."""
    score = np.arange(100.0) + 50
    given = {"anomaly_score": score, "calibration": CALIBRATION, "evaluation": None, "promised": None, "notes": ()}
    report = SimpleNamespace(**given | fields)
    report.flagged = report.anomaly_score > report.calibration.threshold
    return findings(report)  # type: ignore[arg-type]


def evaluated(rate: float = 0.05, p_value: float = 0.5) -> Evaluation:
    labels = np.arange(100) % 2
    evaluation = evaluate(np.arange(100.0), labels, threshold=90.0, calibration_scores=HELD_OUT)
    assert evaluation.decisions is not None
    decisions = replace(evaluation.decisions, false_alarm_rate=Estimate(rate, rate / 2, 2 * rate))
    return replace(evaluation, decisions=decisions, p_value_check=PValueCheck(0.1, p_value))


def level(found: list[Finding], words: str) -> str:
    (finding,) = (finding for finding in found if words in finding.text)
    return finding.level


@pytest.mark.parametrize(
    ("rate", "expected", "words"),
    [
        (0.01, "good", "there are fewer"),
        (0.05, "good", "promise is kept"),
        (0.06, "good", "kept"),
        (0.09, "warning", "9.0 %"),
    ],
)
def test_a_promise_is_kept_or_not(rate: float, expected: str, words: str) -> None:
    found = findings_of(evaluation=evaluated(rate), promised=(0.03, 0.06))
    assert level(found, "3.0 % to 6.0 % false alarms were promised") == expected
    assert any(words in finding.text for finding in found)


@pytest.mark.parametrize(("p_value", "expected"), [(0.5, "good"), (0.051, "good"), (0.027, "warning")])
def test_normals_unlike_the_held_out_ones_are_reported(p_value: float, expected: str) -> None:
    assert level(findings_of(evaluation=evaluated(p_value=p_value)), "Kolmogorov-Smirnov") == expected


def test_detections_and_false_alarms_are_reported() -> None:
    evaluation = evaluated()
    assert evaluation.decisions is not None
    text = " ".join(finding.text for finding in findings_of(evaluation=evaluation))
    assert f"probability {evaluation.roc_auc.value:.4f}" in text
    assert f"finds {percent(evaluation.decisions.detection_rate.value)}" in text
    assert "flags 5.0 % (2.5 % to 10.0 %) of the normal samples" in text


@pytest.mark.parametrize(("n_flagged", "warned"), [(0, False), (5, False), (12, False), (20, True), (100, True)])
def test_without_labels_more_flags_than_false_alarms_warn(n_flagged: int, warned: bool) -> None:
    score = np.where(np.arange(100) < n_flagged, 1e3, 0.0)
    found = findings_of(anomaly_score=score)
    assert found[0].text.startswith(f"{n_flagged} of 100 samples are flagged")
    assert any(finding.level == "warning" and "More samples are flagged" in finding.text for finding in found) == warned


def test_an_uncertain_threshold_and_its_note_are_reported() -> None:
    assert all("held-out" not in finding.text for finding in findings_of(evaluation=evaluated())[:2])
    few = calibrate("conformal", HELD_OUT[:50], rate=0.05)
    found = findings_of(calibration=replace(few, note="its tail is heavy"), notes=("chosen at random",))
    assert found[0] == Finding("note", "chosen at random")
    assert level(found, "only 50 held-out normals") == "warning"
    assert level(found, "its tail is heavy") == "warning"


def test_every_term_is_in_the_glossary() -> None:
    found = [
        *findings_of(evaluation=evaluated(0.09, 0.001), promised=(0.03, 0.06)),
        *findings_of(),
        *findings_of(calibration=replace(CALIBRATION, n_normal=9)),
    ]
    terms = {term for finding in found for term in finding.terms}
    assert terms <= set(GLOSSARY)
    assert len(terms) >= 6


@pytest.mark.parametrize(("share", "text"), [(0, "0.0 %"), (0.0513, "5.1 %"), (0.00087, "0.087 %"), (1, "100.0 %")])
def test_small_shares_keep_two_digits(share: float, text: str) -> None:
    assert percent(share) == text
