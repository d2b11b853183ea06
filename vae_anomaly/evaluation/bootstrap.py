"""Scores in order, whole and resampled.

A stratified resample draws as many anomalies and as many normals with replacement as there are. A figure of a resample
needs only how many of each lie at every distinct score, so the scores are sorted once for all resamples.

References
----------
An Introduction to the Bootstrap (Efron & Tibshirani, 1993), chapter 13, for percentile intervals
"""

from __future__ import annotations

import numpy as np

from vae_anomaly.calibration.intervals import RESAMPLES
from vae_anomaly.errors import DataError


def by_label(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the anomalies ``(m,)`` and of the normals ``(n,)``.

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


class OrderedScores:
    """Scores in order, distinct ones grouped, so that any weighting of the samples takes O(N) to evaluate."""

    def __init__(self, scores: np.ndarray, labels: np.ndarray) -> None:
        self.distinct, self.group = np.unique(-np.asarray(scores, dtype=np.float64), return_inverse=True)
        self.anomalous, self.normal = (np.flatnonzero(np.asarray(labels) == label) for label in (1, 0))

    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Anomalies and normals at each distinct score, from the highest down."""
        return self._counts(self.group[self.anomalous], self.group[self.normal])

    def resampled_counts(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The same of a stratified resample."""
        parts = (self.group[self.anomalous], self.group[self.normal])
        anomalous, normal = (part[rng.integers(0, len(part), len(part))] for part in parts)
        return self._counts(anomalous, normal)

    def _counts(self, anomalous: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n = len(self.distinct)
        return np.bincount(anomalous, minlength=n), np.bincount(normal, minlength=n)


def n_resamples(n: int) -> int:
    """Bootstrap samples to draw: 199, or fewer (at least 49) for so many scores that 199 would take seconds."""
    return max(49, min(RESAMPLES, 8_000_000 // n))
