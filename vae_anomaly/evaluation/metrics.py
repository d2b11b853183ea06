"""How good a score is, from scores and labels alone, and how sure one can be of it.

Scores here are anomaly scores, higher is more anomalous; labels are 1 for an anomaly, 0 for a normal. Ties count half
in ROC-AUC, and as one step of a curve. Constant scores are no error: their ROC-AUC is 0.5. Intervals cover 95 %.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit, ndtri
from scipy.stats import ks_2samp, norm, rankdata

from vae_anomaly.calibration.methods import clopper_pearson
from vae_anomaly.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

CONFIDENCE = 0.95
Z = float(ndtri(0.5 + CONFIDENCE / 2))
PARTIAL_FPR = 0.1


@dataclass(frozen=True)
class RocAuc:
    """Area under the ROC curve with its confidence interval, and the counts it rests on."""

    value: float
    low: float
    high: float
    n_normal: int
    n_anomalous: int


@dataclass(frozen=True)
class Estimate:
    """A value with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Decisions:
    """What a threshold does: counts, and the shares they make with exact (Clopper-Pearson) intervals."""

    threshold: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    false_alarm_rate: Estimate
    detection_rate: Estimate
    precision: float | None


@dataclass(frozen=True)
class PValueCheck:
    """Whether the conformal p-values of the normals are uniform, as they are if new normals are like the held-out ones.

    The Kolmogorov-Smirnov distance between the scores of both, which is that of the p-values from the uniform law, and
    the probability of one so large. Testing the p-values alone would forget that they share their held-out normals.
    """

    distance: float
    p_value: float


@dataclass(frozen=True)
class Curve:
    """Points of a curve, one for each distinct score from the highest down: flag what is at least ``thresholds``."""

    x: np.ndarray
    y: np.ndarray
    thresholds: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Parameters
    ----------
    roc_auc
        All anomalies against all normals, with DeLong's interval.
    roc_auc_bootstrap
        The same with a stratified bootstrap interval.
    average_precision, average_precision_chance
        Area under the precision-recall curve as a sum of steps, and what a random score gets: the share of anomalies.
    fpr_at_95_tpr, tpr_at_1_fpr
        Smallest false-alarm rate that finds 95 % of the anomalies; largest detection rate at 1 % false alarms.
    partial_auc
        ROC-AUC for false-alarm rates up to 10 %, standardised to 0.5 for chance and 1 for the best (McClish, 1989).
    decisions
        What the threshold does, if one was given.
    per_group
        The anomalies of each group against all normals.
    p_value_check
        Whether p-values of the normals are uniform, if the scores of held-out normals were given.
    roc, precision_recall
        The curves: false-alarm rate and detection rate; recall and precision.
    """

    roc_auc: RocAuc
    roc_auc_bootstrap: Estimate
    average_precision: Estimate
    average_precision_chance: float
    fpr_at_95_tpr: float
    tpr_at_1_fpr: float
    partial_auc: float
    decisions: Decisions | None
    per_group: dict[str, RocAuc]
    p_value_check: PValueCheck | None
    roc: Curve
    precision_recall: Curve

    def to_dict(self, *, curves: bool = False) -> dict[str, Any]:
        """Plain dictionaries and numbers, ready for JSON; the curves, as lists, on request."""
        result = asdict(self)
        for name in ("roc", "precision_recall"):
            curve = result.pop(name)
            if curves:
                result[name] = {key: values.tolist() for key, values in curve.items()}
        return result

    def to_json(self, *, curves: bool = False) -> str:
        """The same as text."""
        return json.dumps(self.to_dict(curves=curves), indent=2)

    def to_frame(self) -> pd.DataFrame:
        """ROC-AUC with interval and counts, a row for all anomalies and for each group of them."""
        import pandas as pd

        rows = {"all": self.roc_auc} | self.per_group
        return pd.DataFrame([{"group": name} | asdict(auc) for name, auc in rows.items()])


@dataclass(frozen=True)
class Comparison:
    """What `compare` found: ROC-AUC of both scores, and their difference (a - b) tested on the same samples."""

    a: RocAuc
    b: RocAuc
    difference: Estimate
    difference_bootstrap: Estimate
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries and numbers, ready for JSON."""
        return asdict(self)


