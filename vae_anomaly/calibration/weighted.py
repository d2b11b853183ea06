r"""Conformal p-values under covariate shift: the rows that will be scored come in other proportions than the normals.

Let normals have the density p(x) among those held out and q(x) among the rows to come, the target's, and let what is
normal at a given x be the same in both. With weights :math:`w_i \propto q(x_i) / p(x_i)` of n held-out normals, and
:math:`w(x)` of a new one, Tibshirani et al.'s p-value is

.. math:: p(s, w) = \frac{w + \sum_i w_i 1\{s_i \ge s\}}{w + \sum_i w_i}

It rises with w, so a row that lies where the target has many rows and the held-out normals none, as anomalies do, would
hide itself by its own weight, and two rows of one score might be decided differently. Here every row has the weight of
the heaviest held-out normal, :math:`p(s) = p(s, \max_i w_i)`. Then p-values fall as scores rise, one threshold decides
all rows, and no ratio has to be estimated for a new row. With equal weights it is the plain conformal p-value.

*What it promises.* Let W be the sum of the weights of the held-out normals and of the new one, and
:math:`w_{(1)} \ge w_{(2)}` the two largest. Given which n + 1 rows they are, row j is the new one with probability
:math:`w_j / W`. Let :math:`B_j` be the weight of all others that score as high. If j is not the heaviest, its p-value
is at least :math:`(B_j + w_j) / W`. If it is, its p-value is at most t only where
:math:`B_j + w_{(2)} \le t (W - w_{(1)} + w_{(2)})`. All rows with p <= t together weigh at most :math:`B_j + w_j` for
the lowest of them, so

.. math:: P(p \le t) \le t + (1 - t)\, E \frac{w_{(1)} - w_{(2)}}{W},

which is t where the two heaviest rows weigh the same. With weights that are estimated on other rows this holds for the
distribution that they stand for, and the rate is at most :math:`E_p|\hat w - w| / 2` higher, for weights of mean 1.

*What it costs.* With unequal weights n normals say as much as :math:`(\sum w)^2 / \sum w^2` equal ones: the effective
sample size. A rate needs :math:`\max w / (\max w + \sum w)` to be at most as high, or no row could be flagged; the
effective sample size is then at least 1/rate - 1, as the number of normals has to be without weights.

References
----------
Conformal Prediction Under Covariate Shift (Tibshirani et al., 2019), https://arxiv.org/abs/1904.06019
Model-free selective inference under covariate shift via weighted conformal p-values (Jin & Candès, 2023),
https://arxiv.org/abs/2307.09291, for why Benjamini and Hochberg's procedure promises nothing on them
Conformal inference of counterfactuals and individual treatment effects (Lei & Candès, 2021),
https://arxiv.org/abs/2006.06138, for estimated weights
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from vae_anomaly.calibration.conformal import finite_scores, weight_from
from vae_anomaly.calibration.intervals import clopper_pearson_bounds
from vae_anomaly.calibration.methods import Method, check_share
from vae_anomaly.errors import DataError
from vae_anomaly.registry import CALIBRATION_METHODS

NO_SHIFT = 2  # standard errors of a ROC-AUC above 0.5 that chance explains


@dataclass(frozen=True, eq=False, kw_only=True)
class Target:
    """Rows that stand for those to be scored, as what they say of the held-out normals.

    Parameters
    ----------
    weights
        Density of the target over that of the held-out normals, at each of these, up to a factor, ``(n,)``, positive.
    n_rows
        Rows of the target.
    auc
        ROC-AUC of a classifier that tells both apart, on rows that it was not fitted on; 0.5: no shift.
    """

    weights: np.ndarray
    n_rows: int
    auc: float

    @property
    def shows_shift(self) -> bool:
        """Whether the classifier is better than chance explains."""
        n, m = len(self.weights), self.n_rows
        return self.auc > 0.5 + NO_SHIFT * math.sqrt((n + m + 1) / (12 * n * m))


def normalised(weights: np.ndarray) -> np.ndarray:
    """Weights ``(n,)`` of mean 1; those that have it already stay as they are.

    Raises
    ------
    DataError
        If they are not positive and finite.
    """
    weights = np.asarray(weights, dtype=np.float64)
    if weights.ndim != 1 or not len(weights) or not (np.isfinite(weights) & (weights > 0)).all():
        raise DataError("weights must be positive and finite numbers, at least one")
    shares = weights / weights.max()  # first, so that no sum overflows
    found: np.ndarray = shares / shares.mean()
    return weights if np.allclose(weights, found, rtol=1e-12, atol=0) else found


def effective_size(weights: np.ndarray) -> float:
    """How many equal weights say as much as these ``(n,)``: between 1 and n."""
    return float(weights.sum() ** 2 / np.square(weights).sum())


def exceedance(
    normal: np.ndarray, weights: np.ndarray, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares of new normals of the target to expect above thresholds ``(S,)``, with their intervals, ``(S,)`` each.

    The new row's weight, that of the heaviest, counts as above. An interval is that of as many equal normals as give
    the share the variance that it has by these weights; where all weigh the same, it is `intervals.exceedance`.

    Parameters
    ----------
    normal, weights
        Anomaly scores of held-out normals and what each weighs, ``(n,)``.
    thresholds
        Anomaly scores.
    """
    order = np.argsort(normal, kind="stable")
    place = np.searchsorted(normal[order], thresholds, side="right")
    above, squares = (weight_from(values[order]) for values in (weights, np.square(weights)))
    heaviest = weights.max()
    total, all_squares = above[0] + heaviest, squares[0] + heaviest**2
    share = (above[place] + heaviest) / total
    squares_above = squares[place] + heaviest**2
    spread = (1 - share) ** 2 * squares_above + share**2 * (all_squares - squares_above)
    n = np.divide(share * (1 - share) * total**2, spread, out=np.full(share.shape, len(normal) + 1.0), where=spread > 0)
    k = np.maximum(0.0, share * n - 1)
    return share, *clopper_pearson_bounds(k, np.maximum(n - 1, k))


