r"""The ROC curve, the area under it, and how sure one can be of that area.

The area is the probability that an anomaly scores higher than a normal, ties counted half. With m anomalies of scores
:math:`x_i`, n normals of scores :math:`y_j` and :math:`\psi(x, y) = 1, \tfrac12, 0` for x above, equal to, below y:

.. math:: A = \frac{1}{m n} \sum_{i, j} \psi(x_i, y_j)

*DeLong's variance.* The *placements* are, for each sample, the share of the other kind that it is ranked correctly
against,

.. math:: V_i = \frac1n \sum_j \psi(x_i, y_j), \qquad W_j = \frac1m \sum_i \psi(x_i, y_j)

and A is the mean of either. Their sample variances estimate the variance of A,

.. math:: \operatorname{Var}(A) \approx \frac{s^2_V}{m} + \frac{s^2_W}{n}

and for two scores of the same samples the covariances of their placements estimate the covariance of the areas in the
same way, which is what a paired test needs. By ranks all placements take O(N log N) (Sun & Xu): :math:`n V_i` is the
rank of :math:`x_i` among all samples minus its rank among the anomalies.

*The interval* is symmetric on the logit scale, so that it stays inside [0, 1]. Where the variance is estimated as zero
(perfect separation, constant scores) it is Newcombe's, whose variance comes from the area itself.

References
----------
Comparing the areas under two or more correlated ROC curves (DeLong, DeLong & Clarke-Pearson, 1988), doi:10.2307/2531595
Fast implementation of DeLong's algorithm (Sun & Xu, 2014), doi:10.1109/LSP.2014.2337313
Confidence intervals for an effect size measure based on the Mann-Whitney statistic (Newcombe, 2006),
doi:10.1002/sim.2324
Analyzing a portion of the ROC curve (McClish, 1989), doi:10.1177/0272989X8900900307
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit, ndtri
from scipy.stats import rankdata

from vae_anomaly.calibration.intervals import CONFIDENCE
from vae_anomaly.evaluation.bootstrap import by_label
from vae_anomaly.evaluation.result import RocAuc

Z = float(ndtri(0.5 + CONFIDENCE / 2))


def roc_auc(scores: np.ndarray, labels: np.ndarray) -> RocAuc:
    """ROC-AUC with its interval, by DeLong's variance or Newcombe's.

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
    anomalous, normal = by_label(scores, labels)
    below, above = placements(anomalous, normal)
    auc = float(np.clip(below.mean(), 0, 1))
    variance = float(covariance_of_means(below)[0, 0] + covariance_of_means(above)[0, 0])
    n, m = len(normal), len(anomalous)
    if variance > 0 and 0 < auc < 1:
        half = Z * math.sqrt(variance) / (auc * (1 - auc))
        low, high = expit(logit(auc) - half), expit(logit(auc) + half)
    else:
        low, high = newcombe_interval(auc, m, n)
    return RocAuc(auc, float(low), float(high), n, m)


def placements(anomalous: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of normals below each anomaly ``(m,)``, share of anomalies above each normal ``(n,)``; ties count half."""
    m, n = len(anomalous), len(normal)
    ranks = rankdata(np.concatenate([anomalous, normal]))
    return (ranks[:m] - rankdata(anomalous)) / n, 1 - (ranks[m:] - rankdata(normal)) / m


def covariance_of_means(*samples: np.ndarray) -> np.ndarray:
    """Covariance ``(k, k)`` of the means of k paired samples ``(n,)``; zero where there is but one observation."""
    k, n = len(samples), len(samples[0])
    return np.cov(np.stack(samples)).reshape(k, k) / n if n > 1 else np.zeros((k, k))


def newcombe_interval(auc: float, m: int, n: int) -> tuple[float, float]:
    """Newcombe's fifth interval: all areas A with (auc - A)^2 at most z^2 times the variance at A."""
    extra = (m + n) / 2 - 1

    def excess(area: float) -> float:
        variance = area * (1 - area) / (m * n) * (1 + extra * ((1 - area) / (2 - area) + area / (1 + area)))
        return abs(auc - area) - Z * math.sqrt(variance)

    tiny = 1e-12  # at 0 and 1 the variance vanishes, and with it the excess
    low = brentq(excess, 0, min(auc, 1 - tiny)) if auc > 0 else 0.0
    high = brentq(excess, max(auc, tiny), 1) if auc < 1 else 1.0
    return float(low), float(high)


def area(anomalous: np.ndarray, normal: np.ndarray) -> float:
    """ROC-AUC from counts at each distinct score, from the highest down."""
    below = normal.sum() - np.cumsum(normal) + 0.5 * normal
    return float(anomalous @ below / (anomalous.sum() * normal.sum()))


def rates(anomalous: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False-alarm and detection rates of the curve from counts at each distinct score, from the highest down."""
    fpr = np.concatenate([[0], np.cumsum(normal) / normal.sum()])
    tpr = np.concatenate([[0], np.cumsum(anomalous) / anomalous.sum()])
    return fpr, tpr


def fpr_at_tpr(fpr: np.ndarray, tpr: np.ndarray, at: float = 0.95) -> float:
    """Smallest false-alarm rate on the curve that finds this share of the anomalies."""
    return float(fpr[np.argmax(tpr >= at - 1e-12)])


def tpr_at_fpr(fpr: np.ndarray, tpr: np.ndarray, at: float = 0.01) -> float:
    """Largest detection rate on the curve with at most this share of false alarms."""
    return float(tpr[fpr <= at + 1e-12].max())


def partial_area(fpr: np.ndarray, tpr: np.ndarray, up_to: float = 0.1) -> float:
    """Area under the curve's first part, standardised to 0.5 for chance and 1 for the best (McClish)."""
    inside = fpr <= up_to
    x = np.append(fpr[inside], up_to)
    y = np.append(tpr[inside], np.interp(up_to, fpr, tpr))
    smallest = up_to**2 / 2
    return float(0.5 * (1 + (np.trapezoid(y, x) - smallest) / (up_to - smallest)))
