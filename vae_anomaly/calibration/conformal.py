r"""Conformal p-values: how unusual a score is among held-out normals, valid in finite samples.

With n held-out normals and a new normal exchangeable with them, the p-value

.. math:: p(s) = \frac{1 + \#\{i : s_i \ge s\}}{n + 1}

satisfies P(p <= t) <= t for every t, for any distribution of the scores, ties included. The probability is over the
held-out normals as well as the new one; `conditional` gives p-values that hold for nearly every single set of held-out
normals.

Scores are anomaly scores, higher is more anomalous.

References
----------
Algorithmic Learning in a Random World (Vovk, Gammerman & Shafer, 2005)
Testing for Outliers with Conformal p-values (Bates et al., 2023), https://arxiv.org/abs/2104.08279
Controlling the False Discovery Rate (Benjamini & Hochberg, 1995)
"""

from __future__ import annotations

import math

import numpy as np

from vae_anomaly.errors import DataError


def finite_scores(scores: np.ndarray, what: str) -> np.ndarray:
    """Scores as a vector of float64, of at least one.

    Raises
    ------
    DataError
        If there are none, or one is not finite.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or not len(scores):
        raise DataError(f"{what}: needs a vector of at least one score, got shape {scores.shape}")
    if not np.isfinite(scores).all():
        raise DataError(f"{what}: {(~np.isfinite(scores)).sum()} of {len(scores)} scores are NaN or infinite")
    return scores


def p_values(calibration: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Conformal p-values ``(N,)`` of scores against the scores of held-out normals; small is anomalous.

    Parameters
    ----------
    calibration
        Anomaly scores of held-out normals ``(n,)``.
    scores
        Anomaly scores ``(N,)``.
    weights
        What each held-out normal weighs, ``(n,)``, positive; each of the scores has the largest of these weights, as
        `calibration.weighted` says. None: all weigh the same.

    Raises
    ------
    DataError
        If the calibration scores are not finite, or there are none.
    """
    if weights is not None:
        order = np.argsort(finite_scores(calibration, "calibration"), kind="stable")
        above, heaviest = weight_from(weights[order]), weights.max()
        place = np.searchsorted(calibration[order], np.asarray(scores, dtype=np.float64), side="left")
        p: np.ndarray = (above[place] + heaviest) / (above[0] + heaviest)
        return p
    ordered = np.sort(finite_scores(calibration, "calibration"))
    at_least = len(ordered) - np.searchsorted(ordered, np.asarray(scores, dtype=np.float64), side="left")
    return (1 + at_least) / (len(ordered) + 1)


def weight_from(weights: np.ndarray) -> np.ndarray:
    """Sum of the weights ``(n,)`` from each place on, ``(n + 1,)``: first that of all, last 0."""
    return np.append(np.cumsum(weights[::-1])[::-1], 0.0)


