"""The results of a report in sentences: what was found, and whether it can be trusted."""

from __future__ import annotations

from typing import NamedTuple

from vae_anomaly.evaluation import Estimate, Evaluation
from vae_anomaly.evaluation.verdicts import breaks_promise, is_surprising, more_than_false_alarms
from vae_anomaly.reports.page.report import Report

FEW = 100  # held-out normals, below which the threshold is uncertain


class Finding(NamedTuple):
    """A sentence, its level ("good", "note" or "warning"), and the glossary's terms for its numbers."""

    level: str
    text: str
    terms: tuple[str, ...] = ()


def percent(value: float) -> str:
    """A share in percent: with one decimal, small ones with two digits."""
    return f"{100 * value:.1f} %" if value >= 0.001 or value == 0 else f"{100 * value:.2g} %"


def shares(estimate: Estimate) -> str:
    """A share with its interval."""
    return f"{percent(estimate.value)} ({percent(estimate.low)} to {percent(estimate.high)})"


def findings(report: Report) -> list[Finding]:
    """The sentences on top of the page."""
    notes = [Finding("note", text) for text in report.notes]
    found = flagged(report) if report.evaluation is None else quality(report.evaluation, report.promised)
    return [*notes, *found, *reliability(report)]


def quality(evaluation: Evaluation, promised: tuple[float, float] | None) -> list[Finding]:
    """With labels: how well scores rank, what the threshold finds and what it costs."""
    auc, decisions = evaluation.roc_auc, evaluation.decisions
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
    if promised is not None:
        found.append(promise(promised, decisions.false_alarm_rate.value))
    return found


def promise(promised: tuple[float, float], rate: float) -> Finding:
    """Whether the share of false alarms is in the promised range."""
    low, high = promised
    terms = ("promised_false_alarms",)
    text = f"{percent(low)} to {percent(high)} false alarms were promised for this many normals"
    if breaks_promise(promised, rate):
        but = f"there are {percent(rate)}, so these normals differ from the held-out ones"
        return Finding("warning", f"{text}, but {but}.", terms)
    return Finding("good", f"{text}: {'the promise is kept' if rate >= low else 'there are fewer'}.", terms)


def flagged(report: Report) -> list[Finding]:
    """Without labels: whether more is flagged than normals alone explain."""
    n, n_flagged = len(report.anomaly_score), int(report.flagged.sum())
    high = report.calibration.false_alarm_high
    found = [
        Finding(
            "note",
            f"{n_flagged:,} of {n:,} samples are flagged ({percent(n_flagged / n)}). If all samples were normal, "
            f"{percent(report.calibration.false_alarm_rate)} would be expected (at most {percent(high)}).",
            ("flagged", "expected_false_alarms"),
        )
    ]
    if more_than_false_alarms(n_flagged, n, high):
        found.append(
            Finding(
                "warning",
                "More samples are flagged than false alarms explain: some are anomalies, or all of the data differs "
                "from what the model was trained on.",
            )
        )
    return found


def reliability(report: Report) -> list[Finding]:
    """Whether p-values and the threshold can be relied on."""
    found = []
    check = None if report.evaluation is None else report.evaluation.p_value_check
    if check is not None:
        like = f"(Kolmogorov-Smirnov distance {check.distance:.3f}, p = {check.p_value:.2g})"
        found.append(
            Finding(
                "warning",
                f"The normals here score differently from the held-out ones {like}, so p-values are off.",
                ("p_value_check",),
            )
            if is_surprising(check.p_value)
            else Finding("good", f"The normals here score like the held-out ones {like}.", ("p_value_check",))
        )
    n = report.calibration.n_counted
    if n < FEW:
        found.append(
            Finding(
                "warning",
                f"The threshold was computed from only {n} held-out normals and is uncertain.",
                ("held_out",),
            )
        )
    if report.calibration.note:
        found.append(Finding("warning", report.calibration.note))
    return found
