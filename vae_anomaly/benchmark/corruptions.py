"""Synthetic images that no model of normal images should take for normal, made from normal ones.

They ask what a score really measures. A likelihood is known to prefer simple images, whatever it was trained on
(Nalisnick et al., 2019; Serrà et al., 2020): `constant` and `blurred` images are simple, `noise` is not. `shifted` and
`permuted` images keep every pixel value, `inverted` ones every edge.

Images are ``(N, H, W)`` or ``(N, H, W, C)``; results have their shape and type, and values between their lowest and
highest, which for 8-bit images is 0 to 255. What is random comes from the generator given: same generator, same images.

References
----------
Do Deep Generative Models Know What They Don't Know? (Nalisnick et al., 2019), https://arxiv.org/abs/1810.09136
Input complexity and out-of-distribution detection with likelihood-based generative models (Serrà et al., 2020),
https://arxiv.org/abs/1909.11480
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from scipy.ndimage import gaussian_filter

from vae_anomaly.datasets.images.pixels import interpolation

GRID = 4

Corruption: TypeAlias = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def value_range(X: np.ndarray) -> tuple[float, float]:
    """The range of values of such images: 0 to 255 for 8-bit ones, otherwise the lowest and highest value they have."""
    return (0.0, 255.0) if X.dtype == np.uint8 else (float(X.min()), float(X.max()))


def to_dtype(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Values in the type of other images, rounded if it is a type of whole numbers."""
    return (np.rint(values) if like.dtype.kind in "iu" else values).astype(like.dtype)


def constant(X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each image flat, at its own mean (of each channel): the simplest image of the same brightness."""
    return np.broadcast_to(to_dtype(X.mean(axis=(1, 2), keepdims=True), X), X.shape).copy()


def noise(X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Independent pixels, uniform over the range of values."""
    return to_dtype(rng.uniform(*value_range(X), size=X.shape), X)


def inverted(X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bright for dark."""
    low, high = value_range(X)
    return to_dtype(low + high - X.astype(np.float64), X)


def shifted(X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each image moved by a quarter of its side, up, down, left or right; pixels that come in have the lowest value."""
    result = np.full_like(X, to_dtype(np.array(value_range(X)[0]), X))
    direction = rng.integers(4, size=len(X))
    for k, (axis, sign) in enumerate([(1, -1), (1, 1), (2, -1), (2, 1)]):
        step = max(1, X.shape[axis] // 4)
        kept, freed = slice(None, -step), slice(step, None)
        target, source = (freed, kept) if sign > 0 else (kept, freed)
        rows = np.flatnonzero(direction == k)
        moved = np.full_like(result[rows], result.flat[0])
        index = (slice(None),) * axis
        moved[(*index, target)] = X[rows][(*index, source)]
        result[rows] = moved
    return result


def blurred(X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A Gaussian blur as wide as a fourteenth of the shorter side: 2 pixels for 28."""
    width = min(X.shape[1:3]) / 14
    return to_dtype(gaussian_filter(X.astype(np.float64), (0, width, width) + (0,) * (X.ndim - 3), mode="nearest"), X)


def permuted(X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each image cut into 4 x 4 patches that change places; rows and columns left over by the grid stay."""
    h, w = X.shape[1] // GRID, X.shape[2] // GRID
    rest = X.shape[3:]
    inner = X[:, : GRID * h, : GRID * w].reshape(len(X), GRID, h, GRID, w, *rest).swapaxes(2, 3)
    patches = inner.reshape(len(X), GRID * GRID, h, w, *rest)
    order = rng.permuted(np.tile(np.arange(GRID * GRID), (len(X), 1)), axis=1)
    moved = patches[np.arange(len(X))[:, None], order].reshape(len(X), GRID, GRID, h, w, *rest).swapaxes(2, 3)
    result = X.copy()
    result[:, : GRID * h, : GRID * w] = moved.reshape(len(X), GRID * h, GRID * w, *rest)
    return result


CORRUPTIONS: dict[str, Corruption] = {
    "constant": constant,
    "noise": noise,
    "inverted": inverted,
    "shifted": shifted,
    "blurred": blurred,
    "permuted": permuted,
}


def resized(X: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Images of another data set in the size, the range of values and the type of this one.

    Linear interpolation, which averages when it makes images smaller, so that there is no aliasing.

    Parameters
    ----------
    X : ndarray of shape (N, h, w) or (N, h, w, C)
    like : ndarray of shape (M, H, W) or (M, H, W, C)

    Returns
    -------
    ndarray of shape (N, H, W) or (N, H, W, C)
    """
    (low, high), (new_low, new_high) = value_range(X), value_range(like)
    rows = interpolation(X.shape[1], like.shape[1]).astype(np.float32)
    columns = interpolation(X.shape[2], like.shape[2]).astype(np.float32)
    unit = (X.astype(np.float32) - low) / (high - low or 1)
    unit = np.moveaxis(np.tensordot(rows, unit, axes=(1, 1)), 0, 1)
    unit = np.moveaxis(np.tensordot(columns, unit, axes=(1, 2)), 0, 2)
    return to_dtype(new_low + (new_high - new_low) * unit, like)
