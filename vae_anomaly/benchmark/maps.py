"""Maps of how anomalous each pixel of an image is, of this detector (`VAEDetector.heat_maps`) and of its peers.

Of a peer, a pixel's error is added up over the channels and smoothed, since a defect is larger than a pixel and noise
is not. The largest value of its map is a score of the image, which a defect raises however small it is.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

MAP_SCORE = "largest_of_map"
SMOOTHING = 1.0  # standard deviation of the Gaussian, in pixels


def maps_of_errors(errors: np.ndarray, X: np.ndarray) -> np.ndarray:
    """Maps ``(N, H, W)`` from what each value of images ``(N, H, W[, C])`` adds, as flat rows ``(N, D)``."""
    of_pixels = errors.reshape(*X.shape[:3], -1).sum(axis=3, dtype=np.float64)
    maps: np.ndarray = gaussian_filter(of_pixels, (0, SMOOTHING, SMOOTHING), mode="nearest")
    return maps
