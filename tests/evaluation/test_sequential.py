"""The false-alarm rate of a stream: covered at every row at once."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import beta, binom

from vae_anomaly.calibration.intervals import clopper_pearson_bounds
from vae_anomaly.errors import DataError
from vae_anomaly.evaluation import sequential_rate
from vae_anomaly.evaluation.sequential import log_evidence, sequential_bounds


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.05, 0.3])
def test_the_truth_is_covered_after_every_row_at_once_where_the_exact_interval_is_not(rate: float) -> None:
    rng, rows = np.random.default_rng(0), np.arange(1, 2001)
    k = (rng.random((400, 2000)) < rate).cumsum(axis=1)
    covered = log_evidence(rate, k, rows) < np.log(20)
    assert covered.all(axis=1).mean() >= 0.95 - 0.01
    some = slice(9, None, 40)
    low, high = sequential_bounds(k[:, some], rows[some])
    np.testing.assert_array_equal((low < rate) & (rate < high), covered[:, some])
    if rate >= 0.05:
        low, high = clopper_pearson_bounds(k[:, some], rows[some])
        assert ((low <= rate) & (rate <= high)).all(axis=1).mean() < 0.85


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 50), (3, 50), (50, 50), (7, 1_000_000)])
def test_the_ends_are_where_the_evidence_reaches_its_bound(k: int, n: int) -> None:
    low, high = sequential_bounds(k, n)
    assert 0 <= low <= k / n <= high <= 1
    for end in (low, high):
        if 0 < end < 1:
            assert log_evidence(end, np.array(k), np.array(n)) == pytest.approx(np.log(20), abs=1e-6)
    exact = clopper_pearson_bounds(k, n)
    assert low <= exact[0] + 1e-9
    assert exact[1] - 1e-9 <= high


def test_the_evidence_is_the_mixture_of_likelihoods_and_a_fair_game() -> None:
    k, n, p = 3, 12, 0.1
    mixture = quad(lambda q: (q / p) ** k * ((1 - q) / (1 - p)) ** (n - k) * beta.pdf(q, 0.5, 0.5), 0, 1)[0]
    assert np.exp(log_evidence(p, np.array(k), np.array(n))) == pytest.approx(mixture, rel=1e-6)
    counts = np.arange(n + 1)
    assert (binom.pmf(counts, n, p) * np.exp(log_evidence(p, counts, np.full(n + 1, n)))).sum() == pytest.approx(1)


def test_a_rate_above_the_expected_one_is_noticed_and_its_row_is_named() -> None:
    rng = np.random.default_rng(1)
    flagged = rng.random(3000) < 0.1
    found = sequential_rate(flagged, 0.05)
    assert found.exceeds_at is not None
    row = found.exceeds_at
    assert sequential_rate(flagged[: row + 1]).rate.low >= 0.05
    assert sequential_rate(flagged[:row]).rate.low < 0.05
    assert (found.n, found.n_flagged) == (3000, flagged.sum())
    assert sequential_rate(flagged, 0.2).exceeds_at is None
    assert json.loads(json.dumps(found.to_dict()))["rate"]["value"] == flagged.mean()


def test_what_is_no_stream_of_decisions_is_refused() -> None:
    with pytest.raises(DataError, match=r"needs a vector of at least one bool, got shape \(0,\) and type bool"):
        sequential_rate(np.empty(0, dtype=bool))
    with pytest.raises(DataError, match=r"got shape \(2,\) and type float64"):
        sequential_rate(np.zeros(2))
    with pytest.raises(DataError, match="must lie above 0 and be at most 1, got 0"):
        sequential_rate(np.ones(2, dtype=bool), 0)
