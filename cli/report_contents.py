"""What a report shows, computed from a model and samples: scores, evaluation, evidence, what the model generates."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vae_anomaly.cli.data import even_rows
from vae_anomaly.cli.options import training_data_of, typed_arguments
from vae_anomaly.cli.text import comma_separated

if TYPE_CHECKING:
    import numpy as np

    from vae_anomaly.datasets import Dataset
    from vae_anomaly.detector import VAEDetector
    from vae_anomaly.evaluation import Evaluation
    from vae_anomaly.fitted_model import FittedModel
    from vae_anomaly.reports import Evidence, GeneratedSamples, Report

MAX_CODES = 5_000
N_SAMPLES = 24
N_STEPS = 9
N_TRAVERSED = 6


def build_report(
    detector: VAEDetector,
    samples: Dataset,
    anomalous: np.ndarray | None,
    normal: tuple[str, ...] | None,
    model: Path,
    notes: tuple[str, ...] = (),
) -> Report:
    """The report of a model, read from the file ``model``, on samples.

    Parameters
    ----------
    detector, samples, model
        What is reported.
    anomalous
        ``(N,)`` bool; None where there are no labels.
    normal
        Classes that are normal; with None the labels are no classes, and nothing is evaluated class by class.
    notes
        What a reader must know of how the samples were chosen.
    """
    import numpy as np

    from vae_anomaly.reports import Report, gallery_rows

    columns = detector.model_.score_table(samples.X)
    anomaly_score = columns["anomaly_score"]
    threshold, held_out = detector.calibration_.threshold, detector.held_out_scores_
    evaluation, promised = evaluate_if_labelled(detector, anomaly_score, anomalous, samples.labels if normal else None)
    gallery = gallery_rows(anomaly_score, threshold, anomalous)
    code_rows = even_rows(len(samples), MAX_CODES)
    codes = detector.transform(samples.take(code_rows).X)
    not_flagged = anomaly_score[code_rows] <= threshold
    shown = not_flagged if not_flagged.any() else np.ones_like(not_flagged)
    return Report(
        title=samples.source,
        provenance=provenance(detector, samples, model),
        date=time.strftime("%Y-%m-%d %H:%M:%S%z"),
        score=detector.score_name,
        anomaly_score=anomaly_score,
        p_value=columns["p_value"],
        reconstruction=columns["reconstruction"],
        kl=columns["kl"],
        calibration=detector.calibration_,
        held_out={
            "anomaly_score": -detector.calibration_scores_,
            "reconstruction": held_out["reconstruction"],
            "kl": -held_out["kl"],
        },
        history=detector.history_,
        codes=codes,
        code_rows=code_rows,
        gallery=gallery,
        evidence=explain_rows(detector, samples, np.unique(np.concatenate(list(gallery.values())))),
        generated=generate_samples(detector.model_, samples.take(code_rows[shown]), codes[shown]),
        anomalous=anomalous,
        labels=samples.labels,
        names=samples.row_names,
        evaluation=evaluation,
        promised=promised,
        feature_names=samples.feature_names,
        image_shape=detector.image_shape_,
        notes=notes,
        limits=None if detector.image_shape_ is None else black_and_white(samples.to_array()),
    )


def evaluate_if_labelled(
    detector: VAEDetector, anomaly_score: np.ndarray, anomalous: np.ndarray | None, classes: np.ndarray | None
) -> tuple[Evaluation | None, tuple[float, float] | None]:
    """The evaluation of scores, and the false-alarm rates promised for its normals; None if one kind is missing."""
    from vae_anomaly.calibration.methods import promised_alarms
    from vae_anomaly.evaluation import evaluate

    if anomalous is None or not anomalous.any() or anomalous.all():
        return None, None
    evaluation = evaluate(
        anomaly_score,
        anomalous.astype(int),
        classes,
        threshold=detector.calibration_.threshold,
        calibration_scores=-detector.calibration_scores_,
    )
    return evaluation, promised_alarms(detector.calibration_, evaluation.roc_auc.n_normal)


def explain_rows(detector: VAEDetector, samples: Dataset, rows: np.ndarray) -> Evidence:
    """What the model expected of the samples with these indices, and what each feature costs."""
    import numpy as np

    from vae_anomaly.reports import Evidence

    chosen = samples.take(rows)
    explanation = detector.explain(chosen.X)
    return Evidence(
        rows=rows,
        observed=np.asarray(chosen.X, dtype=np.float64).reshape(len(rows), -1),
        expected=explanation.expected,
        spread=explanation.spread,
        excess=explanation.excess,
    )


def generate_samples(model: FittedModel, samples: Dataset, codes: np.ndarray) -> GeneratedSamples:
    """What the model takes for normal: samples, traversals of latents, and a line between two normals.

    A traversal varies one latent, the others at their means over the codes of normals; those latents are shown that
    vary most. The line leads from the code nearest to the mean of all to one that is farther from it than 90 % are.
    """
    import numpy as np

    from vae_anomaly.reports import GeneratedSamples

    centre, spread = codes.mean(axis=0), codes.std(axis=0)
    traversed = np.argsort(-spread, kind="stable")[:N_TRAVERSED]
    steps = np.linspace(-2, 2, N_STEPS)
    grid = np.tile(centre, (len(traversed), N_STEPS, 1))
    for i, unit in enumerate(traversed):
        grid[i, :, unit] += steps * spread[unit]
    first = np.argmin(np.square(codes - centre).sum(axis=1))
    by_distance = np.argsort(np.square(codes - codes[first]).sum(axis=1), kind="stable")
    ends = samples.take(np.array([first, by_distance[int(0.9 * (len(codes) - 1))]]))
    return GeneratedSamples(
        samples=model.sample(N_SAMPLES).reshape(N_SAMPLES, -1),
        traversal=model.inverse_transform(grid.reshape(-1, codes.shape[1])).reshape(len(traversed), N_STEPS, -1),
        steps=steps,
        traversed=traversed,
        interpolation=model.interpolate(model.rows(ends.X), N_STEPS).reshape(N_STEPS, -1),
    )


def black_and_white(X: np.ndarray) -> tuple[float, float]:
    """Values of pixels to show as black and as white."""
    if X.dtype.kind == "u":
        return 0.0, float(2 ** (8 * X.dtype.itemsize) - 1)
    low, high = float(X.min()), float(X.max())
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def hashable(samples: Dataset) -> np.ndarray:
    """Samples as an array of plain values; of a table that is not all numbers, a hash for each row."""
    import pandas as pd

    values = samples.to_array()
    if values.dtype != object:
        return values
    return pd.util.hash_pandas_object(pd.DataFrame(samples.X), index=False).to_numpy()


def provenance(detector: VAEDetector, samples: Dataset, model: Path) -> dict[str, str]:
    """What is needed to repeat the run."""
    from vae_anomaly.parameters import NOT_KEPT
    from vae_anomaly.storage.model_file import versions
    from vae_anomaly.storage.rows import fingerprint

    values = hashable(samples)
    source, normal = training_data_of(detector.metadata_)
    parameters = {
        name: value for name, value in detector.get_params().items() if value is not None and name not in NOT_KEPT
    }
    return {
        "data": samples.source,
        "data SHA-256": fingerprint(values, *(() if samples.labels is None else (samples.labels,))),
        "samples": f"{len(samples):,} x {' x '.join(map(str, samples.X.shape[1:]))}, {values.dtype}",
        "model": str(model),
        "model SHA-256": str(detector.model_.file_digest),
        "trained on": (source or "not recorded") + (f", normal: {comma_separated(normal)}" if normal else ""),
        "seed": str(detector.random_state),
        "parameters": ", ".join(f"{name}={value}" for name, value in parameters.items()),
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "command": shlex.join(["vae-anomaly", *typed_arguments()]),
    }
