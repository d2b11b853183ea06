"""How large steps are, and when training stops: the formulas of the module, at their ends and in between."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae_anomaly.fitting.schedule import is_over, trapezoid, variance_weight


def test_the_rate_warms_up_stays_and_falls() -> None:
    factors = [trapezoid(step, 100) for step in range(100)]
    assert factors[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert set(factors[10:70]) == {1.0}
    assert factors[70:] == pytest.approx(np.arange(30, 0, -1) / 30)


@given(total=st.integers(1, 10_000), data=st.data())
def test_the_rate_never_exceeds_its_peak_and_is_never_zero(total: int, data: st.DataObject) -> None:
    assert 0 < trapezoid(data.draw(st.integers(0, total - 1)), total) <= 1


def test_the_variance_is_a_mean_at_first_and_forgets_later() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=400)
    variance = 1.0  # what it starts at has no weight
    for step, value in enumerate(values):
        variance += variance_weight(step) * (value - variance)
        if step == 49:
            assert variance == pytest.approx(values[:50].mean())
    weights = 0.02 * 0.98 ** np.arange(350)[::-1]
    assert variance == pytest.approx(weights @ values[50:] + 0.98**350 * values[:50].mean())


@pytest.mark.parametrize(
    ("n_epochs", "best", "over"),
    [
        (0, 0, False),
        (8, 3, False),  # five epochs since the best, but three since the warm-up
        (15, 10, True),
        (15, 11, False),
        (15, 3, True),
        (14, 3, False),
        (99, 99, False),
        (100, 100, True),
    ],
)
def test_training_stops_when_patience_is_over_or_all_epochs_are(n_epochs: int, best: int, over: bool) -> None:
    assert is_over(n_epochs, best, epochs=100, patience=5) is over
