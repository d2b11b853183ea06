r"""How far the true curve may lie from the one drawn: 95 % bands, from arrays alone.

*ROC and precision-recall curves*: pointwise, the percentiles of stratified resamples at fixed abscissas. Resamples hold
nothing that lies beyond the sample, so their band is too narrow at the ends, and two exact statements make it wider:

- a count of k among n leaves the whole Clopper-Pearson interval possible, even where all resamples agree (perfect
  separation);
- all n normals lie below the threshold of a false-alarm rate t with probability :math:`(1 - t)^n`. Where that exceeds
  2.5 %, the threshold may lie above every score seen, and nothing bounds the detection rate from below. The same holds
  for the anomalies and the precision; its lower bound is then the precision of flagging everything.

At a false-alarm rate of 1 everything is flagged, and the ROC curve's end is certain.

*p-values*: simultaneous. p-values against one set of held-out normals depend on each other through it: the false-alarm
rate of the threshold with p-value k / (n + 1) follows Beta(k, n + 1 - k). The band holds 95 % of whole curves drawn
from that law, and a curve that leaves it is equally likely to do so at each point (a global rank envelope).

References
----------
Global envelope tests for spatial processes (Myllymäki et al., 2017), https://arxiv.org/abs/1307.0239
Testing for Outliers with Conformal p-values (Bates et al., 2023), https://arxiv.org/abs/2104.08279
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vae_anomaly.calibration.intervals import CONFIDENCE, TAIL, clopper_pearson_bounds, percentile_interval
from vae_anomaly.errors import DataError
from vae_anomaly.evaluation.bootstrap import OrderedScores, by_label, n_resamples
from vae_anomaly.evaluation.roc import rates

GRID = 0.5 - 0.5 * np.cos(np.linspace(0, np.pi, 201))  # dense at both ends, where curves bend
SIMULATIONS = 10_000


@dataclass(frozen=True)
class Band:
    """Lowest and highest value of a curve at each ``x``, all ``(K,)``."""

    x: np.ndarray
    low: np.ndarray
    high: np.ndarray


def roc_band(scores: np.ndarray, labels: np.ndarray) -> Band:
    """Pointwise 95 % band of the detection rate over the false-alarm rate.

    Parameters
    ----------
    scores
        Anomaly scores ``(N,)``, higher is more anomalous.
    labels
        1 = anomaly, 0 = normal, ``(N,)``.

    Raises
    ------
    DataError
        If lengths differ, a score is NaN, a label is not 0 or 1, or one of the two is missing.
    """
    anomalous, normal = by_label(scores, labels)

    def detection_rate(fpr: np.ndarray, tpr: np.ndarray) -> np.ndarray:
        # where the curve is vertical, its upper end
        return np.asarray(np.interp(GRID, fpr, tpr))

    low, high = pointwise(OrderedScores(scores, labels), detection_rate, len(anomalous))
    low[(1 - GRID) ** len(normal) > TAIL] = 0
    low[-1] = high[-1] = 1
    return Band(GRID.copy(), low, high)


def precision_recall_band(scores: np.ndarray, labels: np.ndarray) -> Band:
    """Pointwise 95 % band of the precision over the recall, at the share of anomalies that the labels have.

    It follows from the band of the false-alarm rate at each recall, since a higher rate means a lower precision. It
    begins at the recall of one anomaly; below that the precision is undefined.

    Parameters
    ----------
    scores
        Anomaly scores ``(N,)``, higher is more anomalous.
    labels
        1 = anomaly, 0 = normal, ``(N,)``.

    Raises
    ------
    DataError
        If lengths differ, a score is NaN, a label is not 0 or 1, or one of the two is missing.
    """
    anomalous, normal = by_label(scores, labels)
    m, n = len(anomalous), len(normal)
    recall = np.unique(np.maximum(GRID, 1 / m))

    def false_alarm_rate(fpr: np.ndarray, tpr: np.ndarray) -> np.ndarray:
        # where the curve is horizontal, its left end
        return np.asarray(np.interp(-recall, -tpr[::-1], fpr[::-1]))

    low, high = pointwise(OrderedScores(scores, labels), false_alarm_rate, n)
    high[recall**m > TAIL] = 1
    return Band(recall, *(m * recall / (m * recall + n * rate) for rate in (high, low)))


def pointwise(
    ordered: OrderedScores, curve: Callable[[np.ndarray, np.ndarray], np.ndarray], n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Range of a share among ``n`` samples at each point of a curve, from resamples and from the share itself."""
    rng = np.random.default_rng(0)
    n_scores = len(ordered.anomalous) + len(ordered.normal)
    samples = [curve(*rates(*ordered.resampled_counts(rng))) for _ in range(n_resamples(n_scores))]
    low, high = percentile_interval(samples)
    found = curve(*rates(*ordered.counts())) * n
    at_least, at_most = np.floor(found + 1e-9).astype(int), np.ceil(found - 1e-9).astype(int)
    exact_low, exact_high = clopper_pearson_bounds(at_least, n)[0], clopper_pearson_bounds(at_most, n)[1]
    return np.minimum(low, exact_low), np.maximum(high, exact_high)


def p_value_band(n_new: int, n_calibration: int | None = None) -> Band:
    """Simultaneous 95 % band of the share of normals with a p-value of at most ``x``.

    Parameters
    ----------
    n_new
        Number of normals whose p-values are looked at.
    n_calibration
        Number of held-out normals that they were ranked among; None for independent, exactly uniform p-values.

    Raises
    ------
    DataError
        If one of the numbers is not positive.
    """
    if n_new < 1 or (n_calibration is not None and n_calibration < 1):
        raise DataError(f"a band needs at least one p-value and one held-out normal, got {n_new} and {n_calibration}")
    rng = np.random.default_rng(0)
    last = n_new if n_calibration is None else n_calibration + 1
    k = np.unique(np.geomspace(1, last, 60).round().astype(int))
    steps = np.diff(k, prepend=0) / last
    if n_calibration is not None:
        # gaps between order statistics of uniforms are gammas over their sum; beyond the last one lies what is left
        steps = rng.standard_gamma(np.diff(k, prepend=0), size=(SIMULATIONS, len(k)))
        steps = steps / steps.sum(axis=1, keepdims=True)
    counts = np.cumsum(rng.multinomial(n_new, steps, size=SIMULATIONS), axis=1)

    ordered = np.sort(counts, axis=0)
    columns = list(zip(ordered.T, counts.T, strict=True))
    at_most = np.stack([np.searchsorted(known, values, side="right") for known, values in columns], axis=1)
    at_least = SIMULATIONS - np.stack([np.searchsorted(known, values) for known, values in columns], axis=1)
    depth = np.sort(np.minimum(at_most, at_least).min(axis=1))
    # curves of a depth up to `rank` leave the envelope
    rank = int(depth[round((1 - CONFIDENCE) * SIMULATIONS)]) - 1
    return Band(k / last, ordered[rank] / n_new, ordered[-1 - rank] / n_new)
