"""Connected regions of a mask or a map, and the boxes around them; pixels that touch at a corner are connected."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import find_objects, label

from vae_anomaly.errors import DataError

NEIGHBOURS = np.ones((3, 3), dtype=int)


class Box(NamedTuple):
    """A region's smallest upright rectangle, and the highest value in the region.

    ``top`` and ``left`` are the first row and column, ``bottom`` and ``right`` those after the last, so that
    ``heat[top:bottom, left:right]`` holds the region.
    """

    top: int
    left: int
    bottom: int
    right: int
    peak: float


def regions_of(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Numbers of the connected regions of a mask ``(H, W)`` bool, from 1, elsewhere 0; and how many there are."""
    numbers, n = label(mask, structure=NEIGHBOURS)
    return numbers, int(n)


def boxes_of(heat: np.ndarray, threshold: float) -> list[Box]:
    """Boxes around the connected regions of a map that lie above a threshold, the highest peak first.

    Parameters
    ----------
    heat : array_like of shape (H, W)
        How anomalous each pixel is, in any unit.
    threshold
        In the same unit; a pixel at the threshold itself does not lie above it.

    Returns
    -------
    list of Box
        ``(top, left, bottom, right, peak)``, in pixels and the unit of ``heat``. None where nothing lies above.

    Raises
    ------
    DataError
        If ``heat`` is no image of one channel, or it or the threshold holds NaN.
    """
    heat = np.asarray(heat, dtype=np.float64)
    if heat.ndim != 2:
        raise DataError(f"a map must be (H, W), got shape {heat.shape}; add up its channels first")
    if np.isnan(heat).any() or np.isnan(threshold):
        raise DataError("boxes need a map and a threshold without NaN")
    numbers, n = regions_of(heat > threshold)
    boxes = []
    for number, (rows, columns) in zip(range(1, n + 1), find_objects(numbers), strict=True):
        inside = heat[rows, columns][numbers[rows, columns] == number]
        boxes.append(Box(rows.start, columns.start, rows.stop, columns.stop, float(inside.max())))
    return sorted(boxes, key=peak_first)


def peak_first(box: Box) -> tuple[float, int, int]:
    """What orders boxes: the highest peak, then from top to bottom and from left to right."""
    return -box.peak, box.top, box.left