@CALIBRATION_METHODS.register(
    "weighted",
    parameters={"rate": (0.05, "the largest probability of a false alarm among rows like --target")},
    promise="a new normal of the target is flagged with probability at most {rate}, if the density ratio is right",
)
class Weighted(Method):
    """A new normal of the target is flagged with probability at most ``rate``; the held-out ones come from elsewhere.

    Without a ``target`` all normals weigh the same, which gives the threshold of `from_normals.Conformal`.
    """

    def __init__(self, rate: float = 0.05, target: Target | None = None) -> None:
        self.rate: float = check_share("rate", rate)
        self.target = target

    def fit(self, scores: np.ndarray, labels: np.ndarray | None = None) -> Self:
        """Choose the threshold; the target has one weight for each normal among the scores, in their order.

        Raises
        ------
        DataError
            As `Method.fit`, and if the weights do not fit or leave too little for the rate.
        """
        scores = finite_scores(scores, self.name)
        normal = scores if labels is None else scores[np.asarray(labels) == 0]
        weights = np.ones(len(normal)) if self.target is None else normalised(self.target.weights)
        if weights.shape != normal.shape:
            raise DataError(f"weighted: {len(weights)} weights for {len(normal)} normals")
        self.weights_ = weights[np.argsort(normal, kind="stable")]
        super().fit(scores, labels)
        if self.target is not None:
            self.calibration_ = replace(
                self.calibration_,
                n_effective=effective_size(weights),
                n_target=self.target.n_rows,
                target_auc=self.target.auc,
            )
        return self

    def choose_threshold(self, normal: np.ndarray, anomalous: np.ndarray) -> float:
        above, heaviest = weight_from(self.weights_), float(self.weights_.max())
        possible = above[1:] + heaviest <= self.rate * (above[0] + heaviest) + 1e-9
        if not possible.any():
            n, smallest = len(normal), heaviest / (above[0] + heaviest)
            weighted = (
                ""
                if self.target is None
                else f" count as {effective_size(self.weights_):.3g} for this target (effective sample size), the "
                f"heaviest as {heaviest:.3g}, and"
            )
            raise DataError(
                f"weighted: {n:,} held-out normals{weighted} cannot promise a false-alarm rate of {self.rate:g}: "
                f"give more normals that are like the target, or ask for {smallest:.3g} or above"
            )
        return float(normal[np.argmax(possible)])

    def expected_false_alarms(self, normal: np.ndarray) -> tuple[float, float, float]:
        """Share of new normals of the target to expect above the threshold, with its interval."""
        share, low, high = exceedance(normal, self.weights_, np.array([self.threshold_]))
        return float(share[0]), float(low[0]), float(high[0])

    def basis(self, anomalous: np.ndarray) -> str | None:
        if self.target is None:
            return None
        n, m, auc = len(self.weights_), self.target.n_rows, self.target.auc
        no_shift = ", no sign of a shift: method conformal promises the same without a ratio"
        return (
            f"weighted for {m:,} rows of a target: {n:,} held-out normals count as "
            f"{effective_size(self.weights_):,.0f} (effective sample size); a classifier tells both apart with ROC-AUC "
            f"{auc:.3f}{'' if self.target.shows_shift else no_shift}"
        )
