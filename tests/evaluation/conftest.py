"""Labelled scores and a slow oracle that several modules of tests share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest


def pairs(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x[:, None] > y) + 0.5 * (x[:, None] == y)


def delong_by_pairs(labels: np.ndarray, *scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Areas and their covariance from all pairs, as in the paper."""
    psi = [pairs(s[labels == 1], s[labels == 0]) for s in scores]
    m, n = psi[0].shape
    v10, v01 = np.array([p.mean(1) for p in psi]), np.array([p.mean(0) for p in psi])
    return np.array([p.mean() for p in psi]), np.atleast_2d(np.cov(v10)) / m + np.atleast_2d(np.cov(v01)) / n


def mixed_scores(n: int = 300, shift: float = 1.0, seed: int = 0, decimals: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Scores, some of them equal, and labels."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.3).astype(int)
    return np.round(rng.normal(size=n) + shift * labels, decimals), labels


@pytest.fixture(scope="session")
def mixed() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    return mixed_scores


@pytest.fixture(scope="session")
def slow_delong() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    return delong_by_pairs