def conditional(p: np.ndarray, n: int, delta: float) -> np.ndarray:
    r"""p-values that are valid given the held-out normals, for all but a share ``delta`` of their draws.

    The adjustment of Bates et al. by the generalised Simes inequality: h(p) = b_{ceil((n + 1) p)}, with

    .. math:: b_{n+1-i} = 1 - \delta^{1/k} \left(\frac{i (i-1) \cdots (i-k+1)}{n (n-1) \cdots (n-k+1)}\right)^{1/k}

    for k = n/2 and b_{n+1} = 1: with probability 1 - ``delta``, P(h(p) <= t | held-out normals) <= t for all t at once.

    Parameters
    ----------
    p
        p-values from `p_values`, against ``n`` normals.
    n
        Number of those normals.
    delta
        Share of the draws of held-out normals for which the promise may fail, in (0, 1).

    Notes
    -----
    Holding at all t at once is what a choice among several thresholds, or a procedure such as
    `benjamini_hochberg`, asks for. One threshold that is fixed beforehand can promise more: `from_normals.Conformal`
    with ``delta`` sets the exact one, so it flags some samples whose p-value here is above its rate.
    """
    from scipy.special import gammaln  # delayed: plain p-values need no SciPy and no tenth of a second for it

    k = max(1, n // 2)
    i = np.arange(1, n + 1, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        log_ratio = gammaln(i + 1) - gammaln(np.maximum(i - k, 0) + 1) - gammaln(n + 1) + gammaln(n - k + 1)
    bound = np.where(i >= k, 1 - np.exp((math.log(delta) + log_ratio) / k), 1.0)
    adjusted = np.append(bound[::-1], 1.0)  # b_1, ..., b_n, b_{n+1}
    rank = np.rint(np.asarray(p) * (n + 1)).astype(int)
    result: np.ndarray = adjusted[rank - 1]
    return result


def benjamini_hochberg(p: np.ndarray, level: float) -> np.ndarray:
    """Which of these samples to flag, ``(N,)`` bool, so that the false-discovery rate is at most ``level``.

    Conformal p-values against one set of normals depend on each other, but positively (PRDS), for which the procedure
    holds (Bates et al., Theorem 2): of the samples flagged, an expected share of at most ``level`` are normal. That
    is for samples that do not depend on each other; `e_values.e_benjamini_hochberg` is for those that may.
    """
    from scipy.stats import false_discovery_control  # delayed: it takes most of a second, and only --fdr needs it

    flagged: np.ndarray = false_discovery_control(p, method="bh") <= level
    return flagged


class Mondrian:
    """Conformal p-values within groups: the promise holds for each group by itself, not only on average.

    Parameters
    ----------
    rate
        The false-alarm rate wanted in every group.

    Attributes
    ----------
    thresholds_ : dict of str to float
        For each group the score above which a sample is flagged.

    References
    ----------
    Algorithmic Learning in a Random World (Vovk, Gammerman & Shafer, 2005), chapter 4
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def fit(self, scores: np.ndarray, groups: np.ndarray) -> Mondrian:
        """Take the scores of held-out normals and the group of each.

        Raises
        ------
        DataError
            If a group has too few normals to promise the rate.
        """
        scores, groups = finite_scores(scores, "calibration"), np.asarray(groups).astype(str)
        if groups.shape != scores.shape:
            raise DataError(f"{len(scores)} scores but {len(groups)} groups")
        self.scores_ = {name: scores[groups == name] for name in np.unique(groups).tolist()}
        self.thresholds_ = {name: threshold(part, self.rate, f"group {name}") for name, part in self.scores_.items()}
        return self

    def p_values(self, scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """p-values ``(N,)``, each against the normals of its own group.

        Raises
        ------
        DataError
            If a group was not seen in `fit`.
        """
        groups = np.asarray(groups).astype(str)
        unknown = sorted(set(groups.tolist()) - set(self.scores_))
        if unknown:
            raise DataError(f"no held-out normals of group {', '.join(unknown)}; known: {', '.join(self.scores_)}")
        result = np.empty(len(groups))
        for name in np.unique(groups).tolist():
            rows = groups == name
            result[rows] = p_values(self.scores_[name], np.asarray(scores)[rows])
        return result


def threshold(scores: np.ndarray, rate: float, what: str = "calibration") -> float:
    """The score above which, and only above which, the p-value is at most ``rate``.

    That is the k-th smallest of n scores, k = ceil((n + 1)(1 - rate)).

    Raises
    ------
    DataError
        If n normals cannot promise the rate, which takes at least 1/rate - 1 of them.
    """
    n = len(scores)
    k = math.ceil((n + 1) * (1 - rate) - 1e-9)
    if k > n:
        needed = math.ceil(1 / rate - 1e-9) - 1
        raise DataError(
            f"{what}: a false-alarm rate of {rate:g} needs at least {needed} held-out normals, there are {n}: give "
            f"more, or ask for {1 / (n + 1):.3g} or above"
        )
    return float(np.partition(scores, k - 1)[k - 1])
