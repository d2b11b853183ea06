"""Fitting this detector and its peers, behind one interface."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.benchmark.maps import maps_of_errors
from vae_anomaly.benchmark.peers import PEERS, Detector, scaled_rows
from vae_anomaly.detector import VAEDetector

if TYPE_CHECKING:
    import pandas as pd

VAE = "vae"
# the detector's defaults with one ingredient left out, and without all of them
VARIANTS: dict[str, dict[str, Any]] = {
    VAE: {},
    "vae-plain-likelihood": {"likelihood": "gaussian"},
    "vae-plain-prior": {"prior": "normal"},
    "vae-no-noise": {"input_noise": 0.0},
    "vae-plain": {"likelihood": "gaussian", "prior": "normal", "input_noise": 0.0},
}


@dataclass(frozen=True)
class Fitted:
    """A fitted method.

    Parameters
    ----------
    score_samples
        From the name of a score and samples ``(N, ...)`` to scores ``(N,)``, higher is more normal.
    training_scores
        From the name of a score to scores of the training samples in their order: those that the method keeps of its
        fit, in which a sample need not be its own neighbour, or else as any samples are scored.
    training_flags
        From the name of a score to which training samples its own threshold flags, ``(N,)`` bool; None without one.
    flags
        From the name of a score and samples to which of them its own threshold for 5 % false alarms flags, ``(N,)``
        bool; None without such a threshold.
    pixel_maps
        From images ``(N, H, W[, C])`` to maps of how anomalous each pixel is, ``(N, H, W)``; None where it has none.
    seconds
        What the fit took.
    transductive
        Whether a sample's score depends on the samples that it is scored with.
    """

    score_samples: Callable[[str, np.ndarray], np.ndarray]
    training_scores: Callable[[str], np.ndarray]
    training_flags: Callable[[str], np.ndarray | None]
    flags: Callable[[str, np.ndarray], np.ndarray | None]
    pixel_maps: Callable[[np.ndarray], np.ndarray | None]
    seconds: float
    transductive: bool = False


@cache
def warm_up(method: str, device: str = "auto") -> None:
    """Have a method load and compile what its first fit would, so that no fit's time includes it."""
    X = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    detector: Detector = PEERS[method].build(0) if method in PEERS else VAEDetector(epochs=1, device=device)
    with contextlib.suppress(Exception):  # what fails here fails again where it is recorded
        detector.fit(X)
        detector.score_samples(X)


def fit_detector(X_train: np.ndarray | pd.DataFrame, variant: str, seed: int, device: str) -> Fitted:
    """Our detector on the raw samples, which it scales by itself; one fit for all scores."""
    warm_up(VAE, device)
    started = time.perf_counter()
    detector = VAEDetector(random_state=seed, device=device, **VARIANTS[variant]).fit(X_train)
    seconds = time.perf_counter() - started
    fitted_score = detector.model_.score

    def score_samples(score: str, X: np.ndarray | pd.DataFrame) -> np.ndarray:
        detector.set_params(score_name=score)
        return detector.score_samples(X)

    def training_scores(score: str) -> np.ndarray:
        kept = getattr(detector, "training_scores_", None) if score == fitted_score else None
        return score_samples(score, X_train) if kept is None else np.asarray(kept)

    def flags(score: str, X: np.ndarray | pd.DataFrame) -> np.ndarray:
        detector.set_params(score_name=score)
        flagged: np.ndarray = detector.predict(X) == -1
        return flagged

    def training_flags(score: str) -> np.ndarray:
        return flags(score, X_train)

    return Fitted(score_samples, training_scores, training_flags, flags, detector.heat_maps, seconds)


def fit_peer(X_train: np.ndarray | pd.DataFrame, method: str, seed: int) -> Fitted:
    """A peer on rows scaled as for every other."""
    warm_up(method)
    detector = PEERS[method].build(seed)
    started = time.perf_counter()
    rows = scaled_rows(X_train)
    detector.fit(rows(X_train))
    seconds = time.perf_counter() - started

    def score_samples(score: str, X: np.ndarray | pd.DataFrame) -> np.ndarray:
        return detector.score_samples(rows(X))

    @cache
    def training_scores(score: str) -> np.ndarray:
        kept = getattr(detector, "training_scores_", None)
        return score_samples(score, X_train) if kept is None else np.asarray(kept)

    def training_flags(score: str) -> np.ndarray | None:
        offset = getattr(detector, "offset_", None)
        return None if offset is None else training_scores(score) < offset

    def flags(score: str, X: np.ndarray) -> None:
        """None: the thresholds of other authors, where there are any, are meant for other rates."""

    def pixel_maps(X: np.ndarray) -> np.ndarray | None:
        of_features = getattr(detector, "error_of_features", None)
        return None if of_features is None else maps_of_errors(of_features(rows(X)), X)

    transductive = PEERS[method].transductive
    return Fitted(score_samples, training_scores, training_flags, flags, pixel_maps, seconds, transductive)
