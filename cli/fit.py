"""``vae-anomaly fit``: train, evaluate, calibrate, write the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from vae_anomaly.cli import click_types, options
from vae_anomaly.cli.data import DataOptions
from vae_anomaly.cli.fit_run import FitOutputs, run_fit
from vae_anomaly.cli.fit_summary import summary_text
from vae_anomaly.cli.outputs import beside_output
from vae_anomaly.cli.parameter_options import detector_options
from vae_anomaly.cli.resuming import fit_on_ray, is_worker
from vae_anomaly.datasets import suffixes_help
from vae_anomaly.datasets.reading import Reading


@click.command()
@click.option(
    "--normal",
    type=click_types.NameList(),
    help="Classes that are normal, such as 0,1,2; all others are anomalous.",
)
@options.dataset_option
@options.data_dir_option
@click.option("--data", type=click_types.data_path, help=f"Your own data: {suffixes_help()}.")
@options.labels_option
@options.resize_option
@options.crop_option
@options.table_options
@options.column_options
@options.id_column_option
@options.group_column_option
@options.time_column_option
@click.option(
    "--test-fraction",
    type=click_types.share,
    default=0.2,
    show_default=True,
    help="Share of your own labelled normals kept for the test, together with all anomalies.",
)
@click.option(
    "--output",
    type=click_types.file_path,
    default=Path("model.vae"),
    show_default=True,
    help="Model file to write.",
)
@click.option(
    "--scores",
    type=click_types.file_path,
    help="File to write the scores of the test part to.  [default: OUTPUT with .scores.csv in place of .vae]",
)
@click.option(
    "--report/--no-report",
    "with_report",
    default=True,
    show_default=True,
    help="Write a report on the test part: the folder OUTPUT with .report in place of .vae.",
)
@detector_options
@click.option(
    "--engine",
    type=click.Choice(("ray",)),
    help="Fit by several workers of a Ray cluster; all must have access to the data and the folder of --checkpoint.",
)
@options.address_option
@options.workers_option
@options.json_option
def fit(
    normal: tuple[str, ...] | None,
    dataset: str | None,
    data_dir: Path | None,
    data: Path | None,
    labels: Path | None,
    label_column: str | None,
    reading: Reading,
    id_columns: tuple[str, ...],
    group_column: str | None,
    time_column: str | None,
    test_fraction: float,
    output: Path,
    scores: Path | None,
    with_report: bool,
    engine: str | None,
    address: str | None,
    workers: int | None,
    as_json: bool,
    **parameters: Any,
) -> None:
    """Train on normal samples, evaluate on unseen ones, write a model file.

    \b
    vae-anomaly fit --normal 0,1,2                       MNIST's own training and test parts
    vae-anomaly fit --data normals.npy                   everything in the file is normal
    vae-anomaly fit --data all.csv --label-column label  0 = normal, 1 = anomaly
    """  # noqa: D301 - click reads the control character
    given = DataOptions(
        data=data,
        dataset=dataset,
        data_dir=data_dir,
        labels=labels,
        label_column=label_column,
        normal=normal,
        reading=reading,
        id_columns=id_columns,
        group_column=group_column,
        time_column=time_column,
    )
    check_data_options(given)
    if engine is None and (address is not None or workers is not None):
        raise click.UsageError("--address and --workers go with --engine")
    if engine is not None and parameters["checkpoint_dir"] is None:
        raise click.UsageError("--engine ray needs --checkpoint, a folder that all workers can read and write")
    if parameters["resume"] and parameters["checkpoint_dir"] is None:
        raise click.UsageError("--resume needs --checkpoint, the folder with the checkpoints to continue from")
    outputs = FitOutputs(
        model=output,
        scores=scores or beside_output(output, ".vae", ".scores.csv"),
        report=beside_output(output, ".vae", ".report") if with_report else None,
        checkpoints=parameters["checkpoint_dir"],
    )
    outputs.check(given)
    if engine is not None and not is_worker():
        folder, resume = parameters["checkpoint_dir"], parameters["resume"]
        click.echo(fit_on_ray(folder, resume=resume, address=address, workers=workers), nl=False)
        return
    summary = run_fit(given, test_fraction, outputs, parameters)
    if summary is not None:
        click.echo(json.dumps(summary, indent=2) if as_json else summary_text(summary))


def check_data_options(given: DataOptions) -> None:
    """Refuse options that do not go together."""
    if given.data is None:
        if given.labels or given.label_column or given.id_columns or given.group_column or given.time_column:
            options_of_data = "--labels, --label-column, --id-column, --group-column and --time-column"
            raise click.UsageError(f"{options_of_data} go with --data")
        if given.reading.images.changes_size:
            raise click.UsageError("--resize and --crop go with --data: a data set by name has one size")
        if given.normal is None:
            raise click.UsageError("say which classes are normal, such as --normal 0,1,2, or give --data")
    elif given.dataset or given.data_dir:
        raise click.UsageError("give either --data or --dataset (with --data-dir), not both")
