"""The promised false-alarm rate, by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from vae_anomaly.calibration import conformal
from vae_anomaly.errors import DataError


@pytest.mark.parametrize("n", [19, 20, 100, 1000])
@pytest.mark.parametrize("rate", [0.05, 0.2])
@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, size: rng.normal(size=size),
        lambda rng, size: rng.standard_cauchy(size=size),
        lambda rng, size: rng.integers(0, 5, size=size).astype(float),
    ],
    ids=["normal", "cauchy", "ties"],
)
def test_false_alarms_stay_under_the_promise(n: int, rate: float, draw) -> None:
    rng = np.random.default_rng(n)
    repeats = 4000
    scores, new = draw(rng, (repeats, n)), draw(rng, repeats)
    alarms = np.mean([x > conformal(s, rate).threshold for s, x in zip(scores, new, strict=True)])
    error = np.sqrt(rate * (1 - rate) / repeats)
    assert alarms <= rate + 3 * error


def test_the_promise_is_not_idle() -> None:
    rng = np.random.default_rng(0)
    alarms = np.mean([rng.normal() > conformal(rng.normal(size=999), 0.05).threshold for _ in range(4000)])
    assert alarms == pytest.approx(0.05, abs=0.012)


@pytest.mark.parametrize(
    ("n", "rate", "k"), [(19, 0.05, 19), (99, 0.05, 95), (100, 0.05, 96), (9, 0.1, 9), (99, 0.01, 99)]
)
def test_threshold_is_the_conformal_quantile(n: int, rate: float, k: int) -> None:
    calibration = conformal(np.arange(1.0, n + 1)[::-1], rate)
    assert calibration.threshold == k
    assert calibration.rate == rate
    assert calibration.n == n


def test_too_few_normals_promise_what_they_can() -> None:
    calibration = conformal(np.array([3.0, 1.0, 2.0]), 0.05)
    assert calibration.threshold == 3
    assert calibration.rate == 0.25


@pytest.mark.parametrize("scores", [[], [1.0, np.nan], [np.inf]])
def test_scores_must_be_finite_and_some(scores: list[float]) -> None:
    with pytest.raises(DataError, match="finite scores of held-out normals"):
        conformal(np.array(scores), 0.05)
