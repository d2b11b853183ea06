r"""Whether the scores of presumed normals have moved.

Three views: the Kolmogorov-Smirnov distance and the population stability index, which compare two whole samples, and a
conformal test martingale, which watches scores as they arrive and may be stopped at any time.

*The distance* of two samples is biased upwards, and so is that of their resamples, whose intervals exclude the truth
where nothing has moved. By the inequality of Dvoretzky, Kiefer and Wolfowitz with Massart's constant each empirical
distribution function lies within :math:`\sqrt{\ln(4 / \alpha) / 2 n}` of its own with probability :math:`1 - \alpha /
2`, so the true distance lies within the sum of both of the one seen, for any distributions: the interval covers at
least 95 %, and mostly more.

*The index* is biased too: without drift it is near :math:`(B - 1)(1/m + 1/n)` for B bins. Exchanging scores between the
samples shows what it then is. The mean over the exchanges is subtracted, and beside the index stands the value that it
stays below in 95 % of them.

*The martingale* is a gambler's fortune: it bets that new scores will be higher, lower, more spread, less spread or
farther out than those before (`evaluation.martingale`). Without drift it ever reaches :math:`1/\alpha` with probability
at most :math:`\alpha`.

References
----------
The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality (Massart, 1990), doi:10.1214/aop/1176990746
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import ks_2samp

from vae_anomaly.calibration.conformal import finite_scores
from vae_anomaly.calibration.intervals import CONFIDENCE
from vae_anomaly.errors import DataError
from vae_anomaly.evaluation.martingale import log_martingale, online_p_values
from vae_anomaly.evaluation.result import Estimate

BINS = 10
EXCHANGES = 199  # of scores between the samples, to see the index without drift
RAREST = 1_000_000  # streams; evidence is not said to be rarer


@dataclass(frozen=True)
class Drift:
    """What `measure_drift` found.

    Parameters
    ----------
    ks, ks_p_value
        Largest distance between the two distribution functions, with an interval that covers at least 95 %, and the
        probability of one so large without drift.
    psi, psi_without_drift
        Population stability index over the reference's tenths less what chance gives it, at least 0, and the value that
        it exceeds without drift with a probability of 5 %; in nats.
    alarm, alarm_bound
        Row of the new scores at which the martingale first reached 1 / ``alarm_bound``, or None; without drift that
        happens, at any row, with probability at most ``alarm_bound``.
    log10_martingale
        Its largest value, as a power of ten.
    n_reference, n_new
        Sizes of the samples.
    """

    ks: Estimate
    ks_p_value: float
    psi: float
    psi_without_drift: float
    alarm: int | None
    alarm_bound: float
    log10_martingale: float
    n_reference: int
    n_new: int

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries and numbers, ready for JSON."""
        return asdict(self) | {"verdict": self.verdict}

    @property
    def verdict(self) -> str:
        """What follows from the martingale, in a sentence."""
        streams = 10 ** min(self.log10_martingale, math.log10(RAREST))
        if streams < 2 and self.alarm is None:
            return "no change is shown: any stream without one may look like this"
        if streams >= RAREST:
            chance = "in fewer than one of a million monitored streams"
        else:
            chance = f"in at most one of {streams_at_least(streams):,} monitored streams"
        says = "no change is shown" if self.alarm is None else "the scores have changed"
        return f"{says}: without a change, as much evidence for one would come {chance}"


def measure_drift(reference: np.ndarray, new: np.ndarray, *, alarm_bound: float = 0.01) -> Drift:
    """Compare the scores of presumed normals with those of a reference.

    Parameters
    ----------
    reference
        Anomaly scores ``(M,)`` of normals.
    new
        Anomaly scores ``(N,)`` of presumed normals, in the order in which they arrived.
    alarm_bound
        Probability of an alarm without drift, at most, over however long a stream.

    Raises
    ------
    DataError
        If scores are missing or not finite, or the bound does not lie between 0 and 1.
    """
    reference, new = finite_scores(reference, "reference"), finite_scores(new, "new scores")
    if not 0 < alarm_bound < 1:
        raise DataError(f"the bound on false alarms must lie between 0 and 1, got {alarm_bound:g}")
    rng = np.random.default_rng(0)
    ks = ks_2samp(reference, new)
    log_fortune = log_martingale(online_p_values(reference, new, rng))
    chance, largest = stability_index_without_drift(reference, new, rng)
    reached = np.flatnonzero(log_fortune >= -math.log(alarm_bound))
    return Drift(
        ks=distance_with_interval(reference, new),
        ks_p_value=float(ks.pvalue),
        psi=max(0.0, stability_index(reference, new) - chance),
        psi_without_drift=largest - chance,
        alarm=int(reached[0]) if len(reached) else None,
        alarm_bound=alarm_bound,
        log10_martingale=float(log_fortune.max() / math.log(10)),
        n_reference=len(reference),
        n_new=len(new),
    )


def streams_at_least(streams: float) -> int:
    """Rounded down to two significant digits, so that "one of so many" stays a bound."""
    unit: int = 10 ** max(0, math.floor(math.log10(streams)) - 1)
    return math.floor(streams / unit) * unit


def ks_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Largest distance between two empirical distribution functions."""
    a, b = np.sort(a), np.sort(b)
    both = np.concatenate([a, b])
    shares = (np.searchsorted(part, both, side="right") / len(part) for part in (a, b))
    return float(np.abs(np.subtract(*shares)).max())


def distance_with_interval(a: np.ndarray, b: np.ndarray) -> Estimate:
    """Largest distance between two distribution functions, as far as their samples ``(m,)`` and ``(n,)`` show it."""
    distance = ks_distance(a, b)
    margin = sum(math.sqrt(math.log(4 / (1 - CONFIDENCE)) / (2 * len(part))) for part in (a, b))
    return Estimate(distance, max(0.0, distance - margin), min(1.0, distance + margin))


def stability_index_without_drift(
    reference: np.ndarray, new: np.ndarray, rng: np.random.Generator
) -> tuple[float, float]:
    """Mean and 95 % quantile of the index over random exchanges of scores between the samples."""
    both = np.sort(np.concatenate([reference, new]))
    indices = []
    for _ in range(EXCHANGES):
        first = np.zeros(len(both), dtype=bool)
        first[rng.choice(len(both), len(reference), replace=False, shuffle=False)] = True
        indices.append(stability_index(both[first], both[~first]))
    # the 190th of 199, so that the 200th, the one seen, is larger with a probability of at most 5 %
    return float(np.mean(indices)), float(np.sort(indices)[round(CONFIDENCE * (EXCHANGES + 1)) - 1])


def stability_index(reference: np.ndarray, new: np.ndarray) -> float:
    r"""Population stability index :math:`\sum (q - p) \log(q / p)` over the reference's tenths.

    Half a sample is added to each bin, so that an empty one does not make it infinite.
    """
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, BINS + 1)[1:-1]))
    p, q = (
        (np.bincount(np.searchsorted(edges, part), minlength=len(edges) + 1) + 0.5)
        / (len(part) + 0.5 * (len(edges) + 1))
        for part in (reference, new)
    )
    return float(np.sum((q - p) * np.log(q / p)))
