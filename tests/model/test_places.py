"""Patches at the places of a grid: which pixels they hold, and what is put together of them."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vae_anomaly.model.places import SIDE, STRIDES, Grid

grids = st.builds(
    Grid.with_stride,
    st.tuples(st.integers(1, 13), st.integers(1, 13), st.sampled_from([1, 3])),
    side=st.integers(1, 5),
    stride=st.integers(1, 5),
).filter(lambda grid: max(np.diff(grid.tops), default=0) <= grid.window[0])


def images(grid: Grid, n: int = 2) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(n, math.prod(grid.image_shape))))


@given(grids)
def test_patches_hold_the_pixels_at_their_places(grid: Grid) -> None:
    x = images(grid)
    patches = grid.cut(x).numpy().reshape(2, grid.n_places, *grid.patch_shape)
    whole, (h, w) = x.numpy().reshape(2, *grid.image_shape), grid.window
    for place, (top, left) in enumerate(product(grid.tops, grid.lefts)):
        np.testing.assert_array_equal(patches[:, place], whole[:, top : top + h, left : left + w])


@given(st.integers(1, 40), st.integers(1, 40))
def test_every_pixel_is_covered_and_the_weights_of_its_patches_sum_to_one(height: int, width: int) -> None:
    grid = Grid.of((height, width, 2))
    x = images(grid)
    assert (grid.n_covering(x) >= 1).all()
    torch.testing.assert_close(grid.mean_over_places(grid.cut(x)), x)
    weights = grid.weights(x)
    assert weights.sum().item() == pytest.approx(height * width * 2)
    # the mean over places is what the weights make of patches
    values = torch.rand(2, grid.n_places, grid.n_patch_features, dtype=torch.float64)
    torch.testing.assert_close(grid.mean_over_places(values).sum(dim=1), (values * weights).sum(dim=(1, 2)))


@pytest.mark.parametrize(
    ("shape", "n_places"),
    [((9, 12, 1), 1), ((28, 28, 1), 16), ((64, 64, 3), 169), ((128, 128, 3), 841), ((512, 512, 3), 3_969)],
)
def test_places_stay_bounded_by_larger_strides(shape: tuple[int, int, int], n_places: int) -> None:
    assert Grid.of(shape).n_places == n_places <= STRIDES[-1][1]


def test_huge_images_are_covered_by_windows_that_touch() -> None:
    grid = Grid.of((2_000, 1_500, 1))
    assert max(np.diff(grid.tops)) == max(np.diff(grid.lefts)) == SIDE
    assert (grid.tops[-1] + SIDE, grid.lefts[-1] + SIDE) == (2_000, 1_500)
