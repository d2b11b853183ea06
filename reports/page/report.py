"""Everything that a report shows, as arrays and plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from vae_anomaly.calibration.result import Calibration
from vae_anomaly.evaluation.result import Curve, Evaluation
from vae_anomaly.tables.row_names import renamed
from vae_anomaly.tables.words import FeatureInWords

CURVE_POINTS = 2_000


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Why the samples shown have their scores; all ``(G, D)`` but ``rows``, values in the features' own units.

    Parameters
    ----------
    rows
        Numbers of the samples, ``(G,)``.
    observed, expected, spread
        The samples, the values that the model expects, and the standard deviations that it expects around them.
    excess
        How much each feature adds to the anomaly score beyond what the model predicts, in nats.
    words
        All features of each sample in words, of a table with more than plain numbers; its categories are codes above.
    heat
        Of images: how odd each place is, ``(G, H, W)``, in nats; None where the model does not know.
    strongest_heat
        Where the colour of heat is the strongest, the same for all images of a model.
    """

    rows: np.ndarray
    observed: np.ndarray
    expected: np.ndarray
    spread: np.ndarray
    excess: np.ndarray
    words: Sequence[Sequence[FeatureInWords]] | None = None
    heat: np.ndarray | None = None
    strongest_heat: float = 1.0


