"""Where an image is anomalous: its heat map laid over it, on a scale that is the same for all images.

The scale runs from nothing to ``vmax``, which the caller fixes for all images, so that a normal image stays as it is
and two images can be compared. The colour goes by heat along a part of inferno, a perceptually uniform map, that is
brighter than most shadows; how much of it covers the image goes by the square of heat. So a tenth of ``vmax`` covers a
hundredth of the pixel, and the noise of normal regions does not tint them.

References
----------
A Better Default Colormap for Matplotlib (Smith & van der Walt, 2015), for inferno and its kin
"""

from __future__ import annotations

import math

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from vae_anomaly.errors import DataError
from vae_anomaly.evaluation.regions import Box, boxes_of
from vae_anomaly.reports.plots.evidence import add_title
from vae_anomaly.reports.plots.samples import displayable, shades
from vae_anomaly.reports.plots.style import ANOMALOUS, figure_of, number, number_format, styled

COLOURS = matplotlib.colormaps["inferno"](np.linspace(0.35, 0.85, 256))[:, :3]
MOST_COVER = 0.85  # of a pixel at vmax, through which the image still shows
MOST_BOXES = 20


def overlay(image: ArrayLike, heat: ArrayLike, vmax: float, *, limits: tuple[float, float] | None = None) -> np.ndarray:
    """An image with its heat map over it.

    Parameters
    ----------
    image : array_like of shape (H, W) or (H, W, C)
        Colour if there are 3 channels, else the mean of the channels in grey. 8-bit values are shown as they are.
    heat : array_like of shape (H, W)
        How anomalous each pixel is, in any unit. Pixels of 0 or less are left as they are.
    vmax
        Heat from which on the colour is the strongest; in the unit of ``heat``, positive, the same for all images
        that are to be compared.
    limits
        Values of the image shown as black and as white, for images that are not 8-bit. By default the smallest and
        the largest of this image.

    Returns
    -------
    ndarray of shape (H, W, 3), uint8
        Red, green and blue.

    Raises
    ------
    DataError
        If the sizes differ, heat or image holds NaN, or ``vmax`` is no positive number.
    """
    image, heat = checked(image, heat, vmax)
    plain = 255 * as_colours(image, limits)
    share = np.clip(heat / vmax, 0, 1)
    cover = (MOST_COVER * np.square(share))[..., None]
    colours = 255 * COLOURS[np.rint(share * (len(COLOURS) - 1)).astype(int)]
    mixed: np.ndarray = np.rint(plain + cover * (colours - plain)).astype(np.uint8)
    return mixed


def checked(image: ArrayLike, heat: ArrayLike, vmax: float) -> tuple[np.ndarray, np.ndarray]:
    """An image ``(H, W, C)`` and its heat ``(H, W)`` in float64; `overlay` says what is refused."""
    image, heat = np.asarray(image), np.asarray(heat, dtype=np.float64)
    if image.ndim not in (2, 3) or not image.size or heat.shape != image.shape[:2]:
        raise DataError(f"an image (H, W) or (H, W, C) needs heat (H, W), got {image.shape} and {heat.shape}")
    if not (math.isfinite(vmax) and vmax > 0):
        raise DataError(f"vmax must be a positive number, the same for all images, got {vmax}")
    if np.isnan(heat).any() or np.isnan(image).any():
        raise DataError("a heat map needs an image and heat without NaN")
    return image.reshape(*image.shape[:2], -1), heat


def as_colours(image: np.ndarray, limits: tuple[float, float] | None) -> np.ndarray:
    """An image ``(H, W, C)`` as red, green and blue ``(H, W, 3)`` from 0 to 1."""
    if limits is None:
        limits = (0, 255) if image.dtype == np.uint8 else (float(image.min()), float(image.max()))
    shown = displayable(shades(image.astype(np.float64), limits))
    return np.broadcast_to(shown, (*shown.shape[:2], 3))


@styled()
def plot_heat_map(
    image: ArrayLike,
    heat: ArrayLike,
    vmax: float,
    threshold: float | None = None,
    *,
    limits: tuple[float, float] | None = None,
    title: str = "",
) -> Figure:
    r"""An image with boxes around what is anomalous in it, and its heat map on a fixed scale with their outlines.

    Parameters
    ----------
    image, heat, vmax, limits
        As `overlay` has them.
    threshold
        Of heat, above which a region has a box and an outline; at most the 20 of the highest peaks. None: no boxes.
    title
        Above the figure, lines separated by ``\n``.

    Returns
    -------
    Figure
        Two axes with pictures, and one with a colour bar, on which the threshold is marked.

    Raises
    ------
    DataError
        As `overlay`, or if the threshold is NaN.
    """
    covered = overlay(image, heat, vmax, limits=limits)
    pixels, heat = checked(image, heat, vmax)
    height, width = heat.shape
    figure = Figure(figsize=(5, 1.2 + 2.3 * min(max(height / width, 0.2), 3)), layout="constrained")
    add_title(figure, title)
    left, right = figure.subplots(1, 2)
    boxes = [] if threshold is None else boxes_of(heat, threshold)
    heading = "image" if threshold is None else heading_of(len(boxes))
    for ax, shown, words in ((left, as_colours(pixels, limits), heading), (right, covered, "heat map")):
        ax.imshow(shown, interpolation="nearest")
        ax.set_title(words)
        ax.set_axis_off()
    for box in boxes[:MOST_BOXES]:
        draw_box(left, box)
    if boxes and min(heat.shape) > 1:
        right.contour(heat, levels=[threshold], colors=[ANOMALOUS], linewidths=1)
    scale = ScalarMappable(Normalize(0, vmax), ListedColormap(COLOURS))
    bar = figure_of(right).colorbar(
        scale, ax=[left, right], location="bottom", shrink=0.6, ticks=MaxNLocator(4), format=number_format()
    )
    bar.set_label("heat" if threshold is None else f"heat; boxes above {number(float(f'{threshold:.3g}'))}")
    if threshold is not None and 0 <= threshold <= vmax:
        bar.ax.axvline(threshold, color="white", linewidth=1.5)
    return figure


def heading_of(n_boxes: int) -> str:
    """What the image's boxes show, in words."""
    if n_boxes > MOST_BOXES:
        return f"the {MOST_BOXES} hottest of {n_boxes:,} regions"
    return {0: "no region", 1: "1 region"}.get(n_boxes, f"{n_boxes} regions")


def draw_box(ax: Axes, box: Box) -> None:
    """A frame around a region's pixels, half a pixel off them."""
    corner, width, height = (box.left - 1, box.top - 1), box.right - box.left + 1, box.bottom - box.top + 1
    ax.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=ANOMALOUS, linewidth=1.5))
