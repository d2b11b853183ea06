"""Distributions of scores with a known truth: normals, and anomalies with a given ROC-AUC against them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.stats import norm

Draw = Callable[[np.random.Generator, int], np.ndarray]
FAR = 50.0


@dataclass(frozen=True)
class World:
    """How to draw scores of normals and of anomalies."""

    normal: Draw
    anomalous: Draw


def standard(rng: np.random.Generator, size: int) -> np.ndarray:
    return rng.normal(size=size)


def binormal(auc: float, spread: float = 1.0) -> World:
    """Normal laws, that of the anomalies with another spread."""
    shift = norm.ppf(auc) * math.hypot(1, spread)
    return World(standard, lambda rng, size: shift + spread * rng.normal(size=size))


def ties(auc: float) -> World:
    """Binormal scores, rounded."""
    exact = binormal(auc)
    return World(
        lambda rng, size: np.round(exact.normal(rng, size)), lambda rng, size: np.round(exact.anomalous(rng, size))
    )


def heavy(auc: float) -> World:
    """Student's t with three degrees of freedom, shifted."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_t(3, size=(2, 400_000))
    shift = float(np.quantile(a - b, auc))
    return World(lambda rng, size: rng.standard_t(3, size), lambda rng, size: shift + rng.standard_t(3, size))


def some_like_normals(auc: float) -> World:
    """Anomalies that are found without doubt, but for a share that looks normal."""
    return World(standard, lambda rng, size: standard(rng, size) + FAR * (rng.random(size) >= 2 * (1 - auc)))


def some_below(auc: float) -> World:
    """The same, but for a share that scores below all normals."""
    return World(standard, lambda rng, size: standard(rng, size) + np.where(rng.random(size) < auc, FAR, -FAR))


def outliers_among_normals(auc: float) -> World:
    """Anomalies above all normals but for a share of these, which is above all anomalies."""
    return World(
        lambda rng, size: standard(rng, size) + 2 * FAR * (rng.random(size) >= auc),
        lambda rng, size: FAR + standard(rng, size),
    )


WORLDS: dict[str, Callable[[float], World]] = {
    "binormal": binormal,
    "spread 3": lambda auc: binormal(auc, 3.0),
    "spread 0.3": lambda auc: binormal(auc, 0.3),
    "ties": ties,
    "heavy tails": heavy,
    "some like normals": some_like_normals,
    "some below normals": some_below,
    "outliers among normals": outliers_among_normals,
}


@cache
def world(name: str, auc: float) -> World:
    """A world by its name; drawn from once for its constants."""
    return WORLDS[name](auc)


@cache
def truth(name: str, auc: float, prevalence: float) -> tuple[float, float]:
    """ROC-AUC and average precision of a world, from 400,000 draws of each kind."""
    rng, drawn = np.random.default_rng(1), world(name, auc)
    anomalous, normal = np.sort(drawn.anomalous(rng, 400_000)), np.sort(drawn.normal(rng, 400_000))
    below, up_to = (np.searchsorted(normal, anomalous, side=side) for side in ("left", "right"))
    found = 1 - np.searchsorted(anomalous, anomalous, side="left") / len(anomalous)
    wrong = 1 - below / len(normal)
    precision = prevalence * found / (prevalence * found + (1 - prevalence) * wrong)
    exact = auc if name != "ties" else float((below + up_to).mean() / (2 * len(normal)))
    return exact, float(precision.mean())


def adverse_p_values(rng: np.random.Generator) -> np.ndarray:
    """P-values of ten normals against 49, each uniform on 1/50, ..., 1, that depend so that many are small at once.

    With probability 0.2 / k, k of them lie in the k-th fiftieth and all others above 0.2; Benjamini and Hochberg's
    procedure at 0.2 then flags those k.
    """
    m, level = 10, 0.2
    chances = level / np.arange(1, m + 1)
    k = int(rng.choice(m + 1, p=[1 - chances.sum(), *chances]))
    p = rng.integers(11, 51, m) / 50
    p[rng.permutation(m)[:k]] = k / 50
    return p


def adverse_stream(rng: np.random.Generator, n: int, n_rows: int, per_budget: int) -> tuple[np.ndarray, np.ndarray]:
    """P-values of a stream against ``n`` normals, and which rows are odd: as many as make LORD++ err most.

    Whoever places them knows the held-out normals. He keeps the level at that multiple j of 1 / (n + 1) which normals
    fall below most often for its size, where each discovery pays for that many rows.
    """
    normals = np.sort(rng.random(n))
    of_rank = 1 - normals[: -per_budget - 1 : -1]
    j = 1 + int(np.argmax(of_rank / np.arange(1, len(of_rank) + 1)))
    share = max(1.0, j - per_budget * of_rank[j - 1]) / per_budget
    is_odd = np.diff(np.floor(np.arange(n_rows + 1) * share)) > 0
    is_odd[: j + 1] = True
    scores = np.where(is_odd, 2.0, rng.random(n_rows))
    return (1 + n - np.searchsorted(normals, scores, side="left")) / (n + 1), is_odd