@dataclass(frozen=True, kw_only=True)
class GeneratedSamples:
    """What the model takes for normal, in the features' own units.

    Parameters
    ----------
    samples
        Drawn from the model, ``(S, D)``.
    traversal
        Decoded latents, ``(L, K, D)``: K values of each of L latent units, the other units at their means.
    steps
        Those values, ``(K,)``, in standard deviations from the unit's mean.
    traversed
        Numbers of the latent units, ``(L,)``.
    interpolation
        Decoded latents on the line between two normals, ``(K, D)``.
    """

    samples: np.ndarray
    traversal: np.ndarray
    steps: np.ndarray
    traversed: np.ndarray
    interpolation: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Report:
    """The contents of a report. Anomaly scores: higher is more anomalous.

    Parameters
    ----------
    title
        Name of the data.
    provenance
        What is needed to repeat the run, as names and values.
    date
        When the report was made; nothing else on the page changes if the report is made again.
    score
        Name of the score in use.
    anomaly_score, p_value, reconstruction, kl
        Of each sample, ``(N,)``.
    calibration
        The threshold and the rates that go with it.
    held_out
        Of the held-out normals, ``(M,)`` each: ``anomaly_score``, ``reconstruction``, ``kl``; ``weight`` where they are
        weighted for a target.
    anomalous, labels, names
        Where known: which samples are anomalies ``(N,)`` bool, their class names, and the files that they come from.
    row_numbers
        Each sample's number in its source, ``(N,)``.  [default: 0, 1, ...]
    ids
        What else names the samples: text ``(N,)`` by column.
    missing
        Of a table with gaps: how many cells of each row are missing, ``(N,)``.
    evaluation, promised
        How good the score is on labelled samples; the range of false-alarm rates promised for this many normals.
    history
        One record an epoch of the training.
    codes, code_rows
        Posterior means of some samples ``(K, L)``, and the numbers of these samples ``(K,)``.
    gallery, evidence
        Samples to look at, by kind, and why they have their scores.
    generated
        What the model takes for normal.
    feature_names
        ``D`` names; None for images.
    levels
        Of the features that are categories, by their places: the levels that their codes stand for.
    image_shape, limits
        Height, width, channels of images, and the values shown as black and white; None for tables.
    notes
        What a reader must know about how the samples were chosen.
    """

    title: str
    provenance: dict[str, str]
    date: str
    score: str
    anomaly_score: np.ndarray
    p_value: np.ndarray
    reconstruction: np.ndarray
    kl: np.ndarray
    calibration: Calibration
    held_out: dict[str, np.ndarray]
    history: Sequence[Mapping[str, Any]]
    codes: np.ndarray
    code_rows: np.ndarray
    gallery: dict[str, np.ndarray]
    evidence: Evidence
    generated: GeneratedSamples
    anomalous: np.ndarray | None = None
    labels: np.ndarray | None = None
    names: tuple[str, ...] | None = None
    row_numbers: np.ndarray | None = None
    ids: Mapping[str, np.ndarray] = field(default_factory=dict)
    missing: np.ndarray | None = None
    evaluation: Evaluation | None = None
    promised: tuple[float, float] | None = None
    feature_names: tuple[str, ...] | None = None
    levels: Mapping[int, Sequence[str]] = field(default_factory=dict)
    image_shape: tuple[int, ...] | None = None
    limits: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> np.ndarray:
        """What the samples are called, ``(N,)``: their numbers in the source."""
        return np.arange(len(self.anomaly_score)) if self.row_numbers is None else self.row_numbers

    @property
    def row_titles(self) -> list[str]:
        """What else they are called, where that is known: ``id A17`` and the like, ``(N,)``."""
        parts = [[f"{name} {text}" for text in texts] for name, texts in self.ids.items()]
        parts += [] if self.names is None else [list(self.names)]
        return [", ".join(titles) for titles in zip(*parts, strict=True)]

    @property
    def flagged(self) -> np.ndarray:
        """Which samples lie above the threshold, ``(N,)`` bool."""
        above: np.ndarray = self.anomaly_score > self.calibration.threshold
        return above

    @property
    def threshold_interval(self) -> str:
        """The threshold's interval in words."""
        return self.calibration.threshold_interval(nats)

    def frame(self) -> pd.DataFrame:
        """One row a sample, as ``scores.csv`` has it."""
        columns: dict[str, Any] = {"row": self.rows}
        if self.labels is not None:
            columns["label"] = self.labels
        if self.anomalous is not None:
            columns["anomaly"] = self.anomalous.astype(int)
        columns |= {
            "anomaly_score": self.anomaly_score,
            "decision": self.flagged.astype(int),
            "p_value": self.p_value,
            "reconstruction": self.reconstruction,
            "kl": self.kl,
        }
        if self.missing is not None:
            columns["missing"] = self.missing
        if self.names is not None:
            columns["file"] = self.names
        names = renamed(self.ids, columns)
        return pd.DataFrame({"row": columns.pop("row")} | names | columns)

    def numbers(self) -> dict[str, Any]:
        """All numbers but those of single samples, ready for JSON; long curves are thinned to 2,000 points."""
        test = None
        if self.evaluation is not None:
            test = self.evaluation.to_dict() | {
                "promised_false_alarms": self.promised,
                "roc": thinned(self.evaluation.roc),
                "precision_recall": thinned(self.evaluation.precision_recall),
            }
        return {
            "title": self.title,
            "date": self.date,
            "provenance": self.provenance,
            "score": self.score,
            "n_samples": len(self.anomaly_score),
            "n_flagged": int(self.flagged.sum()),
            "threshold": asdict(self.calibration),
            "test": test,
            "history": list(self.history),
            "gallery": {kind: self.rows[places].tolist() for kind, places in self.gallery.items()},
            "latent_variance": self.codes.var(axis=0).tolist(),
        }


def nats(value: float) -> str:
    """A score or a term, with two decimals; from a million on with six digits."""
    return f"{value:,.2f}" if abs(value) < 1e6 else f"{value:.6g}"


def thinned(curve: Curve) -> dict[str, list[float | None]]:
    """A curve as lists of at most 2,000 points; JSON has no infinity."""
    n = len(curve.x)
    kept = np.unique(np.linspace(0, n - 1, min(n, CURVE_POINTS)).astype(int))
    return {
        name: [value if math.isfinite(value) else None for value in values[kept].tolist()]
        for name, values in vars(curve).items()
    }
