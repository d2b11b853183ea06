"""What a report shows, computed from a model and samples: scores, evaluation, evidence, what the model generates."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vae_anomaly.cli.data import even_rows
from vae_anomaly.cli.options import training_data_of, typed_arguments
from vae_anomaly.cli.score_maps import strongest_heat
from vae_anomaly.cli.text import comma_separated

if TYPE_CHECKING:
    import numpy as np

    from vae_anomaly.calibration.result import Calibration
    from vae_anomaly.cli.data import Samples
    from vae_anomaly.detector import VAEDetector
    from vae_anomaly.evaluation import Evaluation
    from vae_anomaly.fitted_model import FittedModel
    from vae_anomaly.reports import Evidence, GeneratedSamples, Report
    from vae_anomaly.scoring.attribution import Explanation
    from vae_anomaly.storage.rows import Rows

MAX_CODES = 5_000
N_SAMPLES = 24
N_STEPS = 9
N_TRAVERSED = 6


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What is made of the samples of a report, by one model or by several.

    Parameters
    ----------
    scores
        As `FittedModel.score_table_of` has them.
    calibration
        The threshold in use.
    held_out
        ``anomaly_score``, ``reconstruction`` and ``kl`` of held-out normals, ``(M,)`` each; ``weight`` where they are
        weighted for a target.
    explain
        Gives the evidence on the samples with these indices.
    code_rows
        Indices of samples to show in the latent space ``(K,)``.
    """

    scores: dict[str, np.ndarray]
    calibration: Calibration
    held_out: dict[str, np.ndarray]
    explain: Callable[[np.ndarray], Evidence]
    code_rows: np.ndarray


def judged_by(detector: VAEDetector, samples: Samples, rows: Rows) -> Judgement:
    """What one model makes of samples, whose flat rows these are."""
    model, held_out = detector.model_, detector.held_out_scores_

    def explain(places: np.ndarray) -> Evidence:
        evidence = evidence_of(model.explain(rows[places], samples.take(places).table), places)
        return evidence if "local" not in model.scores else with_heat(evidence, model, rows[places])

    return Judgement(
        scores=model.score_table_of(rows),
        calibration=detector.calibration_,
        held_out={
            "anomaly_score": -detector.calibration_scores_,
            "reconstruction": held_out["reconstruction"],
            "kl": -held_out["kl"],
        }
        | ({} if model.calibration_weights is None else {"weight": model.calibration_weights}),
        explain=explain,
        code_rows=even_rows(len(samples), MAX_CODES),
    )


def build_report(
    detector: VAEDetector,
    samples: Samples,
    anomalous: np.ndarray | None,
    normal: tuple[str, ...] | None,
    model: Path | None,
    notes: tuple[str, ...] = (),
    judgement: Judgement | None = None,
) -> Report:
    """The report of a model on samples.

    Parameters
    ----------
    detector, samples
        What is reported.
    anomalous
        ``(N,)`` bool; None where there are no labels.
    normal
        Classes that are normal; with None the labels are no classes, and nothing is evaluated class by class.
    model
        The file that the model was read from or written to; None: it is not kept.
    notes
        What a reader must know of how the samples were chosen.
    judgement
        What is made of the samples, where that is not the detector's alone.
    """
    import numpy as np

    from vae_anomaly.reports import Report, gallery_rows

    fitted, rows = detector.model_, rows_of(detector.model_, samples)
    judged = judged_by(detector, samples, rows) if judgement is None else judgement
    anomaly_score, code_rows, threshold = judged.scores["anomaly_score"], judged.code_rows, judged.calibration.threshold
    evaluation, promised = evaluate_if_labelled(judged, anomalous, samples.labels if normal else None)
    gallery = gallery_rows(anomaly_score, threshold, anomalous)
    codes = fitted.transform(rows[code_rows])
    of_one_place, at_one_place = latents_to_show(fitted)
    not_flagged = anomaly_score[code_rows] <= threshold
    usual = not_flagged if not_flagged.any() else np.ones_like(not_flagged)
    return Report(
        title=samples.rows.source,
        provenance=provenance(detector, samples, model),
        date=time.strftime("%Y-%m-%d %H:%M:%S%z"),
        score=detector.model_.score,
        anomaly_score=anomaly_score,
        p_value=judged.scores["p_value"],
        reconstruction=judged.scores["reconstruction"],
        kl=judged.scores["kl"],
        missing=judged.scores.get("missing"),
        calibration=judged.calibration,
        held_out=judged.held_out,
        history=detector.history_,
        codes=codes[:, of_one_place],
        code_rows=code_rows,
        gallery=gallery,
        evidence=judged.explain(np.unique(np.concatenate(list(gallery.values())))),
        generated=generate_samples(fitted, rows[code_rows[usual]], codes[usual]),
        anomalous=anomalous,
        labels=samples.labels,
        names=samples.row_names,
        row_numbers=samples.row_numbers,
        ids=samples.ids,
        evaluation=evaluation,
        promised=promised,
        feature_names=fitted.feature_names,
        levels=levels_of(fitted),
        image_shape=detector.image_shape_,
        notes=(*notes, *at_one_place, *notes_on_images(fitted, samples.rows)),
        limits=None if detector.image_shape_ is None else black_and_white(rows),
    )


