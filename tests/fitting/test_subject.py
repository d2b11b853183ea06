"""Patches that are cut to train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vae_anomaly.fitting import subject
from vae_anomaly.fitting.subject import random_patches
from vae_anomaly.model.places import Grid
from vae_anomaly.storage.rows import RowsInMemory, RowsOnDisk

GRID = Grid.with_stride((9, 11, 2), 4, 2)


def numbered(n: int) -> np.ndarray:
    """Images whose every pixel says in which image and where it is."""
    return np.arange(n * 9 * 11 * 2, dtype=np.float64).reshape(n, -1)


def cut(rows: RowsInMemory | RowsOnDisk, n: int = 60) -> np.ndarray:
    return random_patches(rows, GRID, n, torch.Generator().manual_seed(0)).values


def test_each_is_a_window_of_an_image_and_all_images_have_as_many() -> None:
    patches = cut(RowsInMemory(numbered(10)))
    assert patches.shape == (60, 32)
    image, place = np.divmod(patches[:, 0].astype(int), 9 * 11 * 2)
    np.testing.assert_array_equal(np.bincount(image), [6] * 10)
    top, left = np.divmod(place // 2, 11)
    assert (top.min(), top.max(), left.min(), left.max()) == (0, 5, 0, 7)
    whole = numbered(10).reshape(10, 9, 11, 2)
    for patch, i, y, x in zip(patches, image, top, left, strict=True):
        np.testing.assert_array_equal(patch, whole[i, y : y + 4, x : x + 4].ravel())


def test_rows_on_disk_give_the_same_a_few_images_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X = numbered(10)
    X.tofile(tmp_path / "rows")
    with open(tmp_path / "rows", "rb") as file:
        rows = RowsOnDisk(file=file, offset=0, file_shape=X.shape, dtype=X.dtype, source="rows")
        monkeypatch.setattr(subject, "READ_BYTES", 3 * X[0].nbytes)
        np.testing.assert_array_equal(cut(rows), cut(RowsInMemory(X)))


def test_memory_is_bounded_and_few_images_give_no_more_patches_than_they_have_places(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert len(cut(RowsInMemory(numbered(1)), 1_000)) == 6 * 8
    monkeypatch.setattr(subject, "PATCH_BYTES", 20 * 32 * 8)
    assert len(cut(RowsInMemory(numbered(10)))) == 20
