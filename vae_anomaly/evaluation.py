"""How good a score is, from scores and labels alone.

Scores here are anomaly scores, higher is more anomalous; labels are 1 for an anomaly, 0 for a normal.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import norm, rankdata

from vae_anomaly.errors import DataError


@dataclass(frozen=True)
class RocAuc:
    """Area under the ROC curve with its confidence interval, and the counts it rests on."""

    value: float
    low: float
    high: float
    n_normal: int
    n_anomalous: int


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Parameters
    ----------
    roc_auc
        All anomalies against all normals.
    per_class
        Each anomalous class against all normals, by its name.
    false_alarm_rate, detection_rate
        Shares of the normals and of the anomalies above the threshold.
    """

    roc_auc: RocAuc
    per_class: dict[str, RocAuc]
    false_alarm_rate: float
    detection_rate: float

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries and numbers, ready for JSON."""
        return asdict(self)


def roc_auc(scores: np.ndarray, labels: np.ndarray, *, confidence: float = 0.95) -> RocAuc:
    """ROC-AUC with DeLong's variance, ties counted half, in O(N log N).

    The interval is symmetric on the logit scale, so that it stays inside [0, 1]. Perfect separation has no
    estimated variance: the interval is then the point itself.

    Parameters
    ----------
    scores
        Anomaly scores ``(N,)``.
    labels
        1 = anomaly, 0 = normal, ``(N,)``.
    confidence
        Coverage of the interval.

    Raises
    ------
    DataError
        If lengths differ, a score is NaN, a label is not 0 or 1, or one of the two is missing.

    References
    ----------
    Comparing the areas under two or more correlated ROC curves (DeLong, DeLong & Clarke-Pearson, 1988);
    Fast implementation of DeLong's algorithm (Sun & Xu, 2014), doi:10.1109/LSP.2014.2337313
    """
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise DataError(f"scores {scores.shape} and labels {labels.shape} must be vectors of one length")
    if np.isnan(scores).any():
        raise DataError(f"{np.isnan(scores).sum()} of {len(scores)} scores are NaN")
    if not np.isin(labels, (0, 1)).all():
        raise DataError(f"labels must be 1 (anomaly) or 0 (normal), got {np.unique(labels)[:5].tolist()}")
    anomalous, normal = scores[labels == 1], scores[labels == 0]
    m, n = len(anomalous), len(normal)
    if not m or not n:
        raise DataError(f"ROC-AUC needs both kinds of label, got {n} normal and {m} anomalous")
    ranks = rankdata(np.concatenate([anomalous, normal]))
    above = (ranks[:m] - rankdata(anomalous)) / n  # share of the normals below each anomaly
    below = 1 - (ranks[m:] - rankdata(normal)) / m  # share of the anomalies above each normal
    auc = float(above.mean())
    variance = sum(float(part.var(ddof=1)) / len(part) for part in (above, below) if len(part) > 1)
    if not 0 < auc < 1:
        return RocAuc(auc, auc, auc, n, m)
    centre = math.log(auc / (1 - auc))
    half = float(norm.ppf(0.5 + confidence / 2)) * math.sqrt(variance) / (auc * (1 - auc))
    low, high = (1 / (1 + math.exp(-bound)) for bound in (max(centre - half, -700.0), min(centre + half, 700.0)))
    return RocAuc(auc, low, high, n, m)


def evaluate(scores: np.ndarray, labels: np.ndarray, threshold: float, classes: np.ndarray | None = None) -> Evaluation:
    """Judge anomaly scores by their labels.

    Parameters
    ----------
    scores
        Anomaly scores ``(N,)``.
    labels
        1 = anomaly, 0 = normal, ``(N,)``.
    threshold
        Samples with a score strictly above it count as flagged.
    classes
        Names of the classes the samples belong to, ``(N,)``; the anomalous ones are judged one by one.

    Raises
    ------
    DataError
        As `roc_auc`.
    """
    overall = roc_auc(scores, labels)
    normal = labels == 0
    per_class = {}
    if classes is not None:
        for name in np.unique(classes[~normal]):
            rows = normal | ((classes == name) & ~normal)
            per_class[str(name)] = roc_auc(scores[rows], labels[rows])
    flagged = scores > threshold
    return Evaluation(overall, per_class, float(flagged[normal].mean()), float(flagged[~normal].mean()))
