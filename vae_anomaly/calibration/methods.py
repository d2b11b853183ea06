"""From scores to a threshold, with what to expect from it.

Scores here are anomaly scores: higher is more anomalous. All methods agree on ties: a sample is flagged when its score
lies strictly above the threshold, which is (but for `PeaksOverThreshold`) the largest of the scores given that is not
flagged.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import beta, betabinom

from vae_anomaly.calibration import conformal
from vae_anomaly.calibration import pareto as tails
from vae_anomaly.calibration.result import Calibration
from vae_anomaly.errors import DataError
from vae_anomaly.registry import CALIBRATION_METHODS

CONFIDENCE = 0.95
RESAMPLES = 199


def clopper_pearson(k: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """Share k/n with its exact binomial interval (Clopper & Pearson, 1934, doi:10.1093/biomet/26.4.404)."""
    tail = (1 - confidence) / 2
    low = 0.0 if k == 0 else float(beta.ppf(tail, k, n - k + 1))
    high = 1.0 if k == n else float(beta.ppf(1 - tail, k + 1, n - k))
    return k / n, low, high


def exceedance(above: ArrayLike, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share of new scores to expect above one of n held-out ones that ``above`` of these exceed, with its interval.

    That share follows Beta(above + 1, n - above) over the draw of the held-out scores; its mean is
    (above + 1) / (n + 1). With all of them above, nothing bounds it but 1.
    """
    tail = (1 - CONFIDENCE) / 2
    above = np.asarray(above)
    below = np.maximum(n - above, 1)
    low, high = (np.where(above < n, beta.ppf(q, above + 1, below), 1.0) for q in (tail, 1 - tail))
    return (above + 1) / (n + 1), low, high


class Method:
    """A way to choose a threshold.

    ``fit(scores, labels)`` takes anomaly scores ``(N,)`` and labels (1 = anomaly, 0 = normal; None: all normal), sets
    ``threshold_`` and ``calibration_``. Laws: the same scores in another order give the same threshold; a strictly
    increasing transformation of the scores moves the threshold along (but for `PeaksOverThreshold`).
    """

    name: ClassVar[str]
    needs_anomalies: ClassVar[bool] = False
    rate: float | None = None
    delta: float | None = None

    def fit(self, scores: np.ndarray, labels: np.ndarray | None = None) -> Self:
        """Choose the threshold.

        Raises
        ------
        DataError
            If scores are not finite, normals or (where needed) anomalies are missing, or too few for what is asked.
        """
        scores = conformal.finite_scores(scores, self.name)
        labels = np.zeros(len(scores), int) if labels is None else np.asarray(labels)
        if labels.shape != scores.shape or not np.isin(labels, (0, 1)).all():
            raise DataError(
                f"{self.name}: needs one label, 0 (normal) or 1 (anomaly), for each of {len(scores)} scores"
            )
        normal, anomalous = np.sort(scores[labels == 0]), np.sort(scores[labels == 1])
        if not len(normal):
            raise DataError(f"{self.name}: needs scores of normals, got none")
        if self.needs_anomalies and not len(anomalous):
            raise DataError(f"{self.name}: needs some labelled anomalies, got none")
        self.threshold_ = self._threshold(normal, anomalous)
        low, high = self._bootstrap(normal, anomalous)
        alarms = self._false_alarms(normal)
        detected: tuple[float, float, float] | tuple[None, None, None] = (None, None, None)
        if len(anomalous):
            detected = clopper_pearson(int((anomalous > self.threshold_).sum()), len(anomalous))
        self.calibration_ = Calibration(
            method=self.name,
            threshold=self.threshold_,
            threshold_low=low,
            threshold_high=high,
            rate=self.rate,
            delta=self.delta,
            false_alarm_rate=alarms[0],
            false_alarm_low=alarms[1],
            false_alarm_high=alarms[2],
            detection_rate=detected[0],
            detection_low=detected[1],
            detection_high=detected[2],
            n_normal=len(normal),
            n_anomalous=len(anomalous),
            note=self._note(normal),
        )
        return self

    def _threshold(self, normal: np.ndarray, anomalous: np.ndarray) -> float:
        raise NotImplementedError

    def _false_alarms(self, normal: np.ndarray) -> tuple[float, float, float]:
        """Share of new normals above the threshold: by default as among those given."""
        return clopper_pearson(int((normal > self.threshold_).sum()), len(normal))

    def _note(self, normal: np.ndarray) -> str | None:
        return None

    def _bootstrap(self, normal: np.ndarray, anomalous: np.ndarray) -> tuple[float, float]:
        """Percentile interval of the threshold over resampled normals and anomalies."""
        rng = np.random.default_rng(0)
        thresholds = []
        for _ in range(RESAMPLES):
            try:
                thresholds.append(self._threshold(*(resampled(part, rng) for part in (normal, anomalous))))
            except DataError:  # a resample can be degenerate where the scores are not
                continue
        if not thresholds:
            return self.threshold_, self.threshold_
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(thresholds, [tail, 1 - tail])
        return float(low), float(high)


