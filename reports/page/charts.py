"""Small pictures for the page: the geometry of charts with a mark that scripts move, and images as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from PIL import Image

from vae_anomaly.evaluation.result import Curve
from vae_anomaly.reports.plots.distributions import BINS
from vae_anomaly.reports.plots.heat_maps import overlay
from vae_anomaly.reports.plots.samples import shades
from vae_anomaly.reports.plots.style import DIVERGING

WIDTH, HEIGHT = 340, 250
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 10, 38
MAX_POINTS = 300
MAX_SIDE = 96  # pixels of a gallery image; larger ones are averaged down


class Tick(NamedTuple):
    """A place on an axis, in the picture's units, and the text there."""

    at: float
    text: str


class Axis(NamedTuple):
    """A linear axis: ``low`` and ``high`` are drawn at ``start`` and ``end``, values beyond at the nearer one."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, values: np.ndarray) -> np.ndarray:
        share = (np.clip(values, self.low, self.high) - self.low) / (self.high - self.low)
        at: np.ndarray = self.start + share * (self.end - self.start)
        return at

    def ticks(self, n: int = 5) -> list[Tick]:
        """Round numbers inside the axis."""
        step = 10 ** np.floor(np.log10((self.high - self.low) / n))
        step *= next(factor for factor in (1, 2, 5, 10) if (self.high - self.low) / (step * factor) <= n)
        values = np.arange(np.ceil(self.low / step), np.floor(self.high / step) + 1) * step
        return [Tick(round(float(self(value)), 1), f"{value + 0.0:,.6g}") for value in values]


class RocChart(NamedTuple):
    """A ROC curve as the points of a polyline."""

    points: str
    x: Axis
    y: Axis


class ScoreChart(NamedTuple):
    """Histograms as (x, y, width, height) of bars, one list a series; ``outside`` counts the scores beyond the axis."""

    bars: dict[str, list[tuple[float, float, float, float]]]
    x: Axis
    outside: int


def axes() -> tuple[float, float, float, float]:
    """Left, right, bottom and top of the plot inside the picture."""
    return LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP


def roc_chart(curve: Curve) -> RocChart:
    """The curve with at most 300 of its points, evenly spaced along it."""
    left, right, bottom, top = axes()
    x, y = Axis(0.0, 1.0, left, right), Axis(0.0, 1.0, bottom, top)
    length = np.concatenate([[0], np.cumsum(np.abs(np.diff(curve.x)) + np.abs(np.diff(curve.y)))])
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], MAX_POINTS)).clip(max=len(length) - 1))
    points = np.column_stack([x(curve.x[kept]), y(curve.y[kept])])
    return RocChart(" ".join(f"{a:.1f},{b:.1f}" for a, b in points), x, y)


def score_chart(series: dict[str, np.ndarray], threshold: float) -> ScoreChart:
    """Histograms of anomaly scores on one axis; the highest bar of each is as high as the plot.

    The axis holds the middle 98 % of each series and the threshold, with a margin.
    """
    left, right, bottom, top = axes()
    ends = [np.quantile(scores, [0.01, 0.99]) for scores in series.values() if len(scores)]
    low, high = min([threshold, *(end[0] for end in ends)]), max([threshold, *(end[1] for end in ends)])
    margin = 0.06 * (high - low) or max(1e-6, 0.01 * abs(threshold))
    x = Axis(float(low - margin), float(high + margin), left, right)
    edges = np.linspace(x.low, x.high, BINS + 1)
    bars, outside = {}, 0
    for name, scores in series.items():
        counts = np.histogram(np.clip(scores, x.low, x.high), edges)[0]
        outside += int(((scores < x.low) | (scores > x.high)).sum())
        heights = counts / max(1, counts.max()) * (bottom - top)
        bars[name] = [
            (
                round(float(x(edge)), 1),
                round(bottom - height, 1),
                round((right - left) / BINS - 0.5, 1),
                round(height, 1),
            )
            for edge, height in zip(edges[:-1].tolist(), heights.tolist(), strict=True)
            if height
        ]
    return ScoreChart(bars, x, outside)


def data_uri(data: bytes, kind: str) -> str:
    """Bytes as an address that contains them."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def small(images: np.ndarray, most: int = MAX_SIDE, by: Callable[..., Any] = np.mean) -> np.ndarray:
    """Images ``(N, H, W, C)`` of which each square of pixels is one, by its mean, so that no side exceeds ``most``."""
    factor = -(-max(images.shape[1:3]) // most)
    if factor == 1:
        return images
    height, width = (side // factor * factor for side in images.shape[1:3])
    squares = images[:, :height, :width].reshape(len(images), height // factor, factor, width // factor, factor, -1)
    reduced: np.ndarray = by(squares, axis=(2, 4))
    return reduced


def photographs(images: np.ndarray, limits: tuple[float, float]) -> list[str]:
    """Images ``(N, H, W, C)`` of 1 or 3 channels as PNGs; ``limits`` are shown as black and as white."""
    return [png(np.rint(255 * image).astype(np.uint8)) for image in shades(small(images), limits)]


def residual_maps(residuals: np.ndarray) -> list[str]:
    """Signed maps ``(N, H, W, C)``, channels averaged, on one diverging scale that ends at their 99.5 % quantile."""
    mean = small(residuals).mean(axis=-1)
    limit = float(np.quantile(np.abs(mean), 0.995)) or 1.0
    colours = colormaps[DIVERGING](np.clip(0.5 + 0.5 * mean / limit, 0, 1), bytes=True)
    return [png(image[..., :3]) for image in colours]


def heat_pictures(
    images: np.ndarray, heat: np.ndarray, strongest: float, limits: tuple[float, float] | None
) -> list[str]:
    """Images ``(N, H, W, C)`` under their heat ``(N, H, W)`` as PNGs, on one scale."""
    smaller = zip(small(images), small(heat[..., None], by=np.max)[..., 0], strict=True)
    return [png(overlay(image, hot, strongest, limits=limits)) for image, hot in smaller]


def png(pixels: np.ndarray) -> str:
    """An 8-bit image ``(H, W, 1)`` or ``(H, W, 3)`` as a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "png", optimize=True)
    return data_uri(buffer.getvalue(), "image/png")
