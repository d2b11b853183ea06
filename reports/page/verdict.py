"""What a report's numbers come to, in sentences: what was found, and whether it can be trusted."""

from __future__ import annotations

from typing import NamedTuple

from scipy.stats import binom

from vae_anomaly.evaluation.result import Decisions, Estimate
from vae_anomaly.reports.page.report import Report

FEW = 100
SURPRISING = 0.01


class Finding(NamedTuple):
    """A sentence, whether it is good news, mere news or a warning, and the glossary's terms for its numbers."""

    level: str
    text: str
    terms: tuple[str, ...] = ()


def percent(value: float) -> str:
    """A share with a decimal, or as many as a small one needs."""
    return f"{100 * value:.1f} %" if value >= 0.001 or value == 0 else f"{100 * value:.2g} %"


def shares(estimate: Estimate) -> str:
    """A share with its interval."""
    return f"{percent(estimate.value)} ({percent(estimate.low)} to {percent(estimate.high)})"


def findings(report: Report) -> list[Finding]:
    """The sentences on top of the page."""
    found = judged(report, report.evaluation.decisions) if report.evaluation is not None else []
    return [*(Finding("note", text) for text in report.notes), *(found or unjudged(report)), *trust(report)]


def judged(report: Report, decisions: Decisions | None) -> list[Finding]:
    """With labels: what is found and what it costs."""
    assert report.evaluation is not None
    auc = report.evaluation.roc_auc
    found = [
        Finding(
            "note",
            f"An anomaly scores higher than a normal sample with probability {auc.value:.4f} ({auc.low:.4f} to "
            f"{auc.high:.4f}, from {auc.n_normal:,} normal and {auc.n_anomalous:,} anomalous samples).",
            ("roc_auc",),
        )
    ]
    if decisions is None:
        return found
    found.append(
        Finding(
            "note",
            f"The threshold finds {shares(decisions.detection_rate)} of the anomalies and flags "
            f"{shares(decisions.false_alarm_rate)} of the normal samples.",
            ("detection_rate", "false_alarm_rate"),
        )
    )
    if report.promised is not None:
        low, high = report.promised
        rate = decisions.false_alarm_rate.value
        promise = f"{percent(low)} to {percent(high)} false alarms were promised for so many normals"
        if rate > high:
            found.append(
                Finding(
                    "warning",
                    f"{promise}; {percent(rate)} came: these normals differ from the held-out ones.",
                    ("promised_false_alarms",),
                )
            )
        else:
            kept = "the promise is kept" if rate >= low else "fewer came than that"
            found.append(Finding("good", f"{promise}: {kept}.", ("promised_false_alarms",)))
    return found


def unjudged(report: Report) -> list[Finding]:
    """Without labels: whether more is flagged than normals alone explain."""
    n, flagged = len(report.anomaly_score), int(report.flagged.sum())
    high = report.calibration.false_alarm_high
    found = [
        Finding(
            "note",
            f"{flagged:,} of {n:,} samples are flagged ({percent(flagged / n)}); were all of them normal, "
            f"{percent(report.calibration.false_alarm_rate)} would be expected (at most {percent(high)}).",
            ("flagged", "expected_false_alarms"),
        )
    ]
    if binom.sf(flagged - 1, n, high) < SURPRISING:
        found.append(
            Finding(
                "warning",
                "More are flagged than false alarms explain: there are anomalies among them, or all of the data "
                "differs from what the model was trained on.",
            )
        )
    return found


def trust(report: Report) -> list[Finding]:
    """What speaks for or against believing the rest."""
    found = []
    check = None if report.evaluation is None else report.evaluation.p_value_check
    if check is not None:
        like = f"(Kolmogorov-Smirnov distance {check.distance:.3f}, p = {check.p_value:.2g})"
        found.append(
            Finding("good", f"The normals here score like the held-out ones {like}.", ("p_value_check",))
            if check.p_value >= SURPRISING
            else Finding(
                "warning",
                f"The normals here score unlike the held-out ones {like}: p-values are off.",
                ("p_value_check",),
            )
        )
    n = report.calibration.n_normal
    if n < FEW:
        found.append(
            Finding(
                "warning", f"The threshold rests on only {n} held-out normals: others would move it.", ("held_out",)
            )
        )
    if report.calibration.note:
        found.append(Finding("warning", report.calibration.note))
    return found
