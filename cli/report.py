"""``vae-anomaly report``: one page that shows how good a model is, what it flags, and why."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vae_anomaly.cli import options
from vae_anomaly.cli.data import is_normal, listed, normal_classes, samples_of

if TYPE_CHECKING:
    import numpy as np

    from vae_anomaly.datasets import Dataset
    from vae_anomaly.detector import VAEDetector
    from vae_anomaly.reports import Beliefs, Evidence, Report

MAX_CODES = 5_000
N_SAMPLES = 24
N_STEPS = 9
N_TRAVERSED = 6


@click.command()
@click.argument("model", type=options.file_path)
@click.argument("data", type=options.data_path, required=False)
@click.option(
    "--dataset", type=click.Choice(options.DATASETS), help="Test part of a data set by name, instead of DATA."
)
@options.data_dir_option
@options.labels_option
@options.label_column_option
@click.option(
    "--normal", type=options.NameList(), help="Classes that are normal.  [default: those the model was trained on]"
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("report"),
    show_default=True,
    help="Folder to write; an earlier report there is replaced.",
)
@options.score_option
@options.device_option
def report(
    model: Path,
    data: Path | None,
    dataset: str | None,
    data_dir: Path | None,
    labels: Path | None,
    label_column: str | None,
    normal: tuple[str, ...] | None,
    output: Path,
    score_name: str | None,
    device: str,
) -> None:
    """Show what a model makes of samples, with or without labels: report.html, report.json, scores.csv, figures.

    The page opens from disk and needs no network. It shows how good the scores are, what the threshold costs, the
    samples that are most anomalous, borderline, missed and false alarms with what makes their score, and what the model
    believes normal is.
    """
    from vae_anomaly.reports import PAGE, check_report_folder, write_report

    check_report_folder(output)
    samples = samples_of(data, dataset, data_dir, labels, label_column)
    if samples.labels is None and normal is not None:
        raise click.UsageError("--normal needs labels: give --labels, --label-column or a folder of classes")
    detector = options.load_detector(model, device, score_name)
    anomalous = None
    if samples.labels is not None:
        normal = normal_classes(detector, samples, normal, dataset is not None)
        anomalous = ~is_normal(samples.labels, normal, samples.source)
    write_report(gather(detector, samples, anomalous, normal, model), output)
    options.say(f"wrote {output / PAGE}")


def gather(
    detector: VAEDetector,
    samples: Dataset,
    anomalous: np.ndarray | None,
    normal: tuple[str, ...] | None,
    model: Path,
    notes: tuple[str, ...] = (),
) -> Report:
    """What a report on samples shows, of which ``anomalous`` says which are anomalies."""
    import numpy as np

    from vae_anomaly.calibration.methods import promised_alarms
    from vae_anomaly.evaluation.metrics import evaluate
    from vae_anomaly.reports import Report, gallery_rows

    columns = detector.model_.score_table(samples.X, samples.feature_names)
    anomaly_score = columns["anomaly_score"]
    calibration, held_out = detector.calibration_, -detector.calibration_scores_
    evaluation = promised = None
    if anomalous is not None and anomalous.any() and not anomalous.all():
        evaluation = evaluate(
            anomaly_score,
            anomalous.astype(int),
            samples.labels if normal else None,
            threshold=calibration.threshold,
            calibration_scores=held_out,
        )
        promised = promised_alarms(calibration, evaluation.roc_auc.n_normal)
    gallery = gallery_rows(anomaly_score, calibration.threshold, anomalous)
    code_rows = np.unique(np.linspace(0, len(samples) - 1, min(len(samples), MAX_CODES)).astype(int))
    codes = detector.transform(samples.take(code_rows).to_frame())
    passed = anomaly_score[code_rows] <= calibration.threshold
    return Report(
        title=samples.source,
        provenance=provenance(detector, samples, model),
        date=time.strftime("%Y-%m-%d %H:%M:%S%z"),
        score=detector.score_name,
        anomaly_score=anomaly_score,
        p_value=columns["p_value"],
        reconstruction=columns["reconstruction"],
        kl=columns["kl"],
        calibration=calibration,
        held_out={
            "anomaly_score": held_out,
            "reconstruction": detector.held_out_scores_["reconstruction"],
            "kl": -detector.held_out_scores_["kl"],
        },
        history=detector.history_,
        codes=codes,
        code_rows=code_rows,
        gallery=gallery,
        evidence=evidence(detector, samples, np.unique(np.concatenate(list(gallery.values())))),
        beliefs=beliefs(detector, codes[passed] if passed.any() else codes),
        anomalous=anomalous,
        labels=samples.labels,
        names=samples.row_names,
        evaluation=evaluation,
        promised=promised,
        feature_names=samples.feature_names,
        image_shape=detector.image_shape_,
        notes=notes,
        limits=None if detector.image_shape_ is None else limits(samples.X),
    )


def evidence(detector: VAEDetector, samples: Dataset, rows: np.ndarray) -> Evidence:
    """Why these samples score as they do."""
    import numpy as np

    from vae_anomaly.reports import Evidence

    chosen = samples.take(rows)
    explanation = detector.explain(chosen.to_frame())
    return Evidence(
        rows=rows,
        observed=np.asarray(chosen.X, dtype=np.float64).reshape(len(rows), -1),
        expected=explanation.expected,
        spread=explanation.spread,
        excess=explanation.excess,
    )


def beliefs(detector: VAEDetector, codes: np.ndarray) -> Beliefs:
    """What the model believes normal is: samples, traversals, and the way between two normals far apart."""
    import numpy as np

    from vae_anomaly.reports import Beliefs

    centre, spread = codes.mean(axis=0), codes.std(axis=0)
    traversed = np.argsort(-spread, kind="stable")[:N_TRAVERSED]
    steps = np.linspace(-2, 2, N_STEPS)
    grid = np.tile(centre, (len(traversed), N_STEPS, 1))
    for i, unit in enumerate(traversed):
        grid[i, :, unit] += steps * spread[unit]
    first = codes[np.argmin(np.square(codes - centre).sum(axis=1))]
    last = codes[np.argsort(np.square(codes - first).sum(axis=1), kind="stable")[int(0.9 * (len(codes) - 1))]]
    along = np.linspace(0, 1, N_STEPS)[:, None]

    def decode(z: np.ndarray) -> np.ndarray:
        return detector.inverse_transform(z).reshape(len(z), -1)

    return Beliefs(
        samples=detector.sample(N_SAMPLES).reshape(N_SAMPLES, -1),
        traversal=decode(grid.reshape(-1, codes.shape[1])).reshape(len(traversed), N_STEPS, -1),
        steps=steps,
        traversed=traversed,
        interpolation=decode((1 - along) * first + along * last),
    )


def limits(X: np.ndarray) -> tuple[float, float]:
    """Values to show as black and as white."""
    if X.dtype.kind == "u":
        return 0.0, float(2 ** (8 * X.dtype.itemsize) - 1)
    low, high = float(X.min()), float(X.max())
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def provenance(detector: VAEDetector, samples: Dataset, model: Path) -> dict[str, str]:
    """What it takes to repeat the run."""
    from vae_anomaly.parameters import NOT_KEPT
    from vae_anomaly.storage.model_file import versions
    from vae_anomaly.storage.rows import fingerprint

    source, normal = options.trained_on(detector.metadata_)
    parameters = {
        name: value for name, value in detector.get_params().items() if value is not None and name not in NOT_KEPT
    }
    return {
        "data": samples.source,
        "data SHA-256": fingerprint(samples.X, *(() if samples.labels is None else (samples.labels,))),
        "samples": f"{len(samples):,} x {' x '.join(map(str, samples.X.shape[1:]))}, {samples.X.dtype}",
        "model": str(model),
        "model SHA-256": str(detector.model_.file_digest),
        "trained on": (source or "not recorded") + (f", normal: {listed(normal)}" if normal else ""),
        "seed": str(detector.random_state),
        "parameters": ", ".join(f"{name}={value}" for name, value in parameters.items()),
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "command": shlex.join(["vae-anomaly", *click.get_current_context().meta[options.ARGUMENTS]]),
    }
