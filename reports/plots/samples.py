"""Samples, as grids of images or as heat maps of table rows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vae_anomaly.errors import DataError
from vae_anomaly.reports.plots.style import SEQUENTIAL, axes_or_new, figure_of, plain_ticks, safe_name, styled

MAX_FEATURES = 40


def image_grid(images: np.ndarray, limits: tuple[float, float] | None = None) -> Figure:
    """Images side by side in a near-square grid, all on one grey scale.

    Parameters
    ----------
    images
        ``(N, H, W)`` grey, or ``(N, H, W, C)`` with 1 channel (grey) or 3 (colour), in any units.
    limits
        Values shown as black and as white; others are clipped. By default the smallest and the largest.

    Returns
    -------
    Figure
        One axes holding the whole grid.
    """
    n = len(images)
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    canvas = tiled(images, rows, columns, limits)[..., :3]
    figure = Figure(figsize=(0.6 * columns, 0.6 * columns * canvas.shape[0] / canvas.shape[1]))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(canvas, interpolation="nearest")
    axes.set_axis_off()
    return figure


def tiled(images: np.ndarray, rows: int, columns: int, limits: tuple[float, float] | None) -> np.ndarray:
    """Images ``(N, H, W[, C])`` in rows on one canvas of red, green, blue and opacity; gaps are white, transparent."""
    n, height, width = images.shape[:3]
    pixels = images.reshape(n, height, width, -1).astype(np.float64)
    pixels = shades(pixels, limits or (pixels.min(), pixels.max()))
    gap = gap_of(height)
    canvas = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, 4))
    canvas[..., 3] = 0
    for i, image in enumerate(pixels):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        canvas[top : top + height, left : left + width, :3] = image
        canvas[top : top + height, left : left + width, 3] = 1
    return canvas


def shades(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Values of any shape as shades from 0, the lower limit, to 1, the upper one; others are clipped."""
    low, high = limits
    return np.clip((values - low) / (high - low if high > low else 1.0), 0, 1)


def displayable(images: np.ndarray) -> np.ndarray:
    """Images ``(..., C)`` of 1 or 3 channels as they are; of others the mean of the channels, ``(..., 1)``."""
    return images if images.shape[-1] in (1, 3) else images.mean(axis=-1, keepdims=True)


def gap_of(height: int) -> int:
    """Pixels between images of this height."""
    return max(1, height // 14)


@styled()
def image_rows(
    images: np.ndarray,
    row_labels: Sequence[object],
    column_labels: Sequence[object],
    limits: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Images in labelled rows and columns, such as one row a latent unit and one column a value of it.

    Parameters
    ----------
    images
        ``(R, C, H, W)`` grey, or ``(R, C, H, W, channels)`` with 1 channel (grey) or 3 (colour), in any units.
    row_labels, column_labels
        ``R`` and ``C`` labels, shown as text.
    limits
        Values shown as black and as white; others are clipped. By default the smallest and the largest.
    ax
        Where to draw; a new figure by default.

    Returns
    -------
    Figure
        The figure of ``ax``.

    Raises
    ------
    DataError
        If the shape is another, or the numbers of labels do not match it.
    """
    images = np.asarray(images)
    if images.ndim not in (4, 5) or not images.size or images.shape[4:] not in ((), (1,), (3,)):
        raise DataError(f"images must be (R, C, H, W) or (R, C, H, W, 1 or 3), got shape {images.shape}")
    rows, columns, height, width = images.shape[:4]
    if (len(row_labels), len(column_labels)) != (rows, columns):
        raise DataError(
            f"{rows} rows and {columns} columns of images need as many labels, "
            f"got {len(row_labels)} and {len(column_labels)}"
        )
    canvas = tiled(images.reshape(-1, *images.shape[2:]), rows, columns, limits)
    ax = axes_or_new(ax, min(0.4 + 4.3 * canvas.shape[0] / canvas.shape[1], 0.4 + rows))
    # 64 levels look like 256, and take two thirds of the bytes
    ax.imshow(np.round(canvas * 63) / 63, interpolation="none")
    gap = gap_of(height)
    sides = ((ax.set_yticks, row_labels, height, 16), (ax.set_xticks, column_labels, width, 8))
    for set_ticks, labels, size, letters in sides:
        places = np.arange(len(labels)) * (size + gap) + (size - 1) / 2
        set_ticks(places, [safe_name(label, letters) for label in labels], parse_math=False)
    ax.tick_params(length=0, labeltop=True, labelbottom=False)
    ax.spines[:].set_visible(False)
    return figure_of(ax)


@styled()
def plot_profiles(
    X: np.ndarray,
    names: Sequence[object] | None = None,
    column_labels: Sequence[object] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Rows of a table as the columns of a heat map: samples of a model, or a traversal.

    Parameters
    ----------
    X
        Feature values ``(N, D)``, standardised: in standard deviations from the normals' mean. At most 40 features are
        shown, those that vary most over the rows.
    names
        Names of the ``D`` features; numbers by default.
    column_labels
        Names of the ``N`` rows of ``X``, which are the columns here; none by default.
    ax
        Where to draw; a new figure by default, as high as the features need.

    Returns
    -------
    Figure
        The figure of ``ax``.

    Raises
    ------
    DataError
        If ``X`` is not a table of finite numbers, or the numbers of names do not match it.
    """
    X = np.asarray(X, dtype=np.float64)
    if X.ndim != 2 or not X.size or not np.isfinite(X).all():
        raise DataError(f"profiles need a table (N, D) of finite numbers, got shape {X.shape}")
    n, n_features = X.shape
    names = range(n_features) if names is None else names
    if len(names) != n_features or (column_labels is not None and len(column_labels) != n):
        raise DataError(f"a table of shape {X.shape} needs {n_features} names of features and, if any, {n} of rows")
    shown = np.sort(np.argsort(-X.std(axis=0), kind="stable")[:MAX_FEATURES])
    ax = axes_or_new(ax, 1.1 + 0.18 * len(shown))
    limit = max(float(np.quantile(np.abs(X[:, shown]), 0.98)), 1e-12)
    image = ax.imshow(X[:, shown].T, cmap=SEQUENTIAL, vmin=-limit, vmax=limit, aspect="auto", interpolation="none")
    bar = figure_of(ax).colorbar(image, ax=ax, extend="both", fraction=0.06, pad=0.02)
    bar.set_label("standard deviations")
    bar.outline.set_visible(False)
    plain_ticks(bar.ax.yaxis)
    ax.set_yticks(range(len(shown)), [safe_name(names[i]) for i in shown], parse_math=False)
    if column_labels is None:
        plain_ticks(ax.xaxis)
        ax.set_xlabel("sample")
    else:
        every = math.ceil(n / 9)
        ax.set_xticks(range(0, n, every), [safe_name(label, 8) for label in column_labels[::every]], parse_math=False)
    if n_features > len(shown):
        ax.set_title(f"the {len(shown)} of {n_features:,} features that vary most")
    ax.spines[:].set_visible(False)
    return figure_of(ax)
