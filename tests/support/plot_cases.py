"""Made-up results, a maker of each plot, and how to find what a plot drew, ``from plot_cases import line``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from vae_anomaly import reports
from vae_anomaly.evaluation import evaluate
from vae_anomaly.evaluation.bands import precision_recall_band, roc_band


def scored(n: int = 120, m: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return np.r_[rng.normal(size=n), rng.normal(2, 2, size=m)] * 10 + 300, np.r_[np.zeros(n), np.ones(m)].astype(int)


def history(n: int = 12) -> list[dict[str, float]]:
    columns = {
        "epoch": np.arange(1, n + 1),
        "learning_rate": np.linspace(1e-3, 0, n),
        "reconstruction": -np.linspace(9, 1, n),
        "kl": np.linspace(0, 2, n),
        "validation_reconstruction": -((np.arange(n) - 7.0) ** 2),
        "validation_kl": np.ones(n),
    }
    return [dict(zip(columns, map(float, row), strict=True)) for row in zip(*columns.values(), strict=True)]


SCORES, LABELS = scored()
NORMAL, ANOMALOUS = SCORES[LABELS == 0], SCORES[LABELS == 1]
RESULT = evaluate(SCORES, LABELS, np.where(LABELS == 1, np.arange(180) % 3, -1), threshold=320.0)
ROC_BAND, PRECISION_BAND = roc_band(SCORES, LABELS), precision_recall_band(SCORES, LABELS)
RNG = np.random.default_rng(1)
MU, P = RNG.normal(size=(180, 4)) * [3, 1, 2, 0.01], (1 + np.arange(90)) / 91
IMAGES = RNG.random((2, 3, 7, 5, 3))
PLOTS: dict[str, Callable[[Axes | None], Figure]] = {
    "plot_roc": lambda ax: reports.plot_roc(RESULT.roc, RESULT.roc_auc, RESULT.decisions, ROC_BAND, ax),
    "plot_precision_recall": lambda ax: reports.plot_precision_recall(
        RESULT.precision_recall, RESULT.average_precision, RESULT.decisions, PRECISION_BAND, ax
    ),
    "plot_per_class": lambda ax: reports.plot_per_class(RESULT.per_group, RESULT.roc_auc, ax),
    "plot_scores": lambda ax: reports.plot_scores(NORMAL, ANOMALOUS, 320.0, NORMAL[:50], ax),
    "plot_p_values": lambda ax: reports.plot_p_values(P, 90, ax),
    "plot_history": lambda ax: reports.plot_history(history(), ax),
    "plot_terms": lambda ax: reports.plot_terms(-SCORES, SCORES / 9, LABELS, 320.0, ax),
    "plot_latent_space": lambda ax: reports.plot_latent_space(MU, LABELS, ax),
    "plot_latent_units": lambda ax: reports.plot_latent_units(MU.var(axis=0), ax),
    "image_rows": lambda ax: reports.image_rows(IMAGES, ["a", "b"], [-1, 0, 1], ax=ax),
    "plot_profiles": lambda ax: reports.plot_profiles(MU[:9], ["w", "x", "y", "z"], ax=ax),
}


def labelled(ax: Axes, start: str) -> Any:
    """The artist whose legend entry starts so."""
    handles, labels = ax.get_legend_handles_labels()
    (found,) = [handle for handle, label in zip(handles, labels, strict=True) if label.startswith(start)]
    return found


def line(ax: Axes, start: str) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.asarray(values, float) for values in labelled(ax, start).get_data())


def heights(ax: Axes, start: str) -> tuple[np.ndarray, np.ndarray]:
    patch = labelled(ax, start)
    assert isinstance(patch, StepPatch)
    return patch.get_data()[0], patch.get_data()[1]
