r"""The precision-recall curve and the area under it.

Flagging everything down to the k-th distinct score finds the share :math:`R_k` of the anomalies, the recall; of what is
flagged the share :math:`P_k` is anomalous, the precision. Average precision sums the steps, without interpolation,
which between two points would promise precisions that no threshold reaches:

.. math:: \mathrm{AP} = \sum_k (R_k - R_{k-1}) P_k

A random score gets the share of anomalies among the samples.

*The interval* is for the average precision of the two distributions, at the share of anomalies that the labels have. It
is a mean over the anomalies and a smooth function of both distributions, so each sample contributes to it to first
order (its influence), and the interval is that of `roc.interval_of_mean`. What the first order misses is one normal
above everything: that lowers the precision of all anomalies, by :math:`\ln m / m` on average, and whether a sample has
it is chance. So the lower end starts from the average precision with one more normal on top, the upper end from that
without the highest normal. Near 1 that keeps the coverage, where resamples, which hold no higher normal, cover 0.37.
The estimate itself is biased upwards with few anomalies; the interval is of the true value and makes up for that.

References
----------
Area Under the Precision-Recall Curve: Point Estimates and Confidence Intervals (Boyd, Eng & Page, 2013),
doi:10.1007/978-3-642-40994-3_29
The relationship between Precision-Recall and ROC curves (Davis & Goadrich, 2006), doi:10.1145/1143844.1143874
"""

from __future__ import annotations

import numpy as np

from vae_anomaly.evaluation.bootstrap import OrderedScores
from vae_anomaly.evaluation.result import Estimate
from vae_anomaly.evaluation.roc import interval_of_mean


def precision(anomalous: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Precision ``(K,)`` from counts at each of K distinct scores, from the highest down; 0 where none is flagged."""
    flagged = np.cumsum(anomalous + normal)
    share: np.ndarray = np.cumsum(anomalous) / np.maximum(flagged, 1)  # a resample may lack the highest scores
    return share


def average_precision(anomalous: np.ndarray, normal: np.ndarray) -> float:
    """Average precision from counts at each distinct score, from the highest down."""
    return float(precision(anomalous, normal) @ anomalous / anomalous.sum())


def average_precision_estimate(ordered: OrderedScores) -> Estimate:
    """Average precision with its interval."""
    anomalous, normal = ordered.counts()
    value = average_precision(anomalous, normal)
    contributions = contributions_to_average_precision(anomalous, normal)
    low = interval_of_mean(with_normals_on_top(anomalous, normal, 1), *contributions)[0]
    high = interval_of_mean(with_normals_on_top(anomalous, normal, -1), *contributions)[1]
    return Estimate(value, low, high)


def with_normals_on_top(anomalous: np.ndarray, normal: np.ndarray, extra: int) -> float:
    """Average precision with ``extra`` more normals above everything, or with so many of the highest left out."""
    found, alarms = np.cumsum(anomalous), np.maximum(np.cumsum(normal) + extra, 0)
    return float((found / np.maximum(found + alarms, 1)) @ anomalous / anomalous.sum())


def contributions_to_average_precision(anomalous: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each anomaly ``(m,)`` and each normal ``(n,)`` contributes to the average precision, their mean.

    An anomaly contributes its own precision and what it adds to that of all anomalies at or below it; a normal what it
    takes from these.
    """
    m, n = anomalous.sum(), normal.sum()
    found, alarms = np.cumsum(anomalous), np.cumsum(normal)
    flagged = np.maximum(found + alarms, 1)
    share = anomalous / m

    def from_here_on(values: np.ndarray) -> np.ndarray:
        return np.cumsum(values[::-1])[::-1]

    of_anomalous = np.repeat(found / flagged + from_here_on(m * alarms / flagged**2 * share), anomalous)
    of_normal = np.repeat(from_here_on(-n * found / flagged**2 * share), normal)
    value = average_precision(anomalous, normal)
    return value + of_anomalous - of_anomalous.mean(), value + of_normal - of_normal.mean()
