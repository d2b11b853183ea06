"""How long to train follows from the number of rows, and for wide ones from their width."""

from __future__ import annotations

import numpy as np
import pytest

from vae_anomaly.fitting.recipe import default_epochs
from vae_anomaly.storage.rows import RowsInMemory


@pytest.mark.parametrize(
    ("n", "n_features", "epochs"),
    [
        (100, 20, 200),
        (2_000, 784, 128),
        (100_000, 20, 30),
        (1_280, 1_024, 200),
        (1_280, 2_048, 100),
        (160, 64 * 64 * 3, 80),
        (5_120, 64 * 64 * 3, 50),
        (10_000, 4_096, 30),
    ],
)
def test_wide_rows_are_passed_less_often(n: int, n_features: int, epochs: int) -> None:
    rows = RowsInMemory(np.broadcast_to(np.zeros((), np.uint8), (n, n_features)))
    assert default_epochs(rows, 128, are_images=False) == epochs


@pytest.mark.parametrize(
    ("n", "n_pixels", "epochs"), [(500, 784, 200), (2_000, 784, 96), (20_000, 784, 30), (960, 12_288, 80)]
)
def test_images_are_passed_less_often(n: int, n_pixels: int, epochs: int) -> None:
    rows = RowsInMemory(np.broadcast_to(np.zeros((), np.uint8), (n, n_pixels)))
    assert default_epochs(rows, 128, are_images=True) == epochs