def notes_on_images(model: FittedModel, rows: Rows) -> tuple[str, ...]:
    """That images are in another form than those of the training, if they seem to be."""
    if model.images is None or model.image_shape is None:
        return ()
    found = model.images.difference(rows.even_sample(), model.image_shape)
    return () if found is None else (f"{found[0].upper()}{found[1:]}.",)


def latents_to_show(model: FittedModel) -> tuple[slice, tuple[str, ...]]:
    """Which latents the report's figures show, and a note where they are not all: those of one place of a map."""
    n_places = model.vae.encoder.n_places
    if n_places == 1:
        return slice(None), ()
    n_latents, place = model.latent_dim // n_places, n_places // 2
    note = f"Figures of latents show the {n_latents} of one place of the images, which have {n_places:,} places."
    return slice(place * n_latents, (place + 1) * n_latents), (note,)


def rows_of(model: FittedModel, samples: Samples) -> Rows:
    """Samples as flat rows of a model, in memory or on disk.

    Raises
    ------
    DataError
        If the model's likelihood gives some no density.
    """
    from vae_anomaly.scoring.support import check_support

    rows = samples.rows.computable().flat()
    if rows.columns is None:
        check_support(model.vae, rows)
    return rows


def levels_of(model: FittedModel) -> dict[int, tuple[str, ...]]:
    """Levels of the features that are categories, by the features' places."""
    columns = () if model.columns is None else model.columns
    return {place: column.levels for place, column in enumerate(columns) if column.is_category}


def evaluate_if_labelled(
    judged: Judgement, anomalous: np.ndarray | None, classes: np.ndarray | None
) -> tuple[Evaluation | None, tuple[float, float] | None]:
    """The evaluation of scores, and the false-alarm rates promised for its normals; None if one kind is missing."""
    from vae_anomaly.calibration.methods import promised_alarms
    from vae_anomaly.evaluation import evaluate

    if anomalous is None or not anomalous.any() or anomalous.all():
        return None, None
    evaluation = evaluate(
        judged.scores["anomaly_score"],
        anomalous.astype(int),
        classes,
        threshold=judged.calibration.threshold,
        calibration_scores=None if "weight" in judged.held_out else judged.held_out["anomaly_score"],
    )
    return evaluation, promised_alarms(judged.calibration, evaluation.roc_auc.n_normal)


def evidence_of(explanation: Explanation, rows: np.ndarray) -> Evidence:
    """What the model expected of the samples with these indices, and what each feature costs, in words too."""
    from vae_anomaly.reports import Evidence

    n_features = explanation.excess.shape[1]
    is_table = explanation.columns is not None
    return Evidence(
        rows=rows,
        observed=explanation.observed,
        expected=explanation.expected,
        spread=explanation.spread,
        excess=explanation.excess,
        words=[
            [explanation.feature_in_words(row, place) for place in range(n_features)] for row in range(len(explanation))
        ]
        if is_table
        else None,
    )


def with_heat(evidence: Evidence, model: FittedModel, rows: np.ndarray) -> Evidence:
    """The evidence of images, with how odd each of their places is."""
    from vae_anomaly.scoring.worst_place import heat_maps

    heat, strongest = model.by_block(rows, heat_maps)[0], strongest_heat(model)
    return replace(evidence, heat=heat, strongest_heat=strongest)


def generate_samples(model: FittedModel, rows: np.ndarray, codes: np.ndarray) -> GeneratedSamples:
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
    ends = rows[np.array([first, by_distance[int(0.9 * (len(codes) - 1))]])]
    return GeneratedSamples(
        samples=model.sample(N_SAMPLES).reshape(N_SAMPLES, -1),
        traversal=model.inverse_transform(grid.reshape(-1, codes.shape[1])).reshape(len(traversed), N_STEPS, -1),
        steps=steps,
        traversed=traversed,
        interpolation=model.interpolate(ends, N_STEPS).reshape(N_STEPS, -1),
    )


def black_and_white(rows: Rows) -> tuple[float, float]:
    """Values of pixels to show as black and as white."""
    if rows.dtype.kind == "u":
        return 0.0, float(2 ** (8 * rows.dtype.itemsize) - 1)
    low, high = (float(end) for end in (rows.extremes()[0].min(), rows.extremes()[1].max()))
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def provenance(detector: VAEDetector, samples: Samples, model: Path | None) -> dict[str, str]:
    """What is needed to repeat the run."""
    from vae_anomaly.parameters import NOT_KEPT
    from vae_anomaly.storage.model_file import versions
    from vae_anomaly.storage.rows import fingerprint

    source, normal = training_data_of(detector.metadata_)
    parameters = {
        name: value for name, value in detector.get_params().items() if value is not None and name not in NOT_KEPT
    }
    return {
        "data": samples.rows.source,
        "data SHA-256": fingerprint(samples.rows, *(() if samples.labels is None else (samples.labels,))),
        "samples": f"{len(samples):,} x {' x '.join(map(str, samples.rows.shape[1:]))}, {samples.rows.dtype}",
        "model": "not kept" if model is None else str(model),
        **({} if model is None else {"model SHA-256": str(detector.model_.file_digest)}),
        "trained on": (source or "not recorded") + (f", normal: {comma_separated(normal)}" if normal else ""),
        "seed": str(detector.random_state),
        "parameters": ", ".join(f"{name}={value}" for name, value in parameters.items()),
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "command": shlex.join(["vae-anomaly", *typed_arguments()]),
    }
