"""Fit what `vae_anomaly.scoring.worst_place` compares images with, to rows that no weight was fitted to.

A statistic's tail is its mean excess above the median of these rows. Where they do not differ, it is a
hundred-thousandth of the statistic's size, so that no score divides by zero.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from vae_anomaly.model.vae import VAE
from vae_anomaly.scoring.blocks import by_block
from vae_anomaly.scoring.worst_place import SIGNS, ImageStatistics, largest_energies, n_statistics, raw_signs
from vae_anomaly.storage.rows import RowsInMemory

MAX_ROWS = 1_000
SMALLEST_SHARE = 1e-5
SMALLEST_TAIL = 1e-6


def fit_image_statistics(vae: VAE, X: RowsInMemory, noise: Tensor, image_shape: tuple[int, ...]) -> None:
    """Set ``vae.tails``.

    Parameters
    ----------
    vae
        Trained, with its prior and likelihood fitted.
    X
        Raw rows ``(M, D)`` that no weight was fitted to; of more than 1,000, an even sample.
    noise
        Latent draws ``(K, 1, L)`` of the scores.
    image_shape
        Height, width and channels.
    """
    rows, n = X.values[:: math.ceil(len(X) / MAX_ROWS)], n_statistics(image_shape)
    statistics = ImageStatistics(image_shape, location=torch.zeros(n), tail=torch.ones(n)).to(vae.scaling.loc)

    def energies_of(x: Tensor) -> tuple[Tensor]:
        return (largest_energies(vae, x, statistics),)

    def signs_of(x: Tensor) -> tuple[Tensor]:
        return (raw_signs(vae, x, noise, statistics),)

    set_tails(statistics, len(SIGNS), by_block(vae, rows, energies_of)[0])
    set_tails(statistics, 0, by_block(vae, rows, signs_of)[0])
    vae.tails = statistics


def set_tails(statistics: ImageStatistics, start: int, values: np.ndarray) -> None:
    """Fit location and tail of the statistics from number ``start`` on to their values ``(M, n)``."""
    median = np.median(values, axis=0).astype(np.float64)
    excess = np.maximum(values - median, 0).sum(axis=0) / np.maximum((values > median).sum(axis=0), 1)
    tail = np.maximum(excess, SMALLEST_SHARE * np.abs(median)).clip(SMALLEST_TAIL)
    for buffer, fitted in ((statistics.location, median), (statistics.tail, tail)):
        buffer[start : start + len(fitted)] = torch.from_numpy(fitted).to(buffer)