def resampled(ordered: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A bootstrap sample of sorted values, sorted."""
    n = len(ordered)
    return np.repeat(ordered, np.bincount(rng.integers(0, n, n), minlength=n)) if n else ordered


def check_share(name: str, value: float) -> float:
    """A number strictly between 0 and 1."""
    if not 0 < value < 1:
        raise DataError(f"{name} must lie between 0 and 1, got {value:g}")
    return float(value)


class OrderStatistic(Method):
    """A method whose threshold is the k-th smallest normal score, whatever the scores' distribution.

    The share of new normals above it is then Beta(n + 1 - k, k) over the draw of the normals (at most, with ties).
    """

    def __init__(self, rate: float = 0.05) -> None:
        self.rate: float = check_share("rate", rate)

    def _false_alarms(self, normal: np.ndarray) -> tuple[float, float, float]:
        above = len(normal) - np.searchsorted(normal, self.threshold_, side="right")
        rate, low, high = exceedance(above, len(normal))
        return float(rate), float(low), float(high)


@CALIBRATION_METHODS.register("quantile")
class Quantile(OrderStatistic):
    """The smallest threshold that at most a share ``rate`` of the held-out normals lies above.

    It promises the rate on those normals; on new ones the expected rate is higher, by up to 1 / (n + 1).
    """

    name = "quantile"

    def _threshold(self, normal: np.ndarray, anomalous: np.ndarray) -> float:
        return float(normal[len(normal) - 1 - math.floor(self.rate * len(normal) + 1e-9)])


@CALIBRATION_METHODS.register("conformal")
class Conformal(OrderStatistic):
    """A new normal is flagged with probability at most ``rate``, in finite samples, for any distribution.

    With ``delta``, stronger: for all but a share ``delta`` of the draws of held-out normals, the false-alarm rate
    that these very normals lead to is at most ``rate``.

    References
    ----------
    Testing for Outliers with Conformal p-values (Bates et al., 2023), https://arxiv.org/abs/2104.08279
    """

    name = "conformal"

    def __init__(self, rate: float = 0.05, delta: float | None = None) -> None:
        super().__init__(rate)
        self.delta = None if delta is None else check_share("delta", delta)

    def _threshold(self, normal: np.ndarray, anomalous: np.ndarray) -> float:
        if self.delta is None:
            return conformal.threshold(normal, self.rate, self.name)
        return float(normal[len(normal) - conditional_rank(len(normal), self.rate, self.delta)])


@lru_cache(maxsize=64)
def conditional_rank(n: int, rate: float, delta: float) -> int:
    """Flag what scores above the how many-th largest of n normals, to keep this rate for all but ``delta``."""
    p = conformal.conditional(np.arange(1, n + 2) / (n + 1), n, delta)
    rank = int((p <= rate).sum())
    if rank == 0:
        raise DataError(
            f"conformal: {n} held-out normals cannot promise a rate of {rate:g} for all but {delta:g} of their draws: "
            f"give more, ask for {p[0]:.3g} or above, or leave out delta"
        )
    return rank


@CALIBRATION_METHODS.register("pot")
class PeaksOverThreshold(Method):
    """The level that a generalised-Pareto tail puts at ``rate``, for rates rarer than the data shows.

    A model, not a promise: it holds as far as the tail fits, which a Cramer-von Mises test checks.

    References
    ----------
    Anomaly Detection in Streams with Extreme Value Theory (Siffer et al., 2017), doi:10.1145/3097983.3098144
    """

    name = "pot"

    def __init__(self, rate: float = 0.001) -> None:
        self.rate: float = check_share("rate", rate)

    def _threshold(self, normal: np.ndarray, anomalous: np.ndarray) -> float:
        tail = tails.fit_tail(normal)
        if self.rate >= tail.n_tail / tail.n:
            raise DataError(
                f"pot: a rate of {self.rate:g} is inside the data (the tail is its last {tail.n_tail / tail.n:.1%}): "
                "use conformal or quantile"
            )
        return tail.level(self.rate)

    def _note(self, normal: np.ndarray) -> str | None:
        p = tails.goodness_of_fit(tails.fit_tail(normal), normal)
        return f"the tail fits a generalised Pareto law badly (p = {p:.3f})" if p < 0.05 else None


@CALIBRATION_METHODS.register("contamination")
class Contamination(Method):
    """The share ``rate`` of the scores given is flagged, normals and anomalies alike, as scikit-learn defines it."""

    name = "contamination"

    def __init__(self, rate: float = 0.1) -> None:
        if not 0 < rate <= 0.5:
            raise DataError(f"contamination: rate must lie in (0, 0.5], got {rate:g}")
        self.rate: float = float(rate)

    def _threshold(self, normal: np.ndarray, anomalous: np.ndarray) -> float:
        return -float(np.percentile(-np.concatenate([normal, anomalous]), 100 * self.rate))


class Optimum(Method):
    """A method that maximises a criterion of (false-alarm rate, detection rate) over the scores given.

    Of several best thresholds it takes the highest. The rates it reports are on the scores it was chosen by, and so a
    little flattering.
    """

    needs_anomalies = True

    def _criterion(self, alarms: np.ndarray, detections: np.ndarray, n: int, m: int) -> np.ndarray:
        """To be maximised; rates among ``n`` normals and ``m`` anomalies at each threshold."""
        raise NotImplementedError

    def _threshold(self, normal: np.ndarray, anomalous: np.ndarray) -> float:
        scores = np.unique(np.concatenate([normal, anomalous]))
        candidates = np.concatenate([[np.nextafter(scores[0], -np.inf)], scores])
        n, m = len(normal), len(anomalous)
        alarms = 1 - np.searchsorted(normal, candidates, side="right") / n
        detections = 1 - np.searchsorted(anomalous, candidates, side="right") / m
        value = self._criterion(alarms, detections, n, m)
        return float(candidates[len(value) - 1 - int(np.argmax(value[::-1]))])


@CALIBRATION_METHODS.register("youden")
class Youden(Optimum):
    """Largest detection rate minus false-alarm rate (Youden, 1950)."""

    name = "youden"

    def _criterion(self, alarms: np.ndarray, detections: np.ndarray, n: int, m: int) -> np.ndarray:
        difference: np.ndarray = detections - alarms
        return difference


@CALIBRATION_METHODS.register("f_beta")
class FBeta(Optimum):
    """Largest F score, in which recall weighs ``beta`` times as much as precision, at the share of anomalies given."""

    name = "f_beta"

    def __init__(self, beta: float = 1.0) -> None:
        if not 0 < beta < math.inf:
            raise DataError(f"f_beta: beta must be a number above 0, got {beta:g}")
        self.beta = beta

    def _criterion(self, alarms: np.ndarray, detections: np.ndarray, n: int, m: int) -> np.ndarray:
        b2 = self.beta**2
        score: np.ndarray = (1 + b2) * m * detections / (m * detections + n * alarms + b2 * m)
        return score


@CALIBRATION_METHODS.register("cost")
class Cost(Optimum):
    """Smallest expected cost of a sample: ``miss`` for an anomaly not flagged, ``false_alarm`` for a normal flagged.

    Parameters
    ----------
    miss, false_alarm
        Costs, in one unit.
    prevalence
        Share of anomalies among the samples to come; None: as among those given.
    """

    name = "cost"

    def __init__(self, miss: float = 1.0, false_alarm: float = 1.0, prevalence: float | None = None) -> None:
        if not (0 < miss < math.inf and 0 < false_alarm < math.inf):
            raise DataError(f"cost: costs must be numbers above 0, got {miss:g} and {false_alarm:g}")
        self.miss, self.false_alarm = miss, false_alarm
        self.prevalence = None if prevalence is None else check_share("prevalence", prevalence)

    def _criterion(self, alarms: np.ndarray, detections: np.ndarray, n: int, m: int) -> np.ndarray:
        share = m / (n + m) if self.prevalence is None else self.prevalence
        return -(share * self.miss * (1 - detections) + (1 - share) * self.false_alarm * alarms)


@CALIBRATION_METHODS.register("fixed_tpr")
class FixedTPR(Method):
    """The highest threshold that at least a share ``rate`` of the given anomalies lies above."""

    name = "fixed_tpr"
    needs_anomalies = True

    def __init__(self, rate: float = 0.95) -> None:
        self.rate: float = check_share("rate", rate)

    def _threshold(self, normal: np.ndarray, anomalous: np.ndarray) -> float:
        lowest = anomalous[len(anomalous) - math.ceil(self.rate * len(anomalous) - 1e-9)]
        below = np.concatenate([normal, anomalous])
        below = below[below < lowest]
        return float(below.max()) if len(below) else float(np.nextafter(lowest, -np.inf))


@CALIBRATION_METHODS.register("fixed_fpr")
class FixedFPR(Quantile):
    """The smallest threshold that at most a share ``rate`` of the given normals lies above, with the detection rate."""

    name = "fixed_fpr"
    needs_anomalies = True


def promised_alarms(calibration: Calibration, n_new: int) -> tuple[float, float] | None:
    """Interval for the share of ``n_new`` new normals that the threshold flags; None where the method promises none.

    For a threshold at the k-th smallest of n scores the count is beta-binomial, over the draw of both samples: wider
    than the interval of the rate itself, which new samples only estimate.
    """
    if not issubclass(CALIBRATION_METHODS[calibration.method], OrderStatistic):
        return None
    n = calibration.n_normal
    above = round(calibration.false_alarm_rate * (n + 1))
    tail = (1 - CONFIDENCE) / 2
    low, high = betabinom.ppf([tail, 1 - tail], n_new, above, n + 1 - above)
    return float(low) / n_new, float(high) / n_new


def calibrate(method: str, scores: np.ndarray, labels: np.ndarray | None = None, **options: Any) -> Calibration:
    """Fit the named method; its options are its constructor's.

    Raises
    ------
    DataError
        If the method is unknown or does not take an option, and as its ``fit``.
    """
    if method not in CALIBRATION_METHODS:
        raise DataError(f"method must be one of {', '.join(CALIBRATION_METHODS)}, got {method!r}")
    try:
        chosen = CALIBRATION_METHODS[method](**options)
    except TypeError as error:
        raise DataError(f"method {method!r} does not take {', '.join(options)}: {error}") from error
    return chosen.fit(scores, labels).calibration_
