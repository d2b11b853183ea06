"""The page's own small charts: geometry that scripts rely on, and images that decode to what was drawn."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from vae_anomaly.evaluation import evaluate
from vae_anomaly.reports.page.charts import (
    BINS,
    MAX_SIDE,
    Axis,
    axes,
    photographs,
    residual_maps,
    roc_chart,
    score_chart,
    small,
)


def decoded(uri: str) -> np.ndarray:
    head, data = uri.split(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.2, 1e6), (1e-9, 3e-9), (5.0, 5.1)])
def test_an_axis_maps_its_ends_and_cuts_off_the_rest(low: float, high: float) -> None:
    axis = Axis(low, high, 40.0, 10.0)
    np.testing.assert_allclose(axis(np.array([low, high, low - 1, high + 1])), [40, 10, 40, 10])
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 6
    assert all(10 <= tick.at <= 40 for tick in ticks)
    for tick in ticks:
        assert float(axis(np.float64(tick.text.replace(",", "")))) == pytest.approx(tick.at, abs=0.1)


def test_a_roc_chart_keeps_the_curve() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 3000)
    curve = evaluate(rng.normal(size=6000) + labels, labels).roc
    chart = roc_chart(curve)
    points = np.array([[float(part) for part in point.split(",")] for point in chart.points.split()])
    assert len(points) <= 300
    left, right, bottom, top = axes()
    np.testing.assert_allclose(points[0], [left, bottom])
    np.testing.assert_allclose(points[-1], [right, top])
    drawn = np.column_stack([chart.x(curve.x), chart.y(curve.y)])
    assert max(np.abs(drawn - point).max(axis=1).min() for point in points) < 0.1
    area = np.trapezoid(bottom - points[:, 1], points[:, 0]) / (right - left) / (bottom - top)
    assert area == pytest.approx(np.trapezoid(curve.y, curve.x), abs=2e-3)


def test_a_score_chart_counts_every_score() -> None:
    rng = np.random.default_rng(0)
    normal, anomalous = rng.normal(size=500), np.append(rng.normal(4, 1, size=300), 1e9)
    chart = score_chart({"normal": normal, "anomalous": anomalous, "none": np.empty(0)}, 2.0)
    left, right, bottom, top = axes()
    assert chart.x.low < 2 < chart.x.high < 1e3
    assert chart.outside == sum(((s < chart.x.low) | (s > chart.x.high)).sum() for s in (normal, anomalous))
    counts = np.histogram(np.clip(normal, chart.x.low, chart.x.high), BINS, (chart.x.low, chart.x.high))[0]
    bars = chart.bars["normal"]
    assert len(bars) == (counts > 0).sum()
    np.testing.assert_allclose([bar[3] for bar in bars], counts[counts > 0] / counts.max() * (bottom - top), atol=0.06)
    assert all(left <= x <= right and y + height == pytest.approx(bottom) for x, y, _, height in bars)
    assert chart.bars["none"] == []


@pytest.mark.parametrize("value", [0.0, -7.5, 1e9])
def test_constant_scores_have_an_axis(value: float) -> None:
    chart = score_chart({"samples": np.full(9, value)}, value)
    assert chart.x.low < value < chart.x.high
    assert len(chart.bars["samples"]) == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_photographs_show_the_pixels(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, size=(2, 5, 7, channels)).astype(float)
    for uri, image in zip(photographs(images, (0.0, 255.0)), images, strict=True):
        np.testing.assert_array_equal(decoded(uri).reshape(5, 7, channels), image)
    beyond = decoded(photographs(np.array([[[[-5.0], [10.0]]]]), (0.0, 1.0))[0])
    assert beyond.tolist() == [[0, 255]]


def test_residuals_are_red_above_and_blue_below() -> None:
    residuals = np.zeros((1, 3, 1, 1))
    residuals[0, :, 0, 0] = [1, 0, -1]
    above, none, below = decoded(residual_maps(residuals)[0])[:, 0].astype(int)
    assert above[0] > above[2] + 50
    assert below[2] > below[0] + 20
    assert none.min() > 230
    assert len({tuple(pixel) for pixel in decoded(residual_maps(np.zeros((1, 2, 2, 3)))[0]).reshape(4, 3)}) == 1


@pytest.mark.parametrize(("shape", "expected"), [((28, 28), (28, 28)), ((300, 200), (75, 50)), ((97, 5), (48, 2))])
def test_large_images_are_averaged_down(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    images = np.random.default_rng(0).random((2, *shape, 3))
    result = small(images)
    assert result.shape == (2, *expected, 3)
    assert max(result.shape[1:3]) <= MAX_SIDE
    factor = shape[0] // expected[0]
    np.testing.assert_allclose(result[0, 0, 0], images[0, :factor, :factor].mean(axis=(0, 1)))
