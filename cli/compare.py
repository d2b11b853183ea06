"""``vae-anomaly compare``: whether one model is better than another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from vae_anomaly.cli import click_types, options
from vae_anomaly.cli.data import load_own_data, reading_for
from vae_anomaly.cli.normal_classes import is_normal
from vae_anomaly.cli.text import print_lines, titled
from vae_anomaly.cli.unseen import all_rows_option, check_both_kinds, unseen
from vae_anomaly.datasets.reading import Reading
from vae_anomaly.errors import DataError


@click.command()
@click.argument("a", type=click_types.existing_file)
@click.argument("b", type=click_types.existing_file)
@click.option("--data", type=click_types.data_path, help="Labelled samples for two models to score.")
@options.labels_option
@options.missing_columns_option
@options.table_options
@click.option("--normal", type=click_types.NameList(), help="Classes that are normal.  [default: 0, of labels 0 and 1]")
@all_rows_option
@options.device_option
@options.json_option
def compare(
    a: Path,
    b: Path,
    data: Path | None,
    labels: Path | None,
    label_column: str | None,
    reading: Reading,
    normal: tuple[str, ...] | None,
    all_rows: bool,
    device: str,
    as_json: bool,
) -> None:
    """Compare two models, or two score files, on the same labelled samples.

    Samples that one of the models was trained on, or that stopped its training, are left out, and counted in the
    output.

    \b
    vae-anomaly compare a.vae b.vae --data new.csv --label-column label
    vae-anomaly compare a.scores.csv b.scores.csv                score files of fit say which samples are anomalies
    vae-anomaly compare a.csv b.csv --labels labels.npy
    """  # noqa: D301 - click reads the control character
    from vae_anomaly.evaluation import compare as compare_scores

    if (a.suffix == ".vae") != (b.suffix == ".vae"):
        raise click.UsageError("give two models or two score files")
    if a.suffix == ".vae":
        if data is None:
            raise click.UsageError("two models need --data to score")
        models = {path: options.load_detector(path, device).model_ for path in (a, b)}
        readings = {path: reading_for(model, reading) for path, model in models.items()}
        samples = load_own_data(data, labels, label_column, readings[a])
        if samples.labels is None:
            raise click.UsageError("--data has no labels: give --labels or --label-column")
        anomalous = ~is_normal(samples.labels, normal, samples.source)
        is_shared = readings[a].images == readings[b].images
        of_b = samples if is_shared else load_own_data(data, labels, label_column, readings[b])
        rows = {path: models[path].rows(part.X, part.source) for path, part in ((a, samples), (b, of_b))}
        judged = {path: (model, [rows[path]]) for path, model in models.items()}
        found = unseen(judged, len(samples), samples.source, all_rows=all_rows)
        check_both_kinds(anomalous, found, samples.source)
        scores = [-models[path].score_samples(rows[path][found.kept]) for path in (a, b)]
        anomalous = anomalous[found.kept]
    else:
        found = None
        if data or label_column or all_rows:
            raise click.UsageError("score files need --labels alone, or none if fit wrote them")
        scores, anomalous = read_scores(a, b, labels, normal)
    result = compare_scores(scores[0], scores[1], anomalous.astype(int))
    if as_json:
        about = {} if found is None else {"fitted_on": found.facts}
        click.echo(json.dumps(result.to_dict() | about, indent=2))
        return
    counted = f"{result.a.n_normal:,} normal and {result.a.n_anomalous:,} anomalous"
    difference = result.difference
    test = {"delong": "DeLong's test", "permutation": "paired permutation test"}[result.test]
    print_lines(
        *titled("samples", [counted] if found is None or found.note is None else [counted, found.note]),
        *titled(
            "ROC-AUC",
            [
                f"{auc.value:.4f} (95 % interval {auc.low:.4f} to {auc.high:.4f})  {path}"
                for auc, path in ((result.a, a), (result.b, b))
            ],
        ),
        f"difference {difference.value:+.4f} (95 % interval {difference.low:+.4f} to {difference.high:+.4f}), "
        f"p = {result.p_value:.3g} ({test})",
    )


def read_scores(a: Path, b: Path, labels: Path | None, normal: tuple[str, ...] | None) -> tuple[list[Any], Any]:
    """Scores in two files, and which samples are anomalous."""
    from vae_anomaly.datasets import load_labels
    from vae_anomaly.storage.score_table import read_score_table

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
