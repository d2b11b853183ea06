"""Scores that several modules of tests share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest


def mixed_scores(n: int = 200, m: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels, rounded so that some are equal."""
    rng = np.random.default_rng(seed)
    return np.round(np.concatenate([rng.normal(size=n), rng.normal(1.5, size=m)]), 1), np.repeat([0, 1], [n, m])


@pytest.fixture(scope="session")
def mixed() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    return mixed_scores
