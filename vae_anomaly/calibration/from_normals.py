r"""Thresholds from scores of held-out normals alone, without a model of their distribution.

Of n held-out normals take the k-th smallest score as threshold. With :math:`U = F(s_{(k)})` for the distribution
function F of the scores, U is the k-th order statistic of n uniform numbers, whatever F is, so the share of new normals
above it, 1 - U, follows Beta(n + 1 - k, k) over the draw of the held-out normals (it is at most that, with ties). The
number of false alarms among m new normals is then beta-binomial with these parameters.

The methods differ in k. `Quantile` takes the smallest that keeps the rate among the n scores themselves. `Conformal`
takes the smallest that keeps the expected rate, (n + 1 - k) / (n + 1); with ``delta`` it takes the smallest for which
the beta law is at most the rate with probability 1 - ``delta``. That is exact for the one threshold that is set.
`conformal.conditional` adjusts p-values so that *all* thresholds hold at once, which costs more: with ``delta`` a
sample may be flagged though its adjusted p-value is above the rate, and never the other way round.

References
----------
Order Statistics (David & Nagaraja, 2003), doi:10.1002/0471722162
Testing for Outliers with Conformal p-values (Bates et al., 2023), https://arxiv.org/abs/2104.08279
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy.special import betainc

from vae_anomaly.calibration import conformal
from vae_anomaly.calibration.intervals import TAIL, exceedance, quantile_interval
from vae_anomaly.calibration.methods import Method, around, check_share
from vae_anomaly.calibration.result import Calibration
from vae_anomaly.errors import DataError
from vae_anomaly.registry import CALIBRATION_METHODS


class OrderStatistic(Method):
    """A method whose threshold is the k-th smallest normal score."""

    def __init__(self, rate: float = 0.05) -> None:
        self.rate: float = check_share("rate", rate)

    def expected_false_alarms(self, normal: np.ndarray) -> tuple[float, float, float]:
        """Mean of the beta law of the share of new normals above the threshold, with its interval."""
        above = len(normal) - np.searchsorted(normal, self.threshold_, side="right")
        rate, low, high = exceedance(above, len(normal))
        return float(rate), float(low), float(high)

    def threshold_interval(self, normal: np.ndarray, anomalous: np.ndarray) -> tuple[float | None, float | None]:
        """Interval of the score that exactly the rate wanted of all normals lies above."""
        return around(quantile_interval(normal, 1 - self.level_of_threshold(len(normal))), self.threshold_)

    def level_of_threshold(self, n: int) -> float:
        """Share of all normals that the threshold from ``n`` of them estimates the upper quantile of."""
        return self.rate

    @staticmethod
    def promised_false_alarms(calibration: Calibration, n_new: int) -> tuple[float, float]:
        """Interval of the beta-binomial share, over the draw of both samples.

        It is wider than that of the rate itself, which new samples only estimate.
        """
        from scipy.stats import betabinom  # delayed: its import takes longer than to choose a threshold

        n = calibration.n_normal
        above = min(max(1, round(calibration.false_alarm_rate * (n + 1))), n)  # as it is for any threshold of these
        low, high = betabinom.ppf([TAIL, 1 - TAIL], n_new, above, n + 1 - above)
        return float(low) / n_new, float(high) / n_new


@CALIBRATION_METHODS.register(
    "conformal",
    parameters={
        "rate": (0.05, "the largest probability of a false alarm"),
        "delta": (None, "the rate shall hold for all but this share of the draws of held-out normals"),
    },
    promise="a new normal is flagged with probability at most {rate}",
    promise_if_nearly="a new normal is flagged with a probability near {rate}",
    promise_with_delta=(
        "a new normal is flagged with probability at most {rate}, for all but {delta} of the draws of held-out normals"
    ),
)
class Conformal(OrderStatistic):
    """A new normal is flagged with probability at most ``rate``, in finite samples, for any distribution.

    With ``delta``, stronger: for all but a share ``delta`` of the draws of held-out normals, the false-alarm rate
    that these very normals lead to is at most ``rate``.

    References
    ----------
    Testing for Outliers with Conformal p-values (Bates et al., 2023), https://arxiv.org/abs/2104.08279
    """

    def __init__(self, rate: float = 0.05, delta: float | None = None) -> None:
        super().__init__(rate)
        self.delta = None if delta is None else check_share("delta", delta)

    def choose_threshold(self, normal: np.ndarray, anomalous: np.ndarray) -> float:
        if self.delta is None:
            return conformal.threshold(normal, self.rate, self.name)
        return float(normal[len(normal) - conditional_rank(len(normal), self.rate, self.delta)])

    def level_of_threshold(self, n: int) -> float:
        if self.delta is None:
            return self.rate
        return conditional_rank(n, self.rate, self.delta) / (n + 1)


@lru_cache(maxsize=64)
def conditional_rank(n: int, rate: float, delta: float) -> int:
    """The largest r such that flagging what lies above the r-th largest of n normals keeps the rate for all but delta.

    The share of new normals above it follows Beta(r, n + 1 - r), which is at most ``rate`` with a probability that
    falls as r grows.

    Raises
    ------
    DataError
        If there are too few normals for any.
    """
    r = np.arange(1, n + 1)
    rank = int((betainc(r, n + 1 - r, rate) >= 1 - delta - 1e-12).sum())
    if rank == 0:
        needed = math.ceil(math.log(delta) / math.log1p(-rate) - 1e-9)
        raise DataError(
            f"conformal: {n} held-out normals cannot promise a rate of {rate:g} for all but {delta:g} of their draws, "
            f"which takes {needed}: give more, ask for {1 - delta ** (1 / n):.3g} or above, or leave out delta"
        )
    return rank


@CALIBRATION_METHODS.register(
    "quantile",
    parameters={"rate": (0.05, "the share of held-out normals above the threshold")},
    promise="at most {rate} of the held-out normals score above it",
)
class Quantile(OrderStatistic):
    """Smallest threshold above which at most a share ``rate`` of the held-out normals lies.

    It promises the rate on those normals; on new ones the expected rate is higher, by up to 1 / (n + 1).
    """

    def choose_threshold(self, normal: np.ndarray, anomalous: np.ndarray) -> float:
        return float(normal[len(normal) - 1 - math.floor(self.rate * len(normal) + 1e-9)])


@CALIBRATION_METHODS.register(
    "contamination",
    parameters={"rate": (0.1, "the share of all samples that is flagged, at most 0.5")},
    promise="flags {rate} of the {n_samples} samples that it was fitted on",
)
class Contamination(Method):
    """The share ``rate`` of the scores given is flagged, normals and anomalies alike, as scikit-learn defines it.

    Where scores are tied, the share that can be flagged and is nearest to it, of at least one sample if they differ.
    """

    def __init__(self, rate: float = 0.1) -> None:
        if not 0 < rate <= 0.5:
            raise DataError(f"contamination: rate must lie in (0, 0.5], got {rate:g}")
        self.rate: float = float(rate)

    def choose_threshold(self, normal: np.ndarray, anomalous: np.ndarray) -> float:
        scores = np.sort(np.concatenate([normal, anomalous]))
        threshold = -float(np.percentile(-scores, 100 * self.rate))
        wanted = self.rate * len(scores)
        if abs((scores > threshold).sum() - wanted) < 1:
            return threshold
        levels = np.unique(scores)
        flagged = len(scores) - np.searchsorted(scores, levels, side="right")
        levels, flagged = (values[: max(1, len(levels) - 1)] for values in (levels, flagged))
        return float(levels[np.argmin(np.abs(flagged - wanted))])

    def warning(self, normal: np.ndarray) -> str | None:
        """Whether ties keep the share from being flagged, where all scores are of presumed normals."""
        flagged = int((normal > self.threshold_).sum())
        if abs(flagged - self.rate * len(normal)) < 1:
            return None
        share = flagged / len(normal)
        return f"scores are tied: {flagged:,} of {len(normal):,} samples are flagged, a share of {share:.3g}"

    def threshold_interval(self, normal: np.ndarray, anomalous: np.ndarray) -> tuple[float | None, float | None]:
        """Interval of the score that exactly the share ``rate`` of all such samples lies above."""
        return around(quantile_interval(np.sort(np.concatenate([normal, anomalous])), 1 - self.rate), self.threshold_)
