"""``vae-anomaly calibrate``: another threshold for a trained model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

from vae_anomaly.cli import click_types, options
from vae_anomaly.cli.data import load_own_data, reading_for
from vae_anomaly.cli.normal_classes import is_normal
from vae_anomaly.cli.outputs import beside_output, check_outputs
from vae_anomaly.cli.text import describe_calibration, print_lines, titled
from vae_anomaly.cli.unseen import Unseen, all_rows_option, unseen
from vae_anomaly.datasets.reading import Reading
from vae_anomaly.errors import DataError
from vae_anomaly.registry import CALIBRATION_METHODS
from vae_anomaly.storage.outputs import Output

if TYPE_CHECKING:
    import numpy as np

    from vae_anomaly.datasets import Dataset
    from vae_anomaly.detector import VAEDetector


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
    help="How to choose the threshold; README says when to use which method.  [default: conformal, or weighted for a "
    "--target]",
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
    "--target",
    type=click_types.data_path,
    help="Samples without labels, hardly any of them anomalies, of the population to be scored, where normals come in "
    "other proportions than in --data: rate and p-values are then for it.",
)
@click.option(
    "--reviewed",
    type=click_types.existing_file,
    help="A CSV from review with its label column filled in: its anomalies join the model's held-out normals.",
)
@click.option(
    "--output",
    type=click_types.file_path,
    help="Model file to write.  [default: MODEL with .calibrated.vae in place of .vae]",
)
@all_rows_option
@options.score_option
@options.device_option
@options.json_option
def calibrate(
    model: Path,
    method: str | None,
    data: Path | None,
    labels: Path | None,
    label_column: str | None,
    reading: Reading,
    normal: tuple[str, ...] | None,
    target: Path | None,
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
    vae-anomaly calibrate --data normals.csv --target new.csv   the rate where normals come in other proportions
    """  # noqa: D301 - click reads the control character
    import numpy as np

    if data is not None and reviewed is not None:
        raise click.UsageError("give either --data or --reviewed")
    if data is None and (labels or label_column or normal or all_rows):
        raise click.UsageError("--labels, --label-column, --normal and --all-rows go with --data")
    if target is not None and data is None:
        raise click.UsageError(
            "--target needs --data, normals to weigh, since a model keeps the scores of its held-out ones, not their "
            "rows: give what it was fitted on, of which the rows that set its threshold are taken, or other normals"
        )
    output = output or beside_output(model, ".vae", ".calibrated.vae")
    # the model itself may be replaced
    inputs = {"--data": data, "--labels": labels, "--target": target, "--reviewed": reviewed}
    check_outputs(inputs, Output("--output", output))
    detector = options.load_detector(model, device, score_name)
    given = {name: value for name, value in numbers.items() if value is not None}
    parts: list[Given] = []
    if data is not None:
        known = reading_for(detector, reading)
        samples = load_own_data(data, labels, label_column, known)
        parts.append(Given.of(samples, signs_of(samples, normal), detector, model, all_rows=all_rows))
        if target is not None:
            parts.append(Given.of(load_own_data(target, None, None, known), None, detector, model, all_rows=all_rows))
        calibrate_by(detector, parts, method, given)
    else:
        anomalies = np.empty(0) if reviewed is None else reviewed_anomalies(reviewed)
        detector.model_.calibrate_by_scores(None, -anomalies, method, **given)
        if reviewed is not None:
            result = detector.calibration_
            detector.set_calibration(replace(result, basis=of_reviewed(result.basis)))
    detector.save(output)
    print_calibrated(detector, parts, output, as_json=as_json)


def print_calibrated(detector: VAEDetector, parts: list[Given], output: Path, *, as_json: bool) -> None:
    """Print the threshold, what to expect from it, and what is known of the samples that were given."""
    import numpy as np

    calibration = vars(detector.calibration_)
    observed = float(np.mean(-detector.calibration_scores_ > detector.calibration_.threshold))
    if as_json:
        about = dict(zip(("fitted_on", "target_fitted_on"), (part.found.facts for part in parts), strict=False))
        click.echo(json.dumps(calibration | {"observed_rate": observed, "output": str(output)} | about, indent=2))
        return
    n_held_out = len(detector.calibration_scores_)
    print_lines(
        *(line for title, part in zip(("data", "target"), parts, strict=False) for line in titled(title, part.notes)),
        *titled("threshold", describe_calibration(calibration)),
        *titled("observed", [f"{observed:.2%} of {n_held_out:,} held-out normals score above it"]),
        *titled("wrote", [str(output)]),
    )


@dataclass(frozen=True)
class Given:
    """Samples that were given, as far as the model was not fitted on them.

    Parameters
    ----------
    rows
        Those that are kept, ``(N, D)``.
    y
        +1 for the normals among them, -1 for anomalies, ``(N,)``; None: all are normal.
    found
        What is known of those that were given.
    notes
        What a user must know of them.
    """

    rows: np.ndarray
    y: np.ndarray | None
    found: Unseen
    notes: list[str]

    @classmethod
    def of(
        cls,
        samples: Dataset,
        y: np.ndarray | None,
        detector: VAEDetector,
        model: Path,
        *,
        all_rows: bool,
    ) -> Self:
        """Leave out what the model, which is in a file, was fitted on."""
        rows = detector.model_.rows(samples.X, samples.source)
        found = unseen({model: (detector.model_, [rows])}, len(rows), samples.source, all_rows=all_rows)
        notes = [] if found.note is None else [found.note]
        return cls(rows[found.kept], None if y is None else y[found.kept], found, notes)


def calibrate_by(detector: VAEDetector, parts: list[Given], method: str | None, options: dict[str, Any]) -> None:
    """Calibrate by samples, weighted for a target if there is one after them."""
    rows, y = parts[0].rows, parts[0].y
    try:
        if len(parts) > 1:
            from vae_anomaly.fitting.density_ratio import note_on_common, weighed

            target = parts[1].rows
            parts[1].notes.extend(note_on_common(detector.model_, rows, target))
            options |= {"target": weighed(detector.model_, rows, y, target)}
        detector.model_.calibrate(rows, y, method=method, **options)
    except DataError as error:
        notes = [note for part in parts for note in part.notes]
        raise DataError("; ".join([*notes, str(error)])) from error


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
