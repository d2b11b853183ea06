r"""Peaks over threshold: a generalised-Pareto tail for rates rarer than the data shows.

Beyond a high quantile u the excesses of nearly every distribution approach a generalised Pareto law with shape
:math:`\gamma` and scale :math:`\sigma`; the level exceeded with probability q is then

.. math:: z_q = u + \frac{\sigma}{\gamma}\left(\left(\frac{q n}{N_u}\right)^{-\gamma} - 1\right)

where N_u of n scores exceed u.

*How sure it is.* The share :math:`\zeta` of scores beyond u, the shape and the scale have the log-likelihood :math:`N_u
\log\zeta + (n - N_u) \log(1 - \zeta) + \ell(\gamma, \sigma)`. The rate at the threshold, and the level of the rate
wanted, have the range that they take where it lies at most half the 95 % quantile of :math:`\chi^2_2`, which is
:math:`-\log 0.05`, below its largest value: a joint region of shape and scale, which may be as skew as the tail is. A
profile likelihood would take :math:`\chi^2_1`, but covers only 84 % with tails of 20 scores. The share enters by its
normal approximation on the logarithmic scale, of variance :math:`(1 - \hat\zeta) / N_u`. All that holds as far as the
tail is a generalised Pareto law; how far that is, no n shows for rates below about 2 / n.

References
----------
Anomaly Detection in Streams with Extreme Value Theory (Siffer et al., 2017), doi:10.1145/3097983.3098144
A New and Efficient Estimation Method for the Generalized Pareto Distribution (Zhang & Stephens, 2009),
doi:10.1198/tech.2009.08017
An Introduction to Statistical Modeling of Extreme Values (Coles, 2001), doi:10.1007/978-1-4471-3675-0, section 2.6, for
regions of high likelihood
Pareto Smoothed Importance Sampling (Vehtari et al., 2024), https://arxiv.org/abs/1507.02646, for the size of the tail
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import genpareto

from vae_anomaly.calibration.intervals import CONFIDENCE, RESAMPLES
from vae_anomaly.calibration.methods import Method, around, check_share
from vae_anomaly.errors import DataError
from vae_anomaly.registry import CALIBRATION_METHODS

SMALLEST_TAIL = 10
RAREST = 2  # samples that a rate must let one expect above the threshold, to be shown by the data at all
GRID = 41  # values of each parameter of the tail, four standard errors to each side


@CALIBRATION_METHODS.register(
    "pot",
    parameters={"rate": (0.001, "the probability that a normal exceeds the threshold")},
    promise="exceeded with probability {rate} by the tail fitted to the held-out normals",
)
class PeaksOverThreshold(Method):
    """The level that a generalised-Pareto tail exceeds with probability ``rate``, for rates rarer than the data shows.

    A model, not a promise: it holds as far as the tail fits, which a Cramer-von Mises test checks.
    """

    def __init__(self, rate: float = 0.001) -> None:
        self.rate: float = check_share("rate", rate)

    def choose_threshold(self, normal: np.ndarray, anomalous: np.ndarray) -> float:
        tail = fit_tail(normal)
        if self.rate >= tail.n_tail / tail.n:
            raise DataError(
                f"pot: a rate of {self.rate:g} is inside the data (the tail is its last {tail.n_tail / tail.n:.1%}): "
                "use conformal or quantile"
            )
        return tail.level(self.rate)

    def expected_false_alarms(self, normal: np.ndarray) -> tuple[float, float, float]:
        """The rate asked for, with the range of rates at the threshold that the tail's likelihood allows."""
        region = likely_tails(normal)
        low, high = around(region.rates_above(self.threshold_), self.rate)
        return self.rate, float(low or 0), min(1.0, float(high or 1))

    def threshold_interval(self, normal: np.ndarray, anomalous: np.ndarray) -> tuple[float | None, float | None]:
        """Range of the level that the rate goes with, as far as the tail's likelihood allows."""
        return around(likely_tails(normal).levels(self.rate), self.threshold_)

    def basis(self, anomalous: np.ndarray) -> str | None:
        return "the false alarms are the rate asked for, with the range that the likelihood of the tail allows"

    def warning(self, normal: np.ndarray) -> str | None:
        """A warning if the data cannot show such a rate, or if the test rejects the fit of the tail at 5 %."""
        warnings = []
        if self.rate * len(normal) < RAREST:
            warnings.append(
                f"{len(normal):,} normals cannot show a rate of {self.rate:g}: below {RAREST / len(normal):.2g} "
                "it rests on the shape of the tail alone, and the true rate may be several times as high"
            )
        p = goodness_of_fit(fit_tail(normal), normal)
        if p < 0.05:
            warnings.append(f"the tail fits a generalised Pareto law badly (p = {p:.3f})")
        return "; ".join(warnings) or None


@dataclass(frozen=True)
class Tail:
    """A generalised-Pareto tail: beyond ``start`` lie ``n_tail`` of ``n`` scores."""

    start: float
    shape: float
    scale: float
    n_tail: int
    n: int

    def level(self, rate: float) -> float:
        """The score that a new one exceeds with probability ``rate``; below ``n_tail / n`` only."""
        ratio = rate * self.n / self.n_tail
        if abs(self.shape) < 1e-9:
            return self.start - self.scale * math.log(ratio)
        return self.start + self.scale / self.shape * math.expm1(-self.shape * math.log(ratio))


