"""The choice of an architecture: by the normals' size, and by whether their pixels have a place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from vae_anomaly.fitting.architecture import chosen_architecture
from vae_anomaly.model.build import Choices
from vae_anomaly.parameters import DEFAULTS
from vae_anomaly.storage.rows import RowsInMemory

SIDE = 40
Y, X = np.mgrid[:SIDE, :SIDE]


def noise(rng: np.random.Generator, n: int, size: float = 1.5, side: int = SIDE) -> np.ndarray:
    """A stochastic texture, which no place of an image is different in."""
    return np.stack([gaussian_filter(rng.normal(size=(side, side)), size, mode="wrap") for _ in range(n)])


def waves(rng: np.random.Generator, n: int) -> np.ndarray:
    """Few numbers describe an image, and yet no place is different: a wave of any phase."""
    return np.sin(2 * np.pi * X / 8 + rng.uniform(0, 2 * np.pi, (n, 1, 1))) + 0.1 * rng.normal(size=(n, SIDE, SIDE))


def blobs(rng: np.random.Generator, n: int) -> np.ndarray:
    """A bright spot near the centre, of any width."""
    cy, cx = rng.uniform(16, 24, (2, n, 1, 1))
    return np.exp(-((Y - cy) ** 2 + (X - cx) ** 2) / rng.uniform(20, 80, (n, 1, 1)))


def strokes(rng: np.random.Generator, n: int) -> np.ndarray:
    """Characters: a few thin strokes anywhere near the centre."""
    images = np.zeros((n, SIDE, SIDE))
    for image in images:
        for _ in range(3):
            ends, t = rng.uniform(8, 32, (2, 2)), np.linspace(0, 1, 100)[:, None]
            image[tuple(((1 - t) * ends[0] + t * ends[1]).astype(int).T)] = 1
    return images


def cloth(rng: np.random.Generator, n: int) -> np.ndarray:
    """Threads that lie on the same pixels in every image."""
    threads = np.sin(2 * np.pi * X / 8) * np.sin(2 * np.pi * Y / 8)
    return threads * rng.normal(1, 0.05, (n, 1, 1)) + 0.3 * rng.normal(size=(n, SIDE, SIDE))


def chosen(images: np.ndarray, **parameters: Any) -> tuple[str, str]:
    given = DEFAULTS | parameters
    return chosen_architecture(given, Choices(given, images.shape[1:]), RowsInMemory(images.reshape(len(images), -1)))


@pytest.mark.parametrize("n", [30, 200])
@pytest.mark.parametrize(
    ("make", "expected"),
    [(noise, "patches"), (waves, "patches"), (blobs, "mlp"), (strokes, "mlp"), (cloth, "mlp")],
)
def test_textures_get_patches_and_images_of_things_in_place_do_not(make: Any, expected: str, n: int) -> None:
    images = make(np.random.default_rng(0), n)
    name, why = chosen(images)
    assert name == expected, why
    assert "other images explain" in why
    assert chosen(100 - 5 * images.astype(np.float32)) == (name, why)  # polarity, contrast and type do not matter


def test_large_images_get_patches_whatever_they_show() -> None:
    images = np.zeros((3, 128, 128, 3), np.uint8)
    assert chosen(images) == ("patches", "an image has 49,152 numbers, more than the 24,576 of mlp")


def test_tables_and_small_images_get_no_reason() -> None:
    rng = np.random.default_rng(0)
    assert chosen(rng.normal(size=(50, 2_000))) == chosen(noise(rng, 50, side=31)) == ("mlp", "")


def test_few_images_and_equal_ones_get_mlp() -> None:
    assert chosen(noise(np.random.default_rng(0), 9))[0] == "mlp"
    assert chosen(np.ones((20, SIDE, SIDE)))[0] in ("mlp", "patches")


@pytest.mark.parametrize(
    "given",
    [
        {"likelihood": "bernoulli"},
        {"prior": "mixture"},
        {"preprocessing": "standardize"},
        {"score_name": "likelihood_regret"},
    ],
)
def test_what_patches_cannot_have_makes_it_mlp(given: dict[str, Any]) -> None:
    (name,) = given
    images = noise(np.random.default_rng(0), 50)
    assert chosen(images)[0] == "patches"
    assert chosen(images, **given) == ("mlp", f"{name}={given[name]!r} is not for patches")
