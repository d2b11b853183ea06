"""Reports of made-up numbers with hostile names, ``from reporting import make_report``."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from vae_anomaly.calibration.methods import calibrate, promised_alarms
from vae_anomaly.evaluation import evaluate
from vae_anomaly.reports import Evidence, GeneratedSamples, Report, gallery_rows

Folders = dict[tuple[str, bool], Path]  # of reports by kind and whether they are labelled
HOSTILE = '<script>alert("1")</script>'
HISTORY = [
    {
        "epoch": epoch,
        "learning_rate": 1e-3,
        "reconstruction": -200.0 + epoch,
        "kl": 10.0 + epoch,
        "validation_reconstruction": -201.0 + epoch,
        "validation_kl": 10.0 + epoch,
    }
    for epoch in range(1, 9)
]


def make_report(
    kind: str = "images",
    *,
    labelled: bool = True,
    n: int = 400,
    seed: int = 0,
    image_shape: tuple[int, ...] = (6, 5, 1),
) -> Report:
    """A report on n images or rows of a table, of which two in five are anomalies."""
    rng = np.random.default_rng(seed)
    anomalous = rng.random(n) < 0.4
    kl, reconstruction = rng.gamma(9, 2, size=n), rng.normal(-100, 3, size=n) - 12 * anomalous
    score = kl - reconstruction
    held_kl, held_reconstruction = rng.gamma(9, 2, size=150), rng.normal(-100, 3, size=150)
    held_out = {"anomaly_score": held_kl - held_reconstruction, "reconstruction": held_reconstruction, "kl": held_kl}
    calibration = calibrate("conformal", held_out["anomaly_score"], rate=0.05)
    labels = np.where(anomalous, np.where(rng.random(n) < 0.5, HOSTILE, "b&b\u202e"), "normal\x1b[31m")
    evaluation = evaluate(
        score,
        anomalous.astype(int),
        labels,
        threshold=calibration.threshold,
        calibration_scores=held_out["anomaly_score"],
    )
    gallery = gallery_rows(score, calibration.threshold, anomalous if labelled else None)
    shape = image_shape if kind == "images" else None
    n_features = math.prod(shape) if shape else 4
    return Report(
        title=f"data {HOSTILE}",
        provenance={"data": HOSTILE, "command": "vae-anomaly report 'a b'"},
        date="2026-01-02 03:04:05+0000",
        score="elbo",
        anomaly_score=score,
        reconstruction=reconstruction,
        kl=kl,
        calibration=calibration,
        held_out=held_out,
        history=HISTORY,
        codes=rng.normal(size=(n, 7)) * np.arange(7),
        p_value=rng.random(n),
        code_rows=np.arange(n),
        gallery=gallery,
        evidence=make_evidence(rng, np.unique(np.concatenate(list(gallery.values()))), n_features),
        generated=make_generated_samples(rng, n_features),
        anomalous=anomalous if labelled else None,
        labels=labels if labelled else None,
        names=tuple(f"{i}<img src=x onerror=alert(1)>.png" for i in range(n)),
        evaluation=evaluation if labelled else None,
        promised=promised_alarms(calibration, int((~anomalous).sum())) if labelled else None,
        feature_names=None if shape else (HOSTILE, "$x_1$", "long " * 30, "b"),
        image_shape=shape,
        limits=(0.0, 1.0) if shape else None,
    )


def make_evidence(rng: np.random.Generator, rows: np.ndarray, n_features: int) -> Evidence:
    """Evidence for the samples of a gallery."""
    size = len(rows), n_features
    observed, expected, spread = rng.random((3, *size))
    return Evidence(rows=rows, observed=observed, expected=expected, spread=spread, excess=rng.normal(size=size))


def make_generated_samples(rng: np.random.Generator, n_features: int) -> GeneratedSamples:
    """Samples and ways through a latent space of seven units."""
    return GeneratedSamples(
        samples=rng.random((24, n_features)),
        traversal=rng.random((3, 9, n_features)),
        steps=np.linspace(-2, 2, 9),
        traversed=np.array([6, 5, 4]),
        interpolation=rng.random((9, n_features)),
    )
