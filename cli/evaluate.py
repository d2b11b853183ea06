"""``vae-anomaly evaluate``: how good a model is on labelled data."""

from __future__ import annotations

import json
from pathlib import Path

import click

from vae_anomaly.cli import options
from vae_anomaly.cli.data import is_normal, listed, named_parts, own_data
from vae_anomaly.cli.fit import render_test, to_frame
from vae_anomaly.errors import DataError


@click.command()
@click.argument("data", type=options.data_path, required=False)
@click.option(
    "--dataset", type=click.Choice(options.DATASETS), help="Test part of a data set by name, instead of DATA."
)
@options.data_dir_option
@options.labels_option
@options.label_column_option
@click.option(
    "--normal",
    type=options.NameList(),
    help="Classes that are normal.  [default: those the model was trained on]",
)
@options.model_option
@options.device_option
@options.json_option
def evaluate(
    data: Path | None,
    dataset: str | None,
    data_dir: Path | None,
    labels: Path | None,
    label_column: str | None,
    normal: tuple[str, ...] | None,
    model: Path,
    device: str,
    as_json: bool,
) -> None:
    """Judge a model by labelled samples: ROC-AUC with its interval, per class, and what the threshold does.

    Labels are 0 = normal and 1 = anomaly, or class names.
    """
    from vae_anomaly.evaluation import evaluate as judge

    if (data is None) == (dataset is None):
        raise click.UsageError("give either DATA or --dataset")
    if dataset is not None:
        samples = named_parts(dataset, data_dir)[2]
    else:
        assert data is not None
        samples = own_data(data, labels, label_column)
    if samples.labels is None:
        raise click.UsageError("DATA has no labels: give --labels or --label-column")
    detector = options.load_model(model, device)
    trained_on = detector.metadata_.get("data", {}).get("normal")
    if normal is None and trained_on is not None:
        if dataset is None and set(samples.labels) <= {"0", "1"}:
            raise DataError(
                f"labels 0 and 1 could be classes (the model's normal ones are {listed(trained_on)}) or 1 = anomaly: "
                "say which are normal with --normal"
            )
        normal = tuple(trained_on)
    anomalous = ~is_normal(samples.labels, normal, samples.source)
    scores = -detector.score_samples(to_frame(samples))
    result = judge(scores, anomalous.astype(int), detector.calibration_.threshold, samples.labels).to_dict()
    if as_json:
        click.echo(json.dumps({"data": samples.source, "model": str(model), "test": result}, indent=2))
        return
    lines = [f"data       {samples.source}", f"model      {model}", *render_test(result)]
    click.echo("\n".join(lines))
