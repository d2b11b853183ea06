"""Figures of evidence, through their artists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import python
from vae_anomaly.reports import plot_feature_evidence, plot_image_evidence
from vae_anomaly.reports.plots.evidence import deviations
from vae_anomaly.reports.plots.style import to_png, to_svg
from vae_anomaly.tables.words import rounded_to_spread


def features(n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(n)
    observed, expected = rng.normal(size=(2, n)) * np.logspace(-3, 4, n)
    return {
        "observed": observed,
        "expected": expected,
        "spread": np.logspace(-3, 4, n),
        "contributions": rng.normal(size=n),
    }


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 1), (9, 7, 3), (9, 7, 4), (1, 1)])
def test_images_show_what_they_are_given(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    image, expected, nats = 255 * rng.random(shape), 255 * rng.random(shape), rng.random(shape)
    figure = plot_image_evidence(image, expected, nats, title="row 3")
    seen, mean, residual, cost = (ax.images[0] for ax in figure.axes[:4])
    low, high = min(image.min(), expected.min()), max(image.max(), expected.max())
    for artist, pixels in ((seen, image), (mean, expected)):
        scaled = ((pixels - low) / (high - low)).reshape(*shape[:2], -1)
        scaled = scaled if scaled.shape[2] == 3 else scaled.mean(axis=2, keepdims=True)
        np.testing.assert_allclose(artist.get_array(), np.broadcast_to(scaled, (*shape[:2], 3)))
    difference = (image - expected).reshape(*shape[:2], -1).mean(axis=2)
    np.testing.assert_allclose(residual.get_array(), difference)
    assert residual.get_clim() == (-np.abs(difference).max(), np.abs(difference).max())
    np.testing.assert_allclose(cost.get_array(), nats.reshape(*shape[:2], -1).sum(axis=2))
    bars = [ax for ax in figure.axes[4:] if ax.get_xlabel()]
    assert [bar.get_xlabel() for bar in bars] == ["units of the data", "nats more than the best pixel"]
    assert to_png(figure).startswith(b"\x89PNG")


def test_constant_images_are_drawn() -> None:
    flat = np.full((5, 5), 7.0)
    figure = plot_image_evidence(flat, flat, np.zeros((5, 5)))
    assert figure.axes[2].images[0].get_clim() == (-1, 1)
    assert to_svg(figure)


@pytest.mark.parametrize(("n", "most"), [(1, 10), (3, 10), (200, 10), (200, 1000)])
def test_the_worst_features_come_first(n: int, most: int) -> None:
    given = features(n)
    names = [f"f{i}" for i in range(n)]
    figure = plot_feature_evidence(names, *given.values(), most=most, title="row 3\nnormal")
    left, right = figure.axes
    worst = np.argsort(-given["contributions"])[: min(most, 100)]
    nats = [bar.get_width() for bar in right.patches]
    np.testing.assert_allclose(nats, given["contributions"][worst])
    assert left.get_ylim()[0] > left.get_ylim()[1]
    z = (given["observed"] - given["expected"]) / given["spread"]
    np.testing.assert_allclose(left.lines[-1].get_xdata(), z[worst])
    np.testing.assert_allclose([bar.get_width() for bar in left.patches[1:]], z[worst])
    labels = [label.get_text() for label in left.get_yticklabels()]
    assert [label.split("\n")[0] for label in labels] == [names[i] for i in worst]
    said = figure.get_suptitle().splitlines()
    assert said == ["row 3", "normal", f"the {len(worst)} worst of {n} features" if len(worst) < n else "all features"]


def test_far_values_and_no_spread_are_drawn() -> None:
    observed = np.array([1e300, -1e5, 0.5, 0.5])
    spread = np.array([1e-3, 0.0, 0.0, 1.0])
    np.testing.assert_allclose(deviations(observed, np.full(4, 0.5), spread), [1e4, -1e4, 0, 0], atol=1e-9)
    figure = plot_feature_evidence(list("abcd"), observed, np.full(4, 0.5), spread, np.array([1e12, 5, 0, -0.5]))
    assert figure.axes[0].get_xscale() == "symlog"
    assert figure.axes[0].get_xticks().tolist() == [-1e4, 0, 1e4]
    assert to_png(figure)


def test_names_are_drawn_as_they_are() -> None:
    names = ["$\\frac{1}{$_^", "\x1b[31mred\x07", "x" * 500, "\u202eabc", "\u540d\u524d", "\ud800"]
    figure = plot_feature_evidence(names, *features(6).values(), title="$a$ \x1b\n<&>")
    labels = " ".join(label.get_text() for label in figure.axes[0].get_yticklabels())
    assert "$\\frac{1}{$_^" in labels
    assert "\\x1b[31mred\\x07" in labels
    assert "x" * 35 + "…" in labels
    assert "\\u202eabc" in labels
    assert not any(label.get_parse_math() for label in figure.axes[0].get_yticklabels())
    assert to_svg(figure) == to_svg(plot_feature_evidence(names, *features(6).values(), title="$a$ \x1b\n<&>"))


@given(
    expected=st.floats(-1e12, 1e12),
    spread=st.floats(0, 1e12),
    distance=st.floats(-9, 9),
)
@settings(max_examples=200)
def test_values_are_rounded_to_the_second_digit_of_the_spread(expected: float, spread: float, distance: float) -> None:
    observed = expected + distance * spread
    shown = [float(text.replace(",", "")) for text in rounded_to_spread(observed, expected, spread)]
    for text, value in zip(shown, (observed, expected, spread), strict=True):
        assert abs(text - value) <= max(0.051 * spread, 1e-5 * abs(value), 0.51 * (spread > 10), 1e-6)


def test_pyplot_stays_out() -> None:
    code = (
        "import sys, numpy as np; from vae_anomaly.reports import plot_feature_evidence, plot_image_evidence\n"
        "from vae_anomaly.reports.plots.style import to_png\n"
        "to_png(plot_feature_evidence(['a'], *np.ones((4, 1)))); to_png(plot_image_evidence(*np.ones((3, 4, 4))))\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    python(code)
