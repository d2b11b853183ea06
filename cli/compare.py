"""``vae-anomaly compare``: is one model better than another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from vae_anomaly.cli import options
from vae_anomaly.cli.data import is_normal, own_data
from vae_anomaly.errors import DataError

existing = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("a", type=existing)
@click.argument("b", type=existing)
@click.option("--data", type=options.data_path, help="Labelled samples that two models are to score.")
@options.labels_option
@options.label_column_option
@click.option("--normal", type=options.NameList(), help="Classes that are normal.  [default: label 0 of 0 and 1]")
@options.device_option
@options.json_option
def compare(
    a: Path,
    b: Path,
    data: Path | None,
    labels: Path | None,
    label_column: str | None,
    normal: tuple[str, ...] | None,
    device: str,
    as_json: bool,
) -> None:
    """Compare two models, or two score files, on the same labelled samples.

    \b
    vae-anomaly compare a.vae b.vae --data all.csv --label-column label
    vae-anomaly compare a.scores.csv b.scores.csv                score files of fit know what is an anomaly
    vae-anomaly compare a.csv b.csv --labels labels.npy
    """  # noqa: D301 - click reads the control character
    from vae_anomaly.evaluation import compare as compare_scores

    if (a.suffix == ".vae") != (b.suffix == ".vae"):
        raise click.UsageError("give two models or two score files")
    if a.suffix == ".vae":
        if data is None:
            raise click.UsageError("two models need --data to score")
        samples = own_data(data, labels, label_column)
        if samples.labels is None:
            raise click.UsageError("--data has no labels: give --labels or --label-column")
        anomalous = ~is_normal(samples.labels, normal, samples.source)
        scores = [-options.load_detector(path, device).score_samples(samples.to_frame()) for path in (a, b)]
    else:
        if data or label_column:
            raise click.UsageError("score files need --labels alone, or none if fit wrote them")
        scores, anomalous = scored(a, b, labels, normal)
    result = compare_scores(scores[0], scores[1], anomalous.astype(int))
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2))
        return
    difference, again = result.difference, result.difference_bootstrap
    lines = [
        f"samples    {result.a.n_normal:,} normal and {result.a.n_anomalous:,} anomalous",
        f"ROC-AUC    {result.a.value:.4f} (95 % interval {result.a.low:.4f} to {result.a.high:.4f})  {a}",
        f"           {result.b.value:.4f} (95 % interval {result.b.low:.4f} to {result.b.high:.4f})  {b}",
        f"difference {difference.value:+.4f} (95 % interval {difference.low:+.4f} to {difference.high:+.4f}; bootstrap "
        f"{again.low:+.4f} to {again.high:+.4f}), p = {result.p_value:.3g}",
    ]
    options.say(*lines)


def scored(a: Path, b: Path, labels: Path | None, normal: tuple[str, ...] | None) -> tuple[list[Any], Any]:
    """Scores of two files, and which samples are anomalous."""
    from vae_anomaly.datasets import load_labels
    from vae_anomaly.reports import read_score_table

    tables = [read_score_table(path) for path in (a, b)]
    if len(tables[0]) != len(tables[1]):
        raise DataError(f"{a} has {len(tables[0])} rows, {b} has {len(tables[1])}: they must be of the same samples")
    scores = [table["anomaly_score"].to_numpy() for table in tables]
    if labels is not None:
        names = load_labels(labels)
        if len(names) != len(tables[0]):
            raise DataError(f"{labels} has {len(names)} labels, {a} has {len(tables[0])} rows")
        return scores, ~is_normal(names, normal, str(labels))
    if "anomaly" not in tables[0]:
        raise click.UsageError(f"{a} has no column anomaly: give --labels")
    return scores, tables[0]["anomaly"].to_numpy() == 1
