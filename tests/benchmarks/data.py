"""Data of any size to measure with."""

from __future__ import annotations

import numpy as np

from vae_anomaly.datasets import load_named
from vae_anomaly.errors import DataUnavailableError


def images(n: int, side: int = 28) -> np.ndarray:
    """Smooth random images ``(n, side, side)`` uint8, two thirds of them dark; the side is a multiple of 4."""
    rng = np.random.default_rng(0)
    coarse = rng.random((min(n, 4096), side // 4, side // 4)) ** 3
    some = np.kron(coarse, np.ones((1, 4, 4)))
    return np.resize((255 * some * (some > 0.05)).astype(np.uint8), (n, side, side))


def table(n: int, n_features: int) -> np.ndarray:
    """Correlated normal rows ``(n, n_features)`` float32."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((max(1, n_features // 4), n_features), dtype=np.float32)
    rows = np.empty((n, n_features), dtype=np.float32)
    for start in range(0, n, 1 << 18):
        stop = min(n, start + (1 << 18))
        rows[start:stop] = rng.standard_normal((stop - start, len(mixing)), dtype=np.float32) @ mixing
        rows[start:stop] += 0.1 * rng.standard_normal((stop - start, n_features), dtype=np.float32)
    return rows


def mnist(normal: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """MNIST's training images of the normal classes, its test images, and which of these are anomalous."""
    try:
        train, test = load_named("mnist")
    except DataUnavailableError:
        return None
    assert train.labels is not None
    assert test.labels is not None
    return train.X[np.isin(train.labels, normal)], test.X, ~np.isin(test.labels, normal)