def split(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the anomalies and of the normals.

    Raises
    ------
    DataError
        If lengths differ, a score is NaN, a label is not 0 or 1, or one of the two is missing.
    """
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise DataError(f"scores {scores.shape} and labels {labels.shape} must be vectors of one length")
    if np.isnan(scores).any():
        raise DataError(f"{np.isnan(scores).sum()} of {len(scores)} scores are NaN")
    if not np.isin(labels, (0, 1)).all():
        raise DataError(f"labels must be 1 (anomaly) or 0 (normal), got {np.unique(labels)[:5].tolist()}")
    anomalous, normal = scores[labels == 1], scores[labels == 0]
    if not len(anomalous) or not len(normal):
        raise DataError(
            f"evaluation needs both kinds of label, got {len(normal)} normal and {len(anomalous)} anomalous"
        )
    return anomalous, normal


def placements(anomalous: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each anomaly the share of normals below it, for each normal the share of anomalies above it; ties half.

    DeLong's structural components, by ranks in O(N log N) (Sun & Xu, 2014).
    """
    m, n = len(anomalous), len(normal)
    ranks = rankdata(np.concatenate([anomalous, normal]))
    return (ranks[:m] - rankdata(anomalous)) / n, 1 - (ranks[m:] - rankdata(normal)) / m


def covariance(*parts: np.ndarray) -> np.ndarray:
    """Covariance of the means of paired vectors, ``(k, k)``; zero where there is but one observation."""
    k, n = len(parts), len(parts[0])
    return np.cov(np.stack(parts)).reshape(k, k) / n if n > 1 else np.zeros((k, k))


def roc_auc(scores: np.ndarray, labels: np.ndarray) -> RocAuc:
    """ROC-AUC with DeLong's variance, ties counted half, in O(N log N).

    The interval is symmetric on the logit scale, so that it stays inside [0, 1]. Where the variance is estimated as
    zero (perfect separation, constant scores) the interval is Newcombe's, whose variance comes from the area itself.

    Parameters
    ----------
    scores
        Anomaly scores ``(N,)``.
    labels
        1 = anomaly, 0 = normal, ``(N,)``.

    Raises
    ------
    DataError
        If lengths differ, a score is NaN, a label is not 0 or 1, or one of the two is missing.

    References
    ----------
    Comparing the areas under two or more correlated ROC curves (DeLong, DeLong & Clarke-Pearson, 1988),
    doi:10.2307/2531595
    Fast implementation of DeLong's algorithm (Sun & Xu, 2014), doi:10.1109/LSP.2014.2337313
    Confidence intervals for an effect size measure based on the Mann-Whitney statistic (Newcombe, 2006),
    doi:10.1002/sim.2324
    """
    anomalous, normal = split(scores, labels)
    above, below = placements(anomalous, normal)
    auc = float(np.clip(above.mean(), 0, 1))
    variance = float(covariance(above)[0, 0] + covariance(below)[0, 0])
    n, m = len(normal), len(anomalous)
    if variance > 0 and 0 < auc < 1:
        half = Z * math.sqrt(variance) / (auc * (1 - auc))
        low, high = expit(logit(auc) - half), expit(logit(auc) + half)
    else:
        low, high = newcombe(auc, m, n)
    return RocAuc(auc, float(low), float(high), n, m)


def newcombe(auc: float, m: int, n: int) -> tuple[float, float]:
    """Newcombe's fifth interval: all areas A with (auc - A)^2 at most z^2 times the variance at A."""
    extra = (m + n) / 2 - 1

    def excess(area: float) -> float:
        variance = area * (1 - area) / (m * n) * (1 + extra * ((1 - area) / (2 - area) + area / (1 + area)))
        return abs(auc - area) - Z * math.sqrt(variance)

    tiny = 1e-12  # at 0 and 1 the variance vanishes, and with it the excess
    low = brentq(excess, 0, min(auc, 1 - tiny)) if auc > 0 else 0.0
    high = brentq(excess, max(auc, tiny), 1) if auc < 1 else 1.0
    return float(low), float(high)


class Ordered:
    """Scores in order, distinct ones grouped, so that any weighting of the samples takes O(N) to evaluate."""

    def __init__(self, scores: np.ndarray, labels: np.ndarray) -> None:
        self.distinct, self.group = np.unique(-np.asarray(scores, dtype=np.float64), return_inverse=True)
        self.anomalous, self.normal = (np.flatnonzero(np.asarray(labels) == label) for label in (1, 0))

    def counts(self, rng: np.random.Generator | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Anomalies and normals at each distinct score, from the highest down; of a stratified resample if ``rng``."""
        parts = (self.group[self.anomalous], self.group[self.normal])
        if rng is not None:
            parts = (part[rng.integers(0, len(part), len(part))] for part in parts)  # type: ignore[assignment]
        anomalous, normal = (np.bincount(part, minlength=len(self.distinct)) for part in parts)
        return anomalous, normal


def area(anomalous: np.ndarray, normal: np.ndarray) -> float:
    """ROC-AUC from counts at each distinct score, from the highest down."""
    below = normal.sum() - np.cumsum(normal) + 0.5 * normal
    return float(anomalous @ below / (anomalous.sum() * normal.sum()))


def average_precision(anomalous: np.ndarray, normal: np.ndarray) -> float:
    """Average precision from counts at each distinct score: the sum of precision times the step in recall."""
    flagged = np.cumsum(anomalous + normal)
    precision = np.cumsum(anomalous) / np.maximum(flagged, 1)
    return float(precision @ anomalous / anomalous.sum())


def rates(anomalous: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False-alarm and detection rates of the ROC curve from counts at each distinct score, from the highest down."""
    fpr = np.concatenate([[0], np.cumsum(normal) / normal.sum()])
    tpr = np.concatenate([[0], np.cumsum(anomalous) / anomalous.sum()])
    return fpr, tpr


def fpr_at_tpr(fpr: np.ndarray, tpr: np.ndarray, at: float = 0.95) -> float:
    """Smallest false-alarm rate on the curve that finds this share of the anomalies."""
    return float(fpr[np.argmax(tpr >= at - 1e-12)])


def n_resamples(n: int) -> int:
    """Bootstrap samples to draw: 199, fewer (at least 49) for so many scores that they would take seconds."""
    return max(49, min(199, 8_000_000 // n))


def interval(value: float, samples: list[float]) -> Estimate:
    """A value with the percentile interval of its bootstrap samples."""
    low, high = np.quantile(samples, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    return Estimate(value, float(low), float(high))


def evaluate(
    scores: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    threshold: float | None = None,
    calibration_scores: np.ndarray | None = None,
) -> Evaluation:
    """Judge anomaly scores by their labels.

    Parameters
    ----------
    scores
        Anomaly scores ``(N,)``.
    labels
        1 = anomaly, 0 = normal, ``(N,)``.
    groups
        Names of what the samples belong to, ``(N,)``, such as classes; the anomalies of each are judged by themselves.
    threshold
        Samples with a score strictly above it count as flagged.
    calibration_scores
        Anomaly scores of the held-out normals, to see whether p-values against them are uniform on the normals here.

    Raises
    ------
    DataError
        As `roc_auc`, or if the groups have another length.
    """
    overall = roc_auc(scores, labels)
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if groups is not None and np.shape(groups) != scores.shape:
        raise DataError(f"{len(scores)} scores but groups of shape {np.shape(groups)}")
    ordered = Ordered(scores, labels)
    anomalous, normal = ordered.counts()
    rng = np.random.default_rng(0)
    resamples = [ordered.counts(rng) for _ in range(n_resamples(len(scores)))]

    fpr, tpr = rates(anomalous, normal)
    thresholds = -ordered.distinct
    precision = np.cumsum(anomalous) / np.cumsum(anomalous + normal)

    return Evaluation(
        roc_auc=overall,
        roc_auc_bootstrap=interval(overall.value, [area(*counts) for counts in resamples]),
        average_precision=interval(average_precision(anomalous, normal), [average_precision(*c) for c in resamples]),
        average_precision_chance=float(labels.mean()),
        fpr_at_95_tpr=fpr_at_tpr(fpr, tpr),
        tpr_at_1_fpr=float(tpr[fpr <= 0.01 + 1e-12].max()),
        partial_auc=partial_area(fpr, tpr, PARTIAL_FPR),
        decisions=None if threshold is None else decide(scores, labels, threshold),
        per_group={} if groups is None else per_group(scores, labels, np.asarray(groups)),
        p_value_check=None if calibration_scores is None else check_p_values(calibration_scores, scores[labels == 0]),
        roc=Curve(fpr, tpr, np.concatenate([[np.inf], thresholds])),
        precision_recall=Curve(tpr[1:], precision, thresholds),
    )


def partial_area(fpr: np.ndarray, tpr: np.ndarray, up_to: float) -> float:
    """Area under the curve's first part, standardised (McClish, 1989, doi:10.1177/0272989X8900900307)."""
    inside = fpr <= up_to
    x = np.append(fpr[inside], up_to)
    y = np.append(tpr[inside], np.interp(up_to, fpr, tpr))
    smallest = up_to**2 / 2
    return float(0.5 * (1 + (np.trapezoid(y, x) - smallest) / (up_to - smallest)))


def decide(scores: np.ndarray, labels: np.ndarray, threshold: float) -> Decisions:
    """Confusion counts and rates at a threshold."""
    flagged = scores > threshold
    tp, fp = int((flagged & (labels == 1)).sum()), int((flagged & (labels == 0)).sum())
    m, n = int((labels == 1).sum()), int((labels == 0).sum())
    return Decisions(
        threshold=float(threshold),
        true_positives=tp,
        false_positives=fp,
        true_negatives=n - fp,
        false_negatives=m - tp,
        false_alarm_rate=Estimate(*clopper_pearson(fp, n)),
        detection_rate=Estimate(*clopper_pearson(tp, m)),
        precision=tp / (tp + fp) if tp + fp else None,
    )


def per_group(scores: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> dict[str, RocAuc]:
    """ROC-AUC of the anomalies of each group against all normals."""
    normal = labels == 0
    names = np.unique(groups[~normal]).tolist()
    rows = {str(name): normal | (groups == name) for name in names}
    return {name: roc_auc(scores[chosen], labels[chosen]) for name, chosen in rows.items()}


def check_p_values(held_out: np.ndarray, normal: np.ndarray) -> PValueCheck:
    """Distance between the scores of held-out and of new normals."""
    result = ks_2samp(held_out, normal)
    return PValueCheck(float(result.statistic), float(result.pvalue))


def compare(scores_a: np.ndarray, scores_b: np.ndarray, labels: np.ndarray) -> Comparison:
    """Whether one score is better than another on the same samples.

    Parameters
    ----------
    scores_a, scores_b
        Anomaly scores ``(N,)`` of the same samples.
    labels
        1 = anomaly, 0 = normal, ``(N,)``.

    Returns
    -------
    Comparison
        The difference of the areas with DeLong's paired interval, a paired bootstrap interval, and the two-sided
        p-value of DeLong's test that there is none.

    Raises
    ------
    DataError
        As `roc_auc`.

    References
    ----------
    Comparing the areas under two or more correlated ROC curves (DeLong, DeLong & Clarke-Pearson, 1988),
    doi:10.2307/2531595
    """
    a, b = roc_auc(scores_a, labels), roc_auc(scores_b, labels)
    above_a, below_a = placements(*split(scores_a, labels))
    above_b, below_b = placements(*split(scores_b, labels))
    total = covariance(above_a, above_b) + covariance(below_a, below_b)
    error = math.sqrt(max(0.0, float(total[0, 0] + total[1, 1] - 2 * total[0, 1])))
    difference = a.value - b.value
    p = float(2 * norm.sf(abs(difference) / error)) if error else float(difference == 0)

    ordered = Ordered(scores_a, labels), Ordered(scores_b, labels)
    # one seed for both keeps the resampled rows the same: the bootstrap is paired
    rngs = np.random.default_rng(0), np.random.default_rng(0)
    samples = [
        area(*ordered[0].counts(rngs[0])) - area(*ordered[1].counts(rngs[1]))
        for _ in range(n_resamples(a.n_normal + a.n_anomalous))
    ]
    return Comparison(
        a=a,
        b=b,
        difference=Estimate(difference, difference - Z * error, difference + Z * error),
        difference_bootstrap=interval(difference, samples),
        p_value=p,
    )
