"""``vae-anomaly find``: the odd rows of a table, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vae_anomaly.cli import click_types, options
from vae_anomaly.cli.data import DataOptions
from vae_anomaly.cli.find_run import FindOutputs, run_find
from vae_anomaly.cli.outputs import beside_input, beside_output
from vae_anomaly.cli.parameter_options import parameter_option
from vae_anomaly.datasets.locations import STDIN
from vae_anomaly.datasets.reading import INFERRED, Reading
from vae_anomaly.parameters import PARAMETERS

TAKEN = ("contamination", "missing", "epochs", "score_name", "random_state", "device")
SUFFIXES = (".csv", ".parquet")


def chosen_parameters(command: Any) -> Any:
    """Give a command the options of the detector's parameters that it takes."""
    for parameter in reversed(PARAMETERS):
        if parameter.name in TAKEN:
            command = parameter_option(parameter)(command)
    return command


@click.command()
@click.argument("data", type=click_types.data_path)
@click.option("-n", "n_rows", type=click.IntRange(1), default=20, show_default=True, help="How many rows to print.")
@click.option(
    "--train",
    type=click_types.data_path,
    help="Normal samples to fit one model on, with the same columns.  [default: DATA itself, in folds]",
)
@click.option(
    "--output",
    type=click_types.file_path,
    help="File to write all rows to, .csv or .parquet.  [default: DATA with .found.csv behind it]",
)
@click.option(
    "--report/--no-report",
    "with_report",
    default=True,
    show_default=True,
    help="Write a report: the folder OUTPUT with .report in place of .csv.",
)
@options.missing_columns_option
@options.resize_option
@options.crop_option
@options.table_options
@options.column_options
@options.id_column_option
@options.group_column_option
@options.time_column_option
@chosen_parameters
def find(
    data: Path,
    n_rows: int,
    train: Path | None,
    output: Path | None,
    with_report: bool,
    label_column: str | None,
    reading: Reading,
    id_columns: tuple[str, ...],
    group_column: str | None,
    time_column: str | None,
    **parameters: Any,
) -> None:
    """Find the odd rows of a table: fit, score, explain and write, in one command.

    \b
    vae-anomaly find penguins.csv                      no row is scored by a model that was fitted on it
    vae-anomaly find --train clean.csv new.csv         one model of normals scores other rows

    DATA is a table (or an array) of which most rows are normal. Each row is left out of its own score; with groups or a
    time, or of images, five models score the fifth that each was not fitted on. Written are all rows with their own
    columns, the oddest first: row (the number in DATA, from 0), anomaly_score, decision (1 = above the threshold),
    p_value (among all rows, or those that the model held out),
    missing (how many cells are gaps), because (what was not expected); and a report. Labels are not looked at.
    """  # noqa: D301 - click reads the control character
    written = output or beside_input(Path("stdin") if data == STDIN else data, ".found.csv")
    if written.suffix not in SUFFIXES:
        raise click.BadParameter(f"{written} is neither {' nor '.join(SUFFIXES)}", param_hint="--output")
    if train is None and reading.missing_columns != INFERRED.missing_columns:
        raise click.UsageError("--missing-columns goes with --train, whose columns a table may lack")
    given = DataOptions(
        data=data,
        dataset=None,
        data_dir=None,
        labels=None,
        label_column=label_column,
        normal=None,
        reading=reading,
        id_columns=id_columns,
        group_column=group_column,
        time_column=time_column,
    )
    outputs = FindOutputs(table=written, report=beside_output(written, ".csv", ".report") if with_report else None)
    try:
        outputs.check(data, train)
    except OSError as error:
        if output is not None or error.strerror is None:
            raise
        raise click.ClickException(f"{written}: {error.strerror}: name another place with --output") from error
    run_find(given, train, outputs, n_rows, parameters)
