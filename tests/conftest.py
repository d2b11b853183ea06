"""Fixtures that several modules share: small fitted detectors, and data like what users have."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

# tests run side by side: threads of several processes would wait for each other more than they compute
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["SCIPY_ARRAY_API"] = "1"  # read once, when SciPy is imported; one of scikit-learn's checks asks for it

import numpy as np
import pytest

from vae_anomaly import VAEDetector


def table(n: int = 200, n_features: int = 6, seed: int = 0) -> np.ndarray:
    """Correlated Gaussian rows."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 3)) @ rng.normal(size=(3, n_features)) + 0.1 * rng.normal(size=(n, n_features))


def images(n: int = 60, shape: tuple[int, ...] = (9, 8), seed: int = 0) -> np.ndarray:
    """8-bit images of one bright bar each."""
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 40, size=(n, *shape), dtype=np.uint8)
    for image, column in zip(X, rng.integers(0, shape[1], size=n), strict=True):
        image[:, column] = 220
    return X


@pytest.fixture(scope="session")
def table_detector() -> VAEDetector:
    return VAEDetector(epochs=20).fit(table())


@pytest.fixture(scope="session")
def image_detector() -> VAEDetector:
    return VAEDetector(epochs=5, architecture="conv").fit(images())


@pytest.fixture(scope="session")
def make_table() -> Callable[..., np.ndarray]:
    return table


@pytest.fixture(scope="session")
def make_images() -> Callable[..., np.ndarray]:
    return images


@pytest.fixture
def global_random_state() -> Any:
    """A function that tells the state of every global random generator."""
    import random

    import torch

    def state() -> tuple[Any, ...]:
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002

    return state
