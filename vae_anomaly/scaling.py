"""Scaling of raw rows: part of the model, so that training, scoring and files cannot disagree about it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

CLIP = 1e6


class Scaling(nn.Module):
    """The map x -> (x - loc) / scale, with results clipped to ±1e6 so that no score overflows.

    Parameters
    ----------
    loc, scale : Tensor
        Shape ``(D,)`` for one pair a feature, ``()`` for one pair in all.
    """

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("loc", loc)
        self.register_buffer("scale", scale)
        self.loc: Tensor
        self.scale: Tensor

    def forward(self, raw: Tensor) -> Tensor:
        return ((raw - self.loc) / self.scale).clamp(-CLIP, CLIP)

    def inverse(self, x: Tensor) -> Tensor:
        """Scaled rows back in the data's own units."""
        return x * self.scale + self.loc


def standardize(X: np.ndarray) -> Scaling:
    """Zero mean and unit variance a feature; a constant feature is only centred (scikit-learn's rule).

    So a value that differs from a constant by d counts as d standard deviations, not as d / 1e-8.
    """
    scaler = StandardScaler().fit(X)
    return scaling(scaler.mean_, scaler.scale_)


def unit_range(X: np.ndarray) -> Scaling:
    """One range for all features onto [0, 1].

    It is [0, 255] for 8-bit data, [0, 1] for data that lies inside it, and otherwise the data's own.
    """
    if X.dtype == np.uint8:
        low, high = 0.0, 255.0
    else:
        low, high = float(X.min()), float(X.max())
        if low >= 0 and high <= 1:
            low, high = 0.0, 1.0
    return scaling(low, high - low)


def identity(X: np.ndarray) -> Scaling:
    """Leave values as they are."""
    return scaling(0.0, 1.0)


def scaling(loc: np.ndarray | float, scale: np.ndarray | float) -> Scaling:
    """A `Scaling` that single precision can hold: a spread too small for it counts as none."""
    scale = np.where(np.asarray(scale) < np.finfo(np.float32).tiny, 1.0, scale)
    return Scaling(torch.tensor(loc, dtype=torch.float64), torch.tensor(scale, dtype=torch.float64))


PREPROCESSING: dict[str, Callable[[np.ndarray], Scaling]] = {
    "standardize": standardize,
    "unit_range": unit_range,
    "none": identity,
}
