"""From the scores of held-out normals to a threshold that keeps a promised false-alarm rate.

Scores here are anomaly scores: higher is more anomalous, and a sample is flagged when its score lies strictly
above the threshold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vae_anomaly.errors import DataError


@dataclass(frozen=True)
class Calibration:
    """A threshold and what it promises.

    Parameters
    ----------
    method
        "conformal": P(flag a new normal) is at most ``rate``, from ``n`` held-out normals. "contamination": the share
        ``rate`` of the ``n`` samples fitted on is flagged, as scikit-learn defines it; no promise about new ones.
    threshold
        Anomaly score above which a sample is flagged.
    rate
        As the method says.
    n
        Samples it rests on.
    """

    method: str
    threshold: float
    rate: float
    n: int


def conformal(scores: np.ndarray, rate: float) -> Calibration:
    """Threshold at the conformal quantile of the held-out normals' anomaly scores.

    The k-th smallest of n scores, k = ceil((n + 1)(1 - rate)): a new normal, exchangeable with these,
    exceeds it with probability at most 1 - k / (n + 1), for any n and any distribution. Fewer than 1/rate - 1
    normals cannot promise ``rate``: then the threshold is the largest score, and the rate promised is 1 / (n + 1).

    Parameters
    ----------
    scores
        Anomaly scores ``(N,)`` of normals that no part of the model was fitted on.
    rate
        The false-alarm rate wanted, in (0, 1).

    Raises
    ------
    DataError
        If there are no scores, or one is not finite.

    References
    ----------
    Algorithmic Learning in a Random World (Vovk, Gammerman & Shafer, 2005); Testing for Outliers with Conformal
    p-values (Bates et al., 2023), https://arxiv.org/abs/2104.08279
    """
    scores = np.sort(np.asarray(scores, dtype=np.float64))
    n = len(scores)
    if n == 0 or not np.isfinite(scores).all():
        raise DataError(f"calibration needs finite scores of held-out normals, got {n} scores")
    k = math.ceil((n + 1) * (1 - rate) - 1e-9)
    return Calibration("conformal", float(scores[min(k, n) - 1]), max(rate, 1 / (n + 1)), n)