@dataclass(frozen=True)
class LikelyTails:
    """Tails with a likelihood that is high enough, ``(K,)`` each.

    Parameters
    ----------
    tail
        The one that was fitted.
    shape, scale
        Of each tail.
    slack
        How far the logarithm of the share of scores beyond the start may differ from that of the fitted tail.
    """

    tail: Tail
    shape: np.ndarray
    scale: np.ndarray
    slack: np.ndarray

    def rates_above(self, level: float) -> tuple[float, float]:
        """Lowest and highest probability of a score above ``level``."""
        with np.errstate(divide="ignore"):
            log_share = math.log(self.tail.n_tail / self.tail.n) + genpareto.logsf(
                level - self.tail.start, self.shape, scale=self.scale
            )
        return float(np.exp((log_share - self.slack).min())), float(np.exp((log_share + self.slack).max()))

    def levels(self, rate: float) -> tuple[float, float]:
        """Lowest and highest score that a new one exceeds with probability ``rate``."""
        share = rate * self.tail.n / self.tail.n_tail
        low, high = (
            genpareto.isf(np.minimum(1, share * np.exp(sign * self.slack)), self.shape, scale=self.scale)
            for sign in (1, -1)
        )
        return self.tail.start + float(low.min()), self.tail.start + float(high.max())


def likely_tails(scores: np.ndarray) -> LikelyTails:
    """All tails whose log-likelihood lies in the joint region around the largest; raises as `fit_tail`."""
    tail = fit_tail(scores)
    n = tail.n_tail
    excesses = np.sort(scores)[-n:] - tail.start
    steps = np.linspace(-4, 4, GRID)
    shape, scale = np.meshgrid(
        np.maximum(tail.shape + steps * (1 + abs(tail.shape)) / math.sqrt(n), -1) + 1e-9,
        tail.scale * np.exp(steps * math.sqrt(2 / n)),
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        log_tail = np.log1p(shape[..., None] / scale[..., None] * excesses).sum(axis=-1)  # NaN beyond a tail's end
    log_likelihood = np.nan_to_num(-n * np.log(scale) - (1 + 1 / shape) * log_tail, nan=-np.inf, neginf=-np.inf)
    budget = -math.log(1 - CONFIDENCE) - (log_likelihood.max() - log_likelihood)
    allowed = budget >= 0
    slack = np.sqrt(2 * budget[allowed] * (1 - n / tail.n) / n)
    return LikelyTails(tail, shape[allowed], scale[allowed], slack)


def fit_tail(scores: np.ndarray) -> Tail:
    """Fit the largest min(n / 5, 3 sqrt(n)) scores.

    Raises
    ------
    DataError
        If fewer than 10 scores would be in the tail, or it has no spread.
    """
    ordered = np.sort(scores)
    n = len(ordered)
    n_tail = int(min(n / 5, 3 * math.sqrt(n)))
    if n_tail < SMALLEST_TAIL:
        raise DataError(f"a tail needs at least {5 * SMALLEST_TAIL} held-out normals, there are {n}")
    start = float(ordered[-n_tail - 1])
    excesses = ordered[-n_tail:] - start
    if excesses[max(0, n_tail // 4 - 1)] <= 0 or excesses[0] == excesses[-1]:
        raise DataError("the largest scores are all alike: there is no tail to fit")
    shape, scale = zhang_stephens(excesses)
    return Tail(start, shape, scale, n_tail, n)


def zhang_stephens(excesses: np.ndarray) -> tuple[float, float]:
    """Shape and scale of a generalised Pareto law from sorted positive excesses.

    The profile likelihood in theta = -shape / scale, averaged over a grid with a weak data-based prior: quicker
    than maximising it, defined for every sample, and with a smaller error.
    """
    n = len(excesses)
    m = 20 + int(math.sqrt(n))
    grid = 1 / excesses[-1] + (1 - np.sqrt(m / (np.arange(m) + 0.5))) / (3 * excesses[int(n / 4 + 0.5) - 1])
    shapes = np.log1p(-grid[:, None] * excesses).mean(axis=1)
    log_likelihood = n * (np.log(-grid / shapes) - shapes - 1)
    weights = np.exp(log_likelihood - log_likelihood.max())
    theta = float(weights @ grid / weights.sum())
    shape = float(np.log1p(-theta * excesses).mean())
    return shape, -shape / theta


def goodness_of_fit(tail: Tail, scores: np.ndarray, n_simulations: int = RESAMPLES) -> float:
    """p-value of the Cramer-von Mises test that the tail is generalised Pareto, by parametric bootstrap."""
    rng = np.random.default_rng(0)
    excesses = np.sort(scores)[-tail.n_tail :] - tail.start
    observed = cramer_von_mises(excesses, tail.shape, tail.scale)
    simulated = np.sort(
        genpareto.rvs(tail.shape, scale=tail.scale, size=(n_simulations, tail.n_tail), random_state=rng)
    )
    larger = sum(cramer_von_mises(sample, *zhang_stephens(sample)) >= observed for sample in simulated)
    return (1 + larger) / (1 + n_simulations)


def cramer_von_mises(excesses: np.ndarray, shape: float, scale: float) -> float:
    """Distance between sorted excesses and a generalised Pareto law."""
    n = len(excesses)
    u = genpareto.cdf(excesses, shape, scale=scale)
    return float(1 / (12 * n) + np.sum((u - (np.arange(n) + 0.5) / n) ** 2))
