r"""The precision-recall curve and the area under it.

Flagging everything down to the k-th distinct score finds the share :math:`R_k` of the anomalies, the recall; of what is
flagged the share :math:`P_k` is anomalous, the precision. Average precision sums the steps, without interpolation,
which between two points would promise precisions that no threshold reaches:

.. math:: \mathrm{AP} = \sum_k (R_k - R_{k-1}) P_k

A random score gets the share of anomalies among the samples.

References
----------
The relationship between Precision-Recall and ROC curves (Davis & Goadrich, 2006), doi:10.1145/1143844.1143874
"""

from __future__ import annotations

import numpy as np


def precision(anomalous: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Precision ``(K,)`` from counts at each of K distinct scores, from the highest down; 0 where none is flagged."""
    flagged = np.cumsum(anomalous + normal)
    share: np.ndarray = np.cumsum(anomalous) / np.maximum(flagged, 1)  # a resample may lack the highest scores
    return share


def average_precision(anomalous: np.ndarray, normal: np.ndarray) -> float:
    """Average precision from counts at each distinct score, from the highest down."""
    return float(precision(anomalous, normal) @ anomalous / anomalous.sum())
