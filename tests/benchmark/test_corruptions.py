"""Corruptions: what they keep, what they change, and that they draw from the generator given alone."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vae_anomaly.benchmark.corruptions import CORRUPTIONS, resized, value_range

SHAPES = [(12, 28, 28), (12, 9, 8), (12, 8, 9, 3)]


def pictures(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    values = np.random.default_rng(0).integers(0, 256, size=shape)
    return values.astype(np.uint8) if dtype == "uint8" else (values / 16).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_shape_type_and_range_stay_and_the_same_generator_gives_the_same_images(
    name: str, shape: tuple[int, ...], dtype: str, global_random_state
) -> None:
    X = pictures(shape, dtype)
    before, state = X.copy(), global_random_state()
    first, again = (CORRUPTIONS[name](X, np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(X, before)
    assert global_random_state() == state
    assert (first.shape, first.dtype) == (X.shape, X.dtype)
    low, high = value_range(X)
    assert first.min() >= low - 1e-5
    assert first.max() <= high + 1e-5
    assert all((a != b).any() for a, b in zip(first, X, strict=True))


def corrupted(name: str, X: np.ndarray) -> np.ndarray:
    return CORRUPTIONS[name](X, np.random.default_rng(0))


def test_constant_images_have_their_own_mean() -> None:
    X = pictures((5, 6, 6), "float64")
    flat = corrupted("constant", X)
    np.testing.assert_allclose(flat[:, 0, 0], X.mean(axis=(1, 2)))
    assert np.ptp(flat, axis=(1, 2)).max() == 0


def test_inverting_twice_changes_nothing() -> None:
    X = pictures((5, 6, 6), "uint8")
    np.testing.assert_array_equal(corrupted("inverted", corrupted("inverted", X)), X)
    assert corrupted("inverted", X)[0, 0, 0] == 255 - X[0, 0, 0]


def test_shifting_moves_by_a_quarter_and_fills_with_the_lowest_value() -> None:
    X = pictures((40, 8, 8), "uint8") // 2 + 100
    moved = corrupted("shifted", X)
    candidates = {
        "up": (np.s_[:-2, :], np.s_[2:, :]),
        "down": (np.s_[2:, :], np.s_[:-2, :]),
        "left": (np.s_[:, :-2], np.s_[:, 2:]),
        "right": (np.s_[:, 2:], np.s_[:, :-2]),
    }
    directions = []
    for image, original in zip(moved, X, strict=True):
        (direction,) = [name for name, (to, of) in candidates.items() if np.array_equal(image[to], original[of])]
        directions.append(direction)
        assert (image == 0).sum() == 16
    assert set(directions) == set(candidates)


def test_blurring_removes_detail_and_keeps_brightness() -> None:
    X = pictures((5, 28, 28), "float64")
    soft = corrupted("blurred", X)
    assert soft.std() < 0.3 * X.std()
    np.testing.assert_allclose(soft.mean(), X.mean(), rtol=0.05)


@pytest.mark.parametrize("shape", SHAPES)
def test_permuting_keeps_every_patch(shape: tuple[int, ...]) -> None:
    X = pictures(shape, "uint8")
    mixed = corrupted("permuted", X)
    h, w = shape[1] // 4, shape[2] // 4

    def patches(image: np.ndarray) -> list[bytes]:
        return sorted(image[h * i : h * (i + 1), w * j : w * (j + 1)].tobytes() for i in range(4) for j in range(4))

    assert all(patches(a) == patches(b) for a, b in zip(mixed, X, strict=True))
    np.testing.assert_array_equal(mixed[:, 4 * h :], X[:, 4 * h :])
    np.testing.assert_array_equal(mixed[:, :, 4 * w :], X[:, :, 4 * w :])


@pytest.mark.parametrize(("size", "new"), [((28, 28), (8, 8)), ((8, 8), (28, 28)), ((9, 14), (28, 7))])
def test_resizing_agrees_with_pillow(size: tuple[int, int], new: tuple[int, int]) -> None:
    X = pictures((3, *size), "uint8")
    ours = resized(X, np.array([np.zeros(new), np.ones(new)], dtype=np.float32))
    for image, result in zip(X, ours, strict=True):
        theirs = Image.fromarray(image.astype(np.float32)).resize(new[::-1], Image.Resampling.BILINEAR)
        np.testing.assert_allclose(result, np.asarray(theirs) / 255, atol=1e-5)


def test_resizing_takes_over_range_and_type() -> None:
    digits = pictures((4, 8, 8), "float32")
    as_bytes = resized(digits, np.zeros((1, 28, 28), np.uint8))
    assert (as_bytes.shape, as_bytes.dtype) == ((4, 28, 28), np.uint8)
    low, high = value_range(digits)
    same_size = resized(digits, np.zeros((1, 8, 8), np.uint8))
    np.testing.assert_array_equal(same_size, np.rint(255 * (digits - low) / (high - low)))
    np.testing.assert_array_equal(resized(np.full((2, 3, 3), 7.0), np.zeros((1, 3, 3), np.uint8)), 0)
