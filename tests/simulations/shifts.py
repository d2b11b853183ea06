"""Worlds whose normals come in other proportions than those held out: features, scores and the true density ratio."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vae_anomaly.calibration.weighted import Target
from vae_anomaly.fitting.density_ratio import density_ratio

Drawn = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Shift:
    """How to draw normals, features ``(n, 2)`` and anomaly scores ``(n,)``, and how the target differs.

    Parameters
    ----------
    draw
        Normals of the population that a number stands for.
    held_out, target
        The numbers of the held-out normals and of the target.
    ratio
        The true density ratio, from features.
    """

    draw: Callable[[np.random.Generator, int, float], Drawn]
    held_out: float
    target: float
    ratio: Callable[[np.ndarray], np.ndarray]

    def known(self, rng: np.random.Generator, n: int) -> tuple[np.ndarray, Target]:
        """Scores of n held-out normals, and the target by its true ratio."""
        x, scores = self.draw(rng, n, self.held_out)
        return scores, Target(weights=self.ratio(x), n_rows=n, auc=0.75)

    def estimated(self, rng: np.random.Generator, n: int) -> tuple[np.ndarray, Target]:
        """Scores of n held-out normals, and the target as estimated from n rows."""
        x, scores = self.draw(rng, n, self.held_out)
        return scores, density_ratio(x, self.draw(rng, n, self.target)[0])

    def new(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Scores of normals of the target."""
        return self.draw(rng, n, self.target)[1]


def modes(rng: np.random.Generator, n: int, share: float) -> Drawn:
    """Two modes, ten apart, the second with this share and with scores three times as wide."""
    loud = rng.random(n) < share
    x = rng.normal(size=(n, 2))
    x[:, 0] += 10 * loud
    return x, np.abs(rng.normal(size=n)) * np.where(loud, 3.0, 1.0)


def moved(rng: np.random.Generator, n: int, by: float) -> Drawn:
    """A feature that has moved and that the score follows."""
    x = rng.normal(size=(n, 2))
    x[:, 0] += by
    return x, x[:, 0] + rng.normal(size=n)


SHIFTS = {
    "no shift": Shift(modes, 0.3, 0.3, lambda x: np.ones(len(x))),
    "modes, 10 % to 60 %": Shift(modes, 0.1, 0.6, lambda x: np.where(x[:, 0] > 5, 6.0, 4 / 9)),
    "a feature moved by 1": Shift(moved, 0.0, 1.0, lambda x: np.exp(x[:, 0] - 0.5)),
}
