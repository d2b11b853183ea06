"""Figures from arrays: matplotlib `Figure` objects, never pyplot's global state, no display needed."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure


def image_grid(images: np.ndarray, limits: tuple[float, float] | None = None) -> Figure:
    """Images side by side in a near-square grid, all on one grey scale.

    Parameters
    ----------
    images
        ``(N, H, W)`` grey, or ``(N, H, W, C)`` with 1 channel (grey) or 3 (colour), in any units.
    limits
        Values shown as black and as white, those beyond cut off; by default the smallest and the largest.

    Returns
    -------
    Figure
        One axes holding the whole grid.
    """
    n, height, width = images.shape[:3]
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    pixels = images.reshape(n, height, width, -1).astype(np.float64)
    low, high = limits or (pixels.min(), pixels.max())
    pixels = np.clip((pixels - low) / (high - low if high > low else 1.0), 0, 1)
    gap = max(1, height // 14)
    canvas = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, 3))
    for i, image in enumerate(pixels):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = image
    figure = Figure(figsize=(0.6 * columns, 0.6 * columns * canvas.shape[0] / canvas.shape[1]))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(canvas, interpolation="nearest")
    axes.set_axis_off()
    return figure
