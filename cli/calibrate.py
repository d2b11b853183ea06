"""``vae-anomaly calibrate``: another threshold for a trained model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vae_anomaly.cli import click_types, options
from vae_anomaly.cli.data import is_normal, load_own_data, reading_for
from vae_anomaly.cli.outputs import check_outputs
from vae_anomaly.cli.text import describe_calibration, print_lines, titled
from vae_anomaly.cli.unseen import all_rows_option, unseen
from vae_anomaly.datasets.reading import Reading
from vae_anomaly.errors import DataError
from vae_anomaly.registry import CALIBRATION_METHODS
from vae_anomaly.storage.outputs import Output

if TYPE_CHECKING:
    import numpy as np

    from vae_anomaly.datasets import Dataset


def method_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each number that calibration methods take, with its meaning for each of them."""
    uses: dict[str, dict[str, list[str]]] = {}
    for method in CALIBRATION_METHODS:
        for name, (default, about) in CALIBRATION_METHODS.entry(method).facts.get("parameters", {}).items():
            text = about if default is None else f"{about} (default {default:g})"
            uses.setdefault(name, {}).setdefault(text, []).append(method)
    for name, texts in reversed(uses.items()):
        about = "; ".join(f"{', '.join(methods)}: {text}" for text, methods in texts.items())
        command = click.option(f"--{name.replace('_', '-')}", name, type=float, help=f"{about}.")(command)
    return command


@click.command()
@options.model_argument
@click.option(
    "--method",
    type=click.Choice(tuple(CALIBRATION_METHODS)),
    default="conformal",
    show_default=True,
    help="How to choose the threshold; README says when to use which method.",
)
@method_options
@click.option(
    "--data",
    type=click_types.data_path,
    help="Samples to calibrate with, not used in training.  [default: the model's own held-out normals]",
)
@options.labels_option
@options.missing_columns_option
@options.table_options
@click.option("--normal", type=click_types.NameList(), help="Classes of the data that are normal.")
@click.option(
    "--reviewed",
    type=click_types.existing_file,
    help="A CSV from review with its label column filled in: its anomalies join the model's held-out normals.",
)
@click.option(
    "--output", type=click_types.file_path, help="Model file to write.  [default: MODEL with .calibrated.vae]"
)
@all_rows_option
@options.score_option
@options.device_option
@options.json_option
def calibrate(
    model: Path,
    method: str,
    data: Path | None,
    labels: Path | None,
    label_column: str | None,
    reading: Reading,
    normal: tuple[str, ...] | None,
    reviewed: Path | None,
    output: Path | None,
    all_rows: bool,
    score_name: str | None,
    device: str,
    as_json: bool,
    **numbers: float | None,
) -> None:
    """Set another threshold for a model, without training, and print what to expect from it.

    Samples of --data that the model was trained on, or that stopped its training, are left out, and counted in the
    output.

    \b
    vae-anomaly calibrate --rate 0.01                 at most 1 % false alarms, guaranteed by the held-out normals
    vae-anomaly calibrate --method pot --rate 0.0001  rarer than they can show, by a model of their tail
    vae-anomaly calibrate --method cost --miss 50 --data new.csv --label-column label
    """  # noqa: D301 - click reads the control character
    import numpy as np

    from vae_anomaly.calibration import methods

    if data is not None and reviewed is not None:
        raise click.UsageError("give either --data or --reviewed")
    if data is None and (labels or label_column or normal or all_rows):
        raise click.UsageError("--labels, --label-column, --normal and --all-rows go with --data")
    output = output or model.with_suffix(".calibrated.vae")
    # the model itself may be replaced
    check_outputs({"--data": data, "--labels": labels, "--reviewed": reviewed}, Output("--output", output))
    detector = options.load_detector(model, device, score_name)
    given = {name: value for name, value in numbers.items() if value is not None}
    found = None
    if data is not None:
        samples = load_own_data(data, labels, label_column, reading_for(detector, reading))
        rows = detector.model_.rows(samples.X, samples.source)
        found = unseen({model: (detector.model_, [rows])}, len(rows), samples.source, all_rows=all_rows)
        y = signs_of(samples, normal)
        try:
            detector.model_.calibrate(rows[found.kept], None if y is None else y[found.kept], method=method, **given)
        except DataError as error:
            raise error if found.note is None else DataError(f"{found.note}; {error}") from error
    else:
        scores = -detector.calibration_scores_
        anomalies = np.empty(0) if reviewed is None else reviewed_anomalies(reviewed)
        truth = np.repeat([0, 1], [len(scores), len(anomalies)])
        result = methods.calibrate(method, np.concatenate([scores, anomalies]), truth, **given)
        result = result.resting_as(detector.calibration_)
        detector.set_calibration(result if reviewed is None else replace(result, basis=of_reviewed(result.basis)))
    detector.save(output)
    calibration = vars(detector.calibration_)
    observed = float(np.mean(-detector.calibration_scores_ > detector.calibration_.threshold))
    if as_json:
        about = {} if found is None else {"fitted_on": found.facts}
        click.echo(json.dumps(calibration | {"observed_rate": observed, "output": str(output)} | about, indent=2))
        return
    n_held_out = len(detector.calibration_scores_)
    print_lines(
        *([] if found is None or found.note is None else titled("data", [found.note])),
        *titled("threshold", describe_calibration(calibration)),
        *titled("observed", [f"{observed:.2%} of {n_held_out:,} held-out normals score above it"]),
        *titled("wrote", [str(output)]),
    )


def signs_of(samples: Dataset, normal: tuple[str, ...] | None) -> np.ndarray | None:
    """+1 for normals and -1 for anomalies, ``(N,)``; None if there are no labels, which means that all are normal."""
    import numpy as np

    if samples.labels is None:
        if normal is not None:
            raise click.UsageError("--normal needs labels: give --labels or --label-column")
        return None
    return np.where(is_normal(samples.labels, normal, samples.source), 1, -1)


def of_reviewed(basis: str | None) -> str:
    """What the rates rest on, if the anomalies were found by a review."""
    chosen = "the anomalies were chosen for review by their scores, so more of them are found than of all anomalies"
    return chosen if basis is None else f"{basis}; {chosen}"


def reviewed_anomalies(path: Path) -> np.ndarray:
    """Scores of the rows that a reviewer labelled 1.

    Rows labelled 0 are left out: they were selected by their scores, so they do not show the false-alarm rate.
    """
    from vae_anomaly.storage.score_table import read_score_table

    table = read_score_table(path)
    if "label" not in table:
        raise DataError(f"{path}: needs a column label with 1 (anomaly), 0 (normal) or nothing")
    labels: Any = table["label"]
    if not labels.dropna().isin([0, 1]).all():
        raise DataError(f"{path}: labels must be 1 (anomaly), 0 (normal) or nothing")
    scores: np.ndarray = table.loc[labels == 1, "anomaly_score"].to_numpy()
    if not len(scores):
        raise DataError(f"{path}: no row is labelled 1: fill in the column label first")
    return scores
