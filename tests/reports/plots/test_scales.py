"""An axis keeps the order of values, and its ticks have room."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_anomaly.reports.plots.scales import scale_of


@settings(max_examples=50)
@given(st.lists(st.floats(-1e7, 1e7), min_size=1, max_size=30), st.lists(st.floats(-1e9, 1e9), max_size=30))
def test_a_scale_has_an_inverse_and_keeps_order(normal: list[float], others: list[float]) -> None:
    scale = scale_of(np.array(normal), [np.array(others)])
    assert scale.low < scale.high
    grid = scale.grid(30)
    assert (np.diff(grid) > 0).all()
    np.testing.assert_allclose(scale.inverse(scale.forward(grid)), grid, rtol=1e-6, atol=1e-9 * np.ptp(grid))
    inside = [scale.low <= value <= scale.high for value in normal]
    assert np.mean(inside) >= 0.9
    if scale.width is not None:
        ticks = np.array(scale.ticks())
        assert (scale.low <= ticks).all()
        assert (ticks <= scale.high).all()
        assert len(ticks) >= 3
        assert np.diff(scale.forward(ticks)).min() > 0.05 * np.ptp(scale.forward(grid))  # room for a number
