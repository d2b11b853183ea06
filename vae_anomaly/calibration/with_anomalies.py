r"""Thresholds from scores of normals and of some labelled anomalies.

Two fix one rate and report the other. Three maximise a criterion of the false-alarm rate a and the detection rate d
over all thresholds that the scores allow:

- Youden's index :math:`d - a`;
- the F score :math:`(1 + \beta^2)\,m d / (m d + n a + \beta^2 m)`, for m anomalies and n normals;
- the negative expected cost :math:`-\pi c_\text{miss}(1 - d) - (1 - \pi) c_\text{alarm} a`, for a share :math:`\pi` of
  anomalies to come.

*The rates to expect.* A threshold suits the samples that chose it better than new ones. With ten anomalies Youden's
index finds some ten points more of them than of others. So the rates of a criterion's threshold are cross-validated:
thresholds chosen by nine tenths of the samples are counted on the last. Their intervals are bounds on the distribution
functions that hold at all thresholds at once, and so at the one that was chosen. A fixed detection rate puts the
threshold just below the k-th largest of m anomalies, above which new ones lie with probability k / (m + 1). A fixed
false-alarm rate is set by the normals alone, so the anomalies are new to it.

References
----------
Index for rating diagnostic tests (Youden, 1950)
Information Retrieval (van Rijsbergen, 1979), for the F score
"""

from __future__ import annotations

import math

import numpy as np

from vae_anomaly.calibration.from_normals import Quantile
from vae_anomaly.calibration.intervals import clopper_pearson, quantile_interval, simultaneous_bounds
from vae_anomaly.calibration.methods import Method, around, check_share
from vae_anomaly.errors import DataError
from vae_anomaly.registry import CALIBRATION_METHODS

FOLDS = 10


@CALIBRATION_METHODS.register(
    "fixed_fpr",
    parameters={"rate": (0.05, "the share of labelled normals above the threshold")},
    promise="at most {rate} of the labelled normals score above it",
    needs_anomalies=True,
)
class FixedFPR(Quantile):
    """Smallest threshold above which at most a share ``rate`` of the given normals lies, with the detection rate."""


@CALIBRATION_METHODS.register(
    "fixed_tpr",
    parameters={"rate": (0.95, "the share of labelled anomalies above the threshold")},
    promise="at least {rate} of the labelled anomalies score above it",
    needs_anomalies=True,
)
class FixedTPR(Method):
    """Highest threshold above which at least a share ``rate`` of the given anomalies lies."""

    def __init__(self, rate: float = 0.95) -> None:
        self.rate: float = check_share("rate", rate)

    def choose_threshold(self, normal: np.ndarray, anomalous: np.ndarray) -> float:
        lowest = anomalous[len(anomalous) - math.ceil(self.rate * len(anomalous) - 1e-9)]
        below = np.concatenate([normal, anomalous])
        below = below[below < lowest]
        return float(below.max()) if len(below) else float(np.nextafter(lowest, -np.inf))

    def expected_detections(self, anomalous: np.ndarray) -> tuple[float, float, float]:
        """The mean k / (m + 1) of the beta law of the share of new anomalies above the k-th largest of m."""
        k, m = int((anomalous > self.threshold_).sum()), len(anomalous)
        _, low, high = clopper_pearson(k, m)
        return k / (m + 1), low, high

    def basis(self, anomalous: np.ndarray) -> str | None:
        return f"detection is k / (m + 1) for the k-th largest of {len(anomalous):,} anomalies, which set the threshold"

    def threshold_interval(self, normal: np.ndarray, anomalous: np.ndarray) -> tuple[float | None, float | None]:
        """Interval of the score that exactly the share ``rate`` of all anomalies lies above."""
        return around(quantile_interval(anomalous, 1 - self.rate), self.threshold_)


