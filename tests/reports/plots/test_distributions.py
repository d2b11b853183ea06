"""Histograms count every score on the right side of the threshold; p-values are shown as shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plot_cases import heights, labelled, line
from vae_anomaly import reports
from vae_anomaly.errors import DataError
from vae_anomaly.evaluation.bands import p_value_band


@settings(max_examples=40)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50),
    st.lists(st.floats(-1e9, 1e9), max_size=50),
    st.floats(-1e6, 1e6),
)
def test_every_score_is_in_a_bar_and_those_flagged_are_right_of_the_threshold(
    normal: list[float], anomalous: list[float], threshold: float
) -> None:
    (ax,) = reports.plot_scores(np.array(normal), np.array(anomalous), threshold, np.array(normal)).axes
    for start, scores in (("normal", normal), ("anomalous", anomalous), ("held-out", normal)):
        if scores:
            values, edges = heights(ax, start)
            assert (np.diff(edges) > 0).all()
            assert values.sum() == pytest.approx(100)
            flagged = values[edges[:-1] >= threshold].sum()
            assert flagged == pytest.approx(100 * np.mean(np.array(scores) > threshold))
    assert line(ax, "threshold")[0].tolist() == [threshold] * 2


@pytest.mark.parametrize("threshold", [None, 5.0])
@pytest.mark.parametrize("scores", [np.full(10, 7.0), np.array([3.0]), np.full(4, -1e12), np.zeros(1000)])
def test_constant_scores_are_one_bar(scores: np.ndarray, threshold: float | None) -> None:
    figure = reports.plot_scores(scores, None, threshold)
    values, _ = heights(figure.axes[0], "samples")
    assert values.max() == pytest.approx(100)
    assert reports.to_svg(figure)


def test_heavy_tails_are_counted_in_the_end_bins_and_the_axis_says_so() -> None:
    normal = np.r_[np.random.default_rng(0).uniform(-1, 1, size=5000), 1e9, 1e9, -1e9]
    (ax,) = reports.plot_scores(normal, None, 2.0).axes
    _, edges = heights(ax, "samples")
    lower, higher = (normal < edges[0]).sum(), (normal > edges[-1]).sum()
    assert (lower, higher) == (1, 2)
    assert ax.get_xlabel() == "anomaly score (nats)\nbeyond the axis, in the end bins: 1 lower, 2 higher"
    assert ax.get_xlim()[1] < 10
    assert heights(ax, "samples")[0].sum() == pytest.approx(100)


def test_far_anomalies_leave_the_normals_their_room() -> None:
    rng = np.random.default_rng(0)
    (ax,) = reports.plot_scores(rng.normal(size=500), rng.normal(1e5, 1e4, size=500), 3.0).axes
    values, _ = heights(ax, "normal")
    assert (values > 0).sum() >= 5
    assert "end bins" not in ax.get_xlabel()
    ticks = [tick.get_text() for tick in ax.get_xticklabels()]
    assert {"10", "10,000"} <= set(ticks)
    assert len(set(ticks)) == len(ticks) >= 4


@pytest.mark.parametrize("bad", [np.array([]), np.array([1.0, np.nan]), np.array([np.inf])])
def test_scores_that_cannot_be_drawn_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(DataError):
        reports.plot_scores(bad)
    with pytest.raises(DataError):
        reports.plot_p_values(bad)
    with pytest.raises(DataError):
        reports.plot_latent_units(bad)


def test_p_values_show_their_share_and_band() -> None:
    p = np.array([0.2, 0.1, 0.5, 0.2])
    (ax,) = reports.plot_p_values(p, 19).axes
    x, y = line(ax, "normals")
    for t in (0.1, 0.15, 0.2, 0.4, 0.5, 0.9):
        at_most = y[x <= t]
        assert at_most[-1] == np.mean(p <= t)
    band = p_value_band(4, 19)
    vertices = labelled(ax, "95 %").get_paths()[0].vertices
    assert {(x, max(y, 0.125)) for x, y in zip(band.x, band.high, strict=True)} <= {tuple(v) for v in vertices}
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    for bad in ([0.0, 0.5], [0.5, 1.5]):
        with pytest.raises(DataError, match=r"p-values must lie in \(0, 1\], got"):
            reports.plot_p_values(np.array(bad))


@pytest.mark.parametrize("p", [np.array([1.0]), np.ones(5), np.array([0.01])])
def test_few_p_values_can_be_drawn(p: np.ndarray) -> None:
    assert reports.to_svg(reports.plot_p_values(p))
