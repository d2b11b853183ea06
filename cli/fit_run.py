"""The work of ``vae-anomaly fit``: load the data, fit, evaluate and write."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vae_anomaly.cli.column_text import note_sentinels
from vae_anomaly.cli.data import (
    DataOptions,
    Samples,
    load_data_to_fit,
    load_named_parts,
    samples_to_fit,
)
from vae_anomaly.cli.divided import groups_of
from vae_anomaly.cli.fit_summary import describe_data, describe_model
from vae_anomaly.cli.normal_classes import is_normal
from vae_anomaly.cli.outputs import check_outputs, data_inputs
from vae_anomaly.cli.pixels import check_masks, pixel_results
from vae_anomaly.cli.resuming import keeping_checkpoints
from vae_anomaly.datasets.reading import ImageReading
from vae_anomaly.progress import phase
from vae_anomaly.storage.outputs import Output

if TYPE_CHECKING:
    import numpy as np

    from vae_anomaly.detector import VAEDetector
    from vae_anomaly.fitted_model import FittedModel
    from vae_anomaly.fitting.groups import Groups
    from vae_anomaly.reports import Report
    from vae_anomaly.storage.rows import Rows


@dataclass(frozen=True, kw_only=True)
class FitOutputs:
    """Where to write.

    Parameters
    ----------
    model, scores
        Files.
    report, checkpoints
        Folders; None if no report is wanted, and no checkpoints.
    """

    model: Path
    scores: Path
    report: Path | None
    checkpoints: Path | None

    def check(self, given: DataOptions) -> None:
        """Find out before the training, not after it, what cannot be written."""
        from vae_anomaly.reports import check_report_folder
        from vae_anomaly.storage.atomic import check_writable
        from vae_anomaly.storage.score_table import SCORE_SUFFIXES

        check_outputs(
            data_inputs(given),
            Output("--output", self.model),
            Output("--scores", self.scores),
            None if self.report is None else Output("the report", self.report, entries="*"),
            None if self.checkpoints is None else Output("--checkpoint", self.checkpoints, entries="*.checkpoint"),
        )
        if self.scores.suffix not in SCORE_SUFFIXES:
            raise click.BadParameter(f"{self.scores} is none of {', '.join(SCORE_SUFFIXES)}", param_hint="--scores")
        check_writable(self.model)
        check_writable(self.scores)
        if self.report is not None:
            check_report_folder(self.report)


@dataclass(frozen=True, kw_only=True)
class FitData:
    """What to fit and what to evaluate the model on.

    Parameters
    ----------
    name
        Of the data.
    training
        Normal samples.
    test
        Labelled samples that the model is not fitted on; None where there are no labels or no anomalies.
    normal
        The classes that are normal; None where labels say it by themselves.
    """

    name: str
    training: Samples
    test: Samples | None
    normal: tuple[str, ...] | None


def run_fit(
    given: DataOptions, test_fraction: float, outputs: FitOutputs, parameters: dict[str, Any]
) -> dict[str, Any] | None:
    """Fit, evaluate and write; returns the summary, or None on all but the first of several processes that fit."""
    from vae_anomaly.fitting.distributed import joined

    folder, resume = parameters["checkpoint_dir"], parameters["resume"]
    with joined() as team, keeping_checkpoints(folder, resume=resume, rank=team.rank):
        data = load_fit_data(given, test_fraction, parameters)
        if data.test is not None:
            check_masks(data.test.masks, given.reading.images, data.test.rows.shape)
        started = time.perf_counter()
        groups = groups_of(data.training, parameters)
        detector = train(data.training.rows, parameters, groups, given.reading.images)
        seconds = time.perf_counter() - started
        if team.rank:
            return None  # the first one has the same model, and writes it
        about = describe_data(data.name, data.training.rows, data.normal)
        detector.metadata_ = {**detector.metadata_, "data": about}
        detector.save(outputs.model)
        files, evaluation = {"model": str(outputs.model)}, None
        if data.test is not None or outputs.report is not None:
            with phase("scoring and explaining"):
                report = report_on_fit(detector, data, outputs.model)
            with phase("writing the report"):
                files |= write_evaluation(report, None if data.test is None else outputs.scores, outputs.report)
            if report.evaluation is not None:
                evaluation = report.evaluation.to_dict() | {"promised_false_alarms": report.promised}
                evaluation["pixels"] = pixels_of_test(detector.model_, data.test, report, given.reading.images)
    return {
        "data": about,
        "columns": None if detector.model_.columns is None else detector.model_.columns.to_json(),
        "model": describe_model(detector, seconds),
        "threshold": vars(detector.calibration_),
        "test": evaluation,
        "files": files,
    }


def pixels_of_test(
    model: FittedModel, test: Samples | None, report: Report, images: ImageReading
) -> dict[str, Any] | None:
    """How well heat maps find the defects of the test part, where masks show these."""
    if test is None or report.anomalous is None:
        return None
    return pixel_results(model, test.rows.computable().flat(), test.masks, report.anomalous, images)


def train(rows: Rows, parameters: dict[str, Any], groups: Groups | None, images: ImageReading) -> VAEDetector:
    """A detector with these parameters, fitted; its checkpoints, if it keeps any, stay.

    It keeps how images became its samples.
    """
    from vae_anomaly.detector import VAEDetector
    from vae_anomaly.fitting.fit import fit_model
    from vae_anomaly.parameters import DEFAULTS

    note_sentinels(rows)
    model = fit_model(rows, DEFAULTS | parameters | {"verbose": True}, groups)
    if model.images is not None:
        model.images = replace(model.images, resize=images.resize, crop=images.crop)
    return VAEDetector.from_model(model, device=parameters["device"])


def load_fit_data(given: DataOptions, test_fraction: float, parameters: dict[str, Any]) -> FitData:
    """Load the data and set a test part aside, if the labels allow it."""
    if given.data is None:
        name, training, test = load_named_parts(given.dataset, given.data_dir)
        assert training.labels is not None
        normals = is_normal(training.labels, given.normal, training.source)
        return FitData(
            name=name,
            training=samples_to_fit(training.take(normals), parameters),
            test=samples_to_fit(test, parameters),
            normal=given.normal,
        )
    samples = load_data_to_fit(given, parameters)
    if samples.labels is not None:
        normal = given.normal or samples.normal
        normals = is_normal(samples.labels, normal, samples.rows.source)
        of_parts = samples.parts is not None
        parts = in_parts(samples, normals) if of_parts else split(samples, normals, test_fraction, parameters)
        return FitData(name=str(given.data), training=parts[0], test=parts[1], normal=normal)
    if given.normal is not None:
        raise click.UsageError("--normal needs labels: give --labels, --label-column or a folder of classes")
    return FitData(name=str(given.data), training=samples, test=None, normal=None)


def in_parts(samples: Samples, normal: np.ndarray) -> tuple[Samples, Samples]:
    """The parts that the data come in: normals to train on, and samples to test."""
    import numpy as np

    assert samples.parts is not None
    is_test = samples.parts == "test"
    tested = np.flatnonzero(is_test)[: samples.rows.max_rows_in_memory()]
    return samples.without(np.flatnonzero(is_test | ~normal)), samples.take(tested)


def split(
    samples: Samples, normal: np.ndarray, test_fraction: float, parameters: dict[str, Any]
) -> tuple[Samples, Samples | None]:
    """Set a share of the normals and all anomalies aside for the test: at random, by whole groups, or the last in time.

    Of data on disk at most as many of either kind as fit in memory are tested; the other anomalies are left out.
    """
    import numpy as np

    rng = np.random.default_rng(parameters["random_state"])
    anomalies = np.flatnonzero(~normal)
    normals = rng.permutation(np.flatnonzero(normal))
    most = samples.rows.max_rows_in_memory()
    n_test = min(round(test_fraction * len(normals)), most) if len(anomalies) else 0
    groups = groups_of(samples, parameters)
    if groups is not None and n_test:
        normals = np.sort(normals)
        (tested,) = groups.take(normals).held_out([n_test], rng)
        normals, n_test = np.concatenate([normals[tested], np.delete(normals, tested)]), len(tested)
    training = samples.without(np.concatenate([normals[:n_test], anomalies]))
    if not n_test:
        return training, None
    tested = np.concatenate([normals[:n_test], rng.permutation(anomalies)[:most]])
    return training, samples.take(np.sort(tested))


def report_on_fit(detector: VAEDetector, data: FitData, model: Path) -> Report:
    """The report on the test part, or, without one, on all training samples."""
    from vae_anomaly.cli.report_contents import build_report

    training, test = data.training, data.test
    if test is not None:
        assert test.labels is not None
        return build_report(detector, test, ~is_normal(test.labels, data.normal, test.rows.source), data.normal, model)
    note = (
        f"There is no test part: these are all {len(training):,} samples given, most of which the model was trained "
        "on. Those flagged may be anomalies among them."
    )
    return build_report(detector, training, None, None, model, (note,))


def write_evaluation(report: Report, scores: Path | None, folder: Path | None) -> dict[str, str]:
    """Write a score table and a report, where they are wanted; returns the path of each."""
    from vae_anomaly import reports
    from vae_anomaly.storage.score_table import open_score_table

    files = {}
    if scores is not None:
        with open_score_table(scores) as write:
            write(report.frame())
        files["scores"] = str(scores)
    if folder is not None:
        reports.write_report(report, folder)  # its import alone takes a second
        files["report"] = str(folder / reports.PAGE)
    return files