class Optimum(Method):
    """A method that maximises a criterion of (false-alarm rate, detection rate) over the scores given.

    Of several best thresholds it takes the highest. The rates to expect are cross-validated. There is no interval of
    the threshold: where a criterion is largest is no average of samples, and resamples do not show how it varies.

    References
    ----------
    Cube root asymptotics (Kim & Pollard, 1990), doi:10.1214/aos/1176347498
    """

    def criterion(self, alarms: np.ndarray, detections: np.ndarray, n: int, m: int) -> np.ndarray:
        """What to maximise, ``(K,)``, from the rates ``(K,)`` at K thresholds of ``n`` normals and ``m`` anomalies."""
        raise NotImplementedError

    def choose_threshold(self, normal: np.ndarray, anomalous: np.ndarray) -> float:
        scores = np.unique(np.concatenate([normal, anomalous]))
        candidates = np.concatenate([[np.nextafter(scores[0], -np.inf)], scores])
        n, m = len(normal), len(anomalous)
        alarms = 1 - np.searchsorted(normal, candidates, side="right") / n
        detections = 1 - np.searchsorted(anomalous, candidates, side="right") / m
        value = self.criterion(alarms, detections, n, m)
        return float(candidates[len(value) - 1 - int(np.argmax(value[::-1]))])

    def expected_rates(
        self, normal: np.ndarray, anomalous: np.ndarray
    ) -> tuple[tuple[float, float, float], tuple[float, float, float] | tuple[None, None, None]]:
        """Both rates by cross-validation, each with an interval that holds for whatever threshold was chosen.

        With one normal or one anomaly nothing would be left to choose by, and the rates are (k + 1) / (n + 1) of the
        normals and k / (m + 1) of the anomalies.
        """
        n, m = len(normal), len(anomalous)
        alarms, found = (int((part > self.threshold_).sum()) for part in (normal, anomalous))
        few = min(n, m) < 2
        rates = ((alarms + 1) / (n + 1), found / (m + 1)) if few else self.cross_validated(normal, anomalous)
        return chosen_share(rates[0], alarms, n), chosen_share(rates[1], found, m)

    def basis(self, anomalous: np.ndarray) -> str | None:
        """How the rates to expect were found."""
        if len(anomalous) < 2:
            return "the rates are (k + 1) / (n + 1) and k / (m + 1), as the threshold was chosen by the same samples"
        return f"the rates are cross-validated in {FOLDS} folds, as the threshold was chosen by the same samples"

    def cross_validated(self, normal: np.ndarray, anomalous: np.ndarray) -> tuple[float, float]:
        """Shares of the normals and of the anomalies above thresholds that the other folds choose."""
        rng = np.random.default_rng(0)
        folds = [rng.permutation(len(part)) % min(FOLDS, len(part)) for part in (normal, anomalous)]
        alarms = found = 0
        for fold in range(FOLDS):
            out = [which == fold for which in folds]
            threshold = self.choose_threshold(normal[~out[0]], anomalous[~out[1]])
            alarms += int((normal[out[0]] > threshold).sum())
            found += int((anomalous[out[1]] > threshold).sum())
        return alarms / len(normal), found / len(anomalous)


def chosen_share(value: float, k: int, n: int) -> tuple[float, float, float]:
    """A share with bounds that hold for any threshold that the n samples chose, k of them above it."""
    low, high = simultaneous_bounds(k, n)
    return value, min(value, float(low)), max(value, float(high))


@CALIBRATION_METHODS.register(
    "youden",
    parameters={},
    promise="the threshold that this criterion finds best for the labelled samples",
    needs_anomalies=True,
)
class Youden(Optimum):
    """Largest detection rate minus false-alarm rate (Youden, 1950)."""

    def criterion(self, alarms: np.ndarray, detections: np.ndarray, n: int, m: int) -> np.ndarray:
        difference: np.ndarray = detections - alarms
        return difference


@CALIBRATION_METHODS.register(
    "f_beta",
    parameters={"beta": (1.0, "how much recall weighs against precision")},
    promise="the threshold that this criterion finds best for the labelled samples",
    needs_anomalies=True,
)
class FBeta(Optimum):
    """Largest F score, in which recall weighs ``beta`` times as much as precision, at the share of anomalies given."""

    def __init__(self, beta: float = 1.0) -> None:
        if not 0 < beta < math.inf:
            raise DataError(f"f_beta: beta must be a number above 0, got {beta:g}")
        self.beta = beta

    def criterion(self, alarms: np.ndarray, detections: np.ndarray, n: int, m: int) -> np.ndarray:
        b2 = self.beta**2
        score: np.ndarray = (1 + b2) * m * detections / (m * detections + n * alarms + b2 * m)
        return score


@CALIBRATION_METHODS.register(
    "cost",
    parameters={
        "miss": (1.0, "cost of an anomaly that is not flagged"),
        "false_alarm": (1.0, "cost of a normal that is flagged"),
        "prevalence": (None, "share of anomalies among new samples, if it differs from that among the labelled ones"),
    },
    promise="the threshold that this criterion finds best for the labelled samples",
    needs_anomalies=True,
)
class Cost(Optimum):
    """Smallest expected cost of a sample: ``miss`` for an anomaly not flagged, ``false_alarm`` for a normal flagged.

    Parameters
    ----------
    miss, false_alarm
        Costs, in one unit.
    prevalence
        Share of anomalies among the samples to come; None: as among those given.
    """

    def __init__(self, miss: float = 1.0, false_alarm: float = 1.0, prevalence: float | None = None) -> None:
        if not (0 < miss < math.inf and 0 < false_alarm < math.inf):
            raise DataError(f"cost: costs must be numbers above 0, got {miss:g} and {false_alarm:g}")
        self.miss, self.false_alarm = miss, false_alarm
        self.prevalence = None if prevalence is None else check_share("prevalence", prevalence)

    def criterion(self, alarms: np.ndarray, detections: np.ndarray, n: int, m: int) -> np.ndarray:
        share = m / (n + m) if self.prevalence is None else self.prevalence
        return -(share * self.miss * (1 - detections) + (1 - share) * self.false_alarm * alarms)
