"""``vae-anomaly review``: the rows that a person should label."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vae_anomaly.cli import click_types, options
from vae_anomaly.cli.data import reading_for
from vae_anomaly.cli.outputs import check_outputs
from vae_anomaly.cli.text import print_lines
from vae_anomaly.datasets.reading import Reading
from vae_anomaly.errors import DataError
from vae_anomaly.storage.outputs import Output

if TYPE_CHECKING:
    import pandas as pd

READ_ROWS = 65_536  # at a time


@click.command()
@click.argument("scores", type=click_types.existing_file)
@click.option("-k", "n_rows", type=click.IntRange(1), default=20, show_default=True, help="How many rows of each kind.")
@options.model_option
@click.option("--data", type=click_types.data_path, help="What was scored: each row gets its own values from it.")
@options.table_options
@options.score_option
@click.option(
    "--output", type=click_types.file_path, default=Path("review.csv"), show_default=True, help="CSV to write."
)
def review(
    scores: Path,
    n_rows: int,
    model: Path,
    data: Path | None,
    label_column: str | None,
    reading: Reading,
    score_name: str | None,
    output: Path,
) -> None:
    """Write the most anomalous rows of a score file, and the most uncertain ones, for a person to label.

    Fill in the column label (1 = anomaly, 0 = normal), then: vae-anomaly calibrate MODEL --reviewed review.csv --method
    youden. Uncertain are the rows whose scores lie nearest to the model's threshold.
    """
    import pandas as pd

    from vae_anomaly.storage.atomic import atomic_write
    from vae_anomaly.storage.model_schema import read_description
    from vae_anomaly.storage.score_table import read_score_table
    from vae_anomaly.tables.row_names import renamed

    if not model.exists():
        raise click.ClickException(f"{model} does not exist: give --model")
    if output.suffix != ".csv":
        raise click.BadParameter(f"{output} is not a .csv", param_hint="--output")
    check_outputs({"SCORES": scores, "--model": model, "--data": data}, Output("--output", output))
    threshold = options.calibration_in(read_description(model), score_name)["threshold"]
    table = read_score_table(scores).drop(columns=["label", "anomaly"], errors="ignore")
    check_no_labels(output)
    top = table.nlargest(n_rows, "anomaly_score").assign(reason="anomalous")
    rest = table.drop(index=top.index)
    nearest = (rest["anomaly_score"] - threshold).abs().nsmallest(n_rows).index
    chosen = pd.concat([top, rest.loc[nearest].assign(reason="uncertain")]).assign(label="")
    if data is not None:
        from vae_anomaly.tables.row_names import renamed

        own = own_values(data, chosen, label_column, reading_for(options.load_model(model, "cpu"), reading))
        beside = {name: own[name] for name in own.columns if not is_same(own[name], chosen.get(name))}
        named = pd.DataFrame(renamed(beside, chosen.columns), index=own.index)
        chosen = pd.concat([chosen.reset_index(drop=True), named], axis=1)
    with atomic_write(output, "w", encoding="utf-8", newline="") as file:
        chosen.to_csv(file, index=False, lineterminator="\n")
    print_lines(f"wrote {output}: {len(top)} most anomalous and {len(nearest)} most uncertain of {len(table):,} rows")


def check_no_labels(path: Path) -> None:
    """Refuse to replace a review that a person has filled in.

    Raises
    ------
    DataError
        If the file has labels.
    """
    from vae_anomaly.storage.score_table import read_score_table

    try:
        labels = read_score_table(path)["label"]
    except (OSError, DataError, KeyError):  # it is not there, or no review
        return
    if n := int((labels.notna() & (labels.astype(str) != "")).sum()):
        raise DataError(f"{path} holds {n:,} labels that were filled in: give another --output, or remove it first")


def own_values(data: Path, chosen: pd.DataFrame, label_column: str | None, reading: Reading) -> pd.DataFrame:
    """The rows of a table or an array that a score table names, in its order.

    Raises
    ------
    DataError
        If the score table does not name rows, or the data do not have them.
    """
    import numpy as np
    import pandas as pd

    from vae_anomaly.datasets import chunks

    if "row" not in chosen:
        raise DataError("SCORES has no column row, by which --data is looked up: score the data again")
    rows = chosen["row"].to_numpy()
    found, n_read = [], 0
    for part in chunks(data, READ_ROWS, label_column, reading=reading):
        places = np.unique(rows[(rows >= n_read) & (rows < n_read + len(part))]) - n_read
        values = part.take(places).X
        frame = pd.DataFrame(values.reshape(len(places), -1) if isinstance(values, np.ndarray) else values)
        found.append(frame.set_index(places + n_read))
        n_read += len(part)
    if rows.max() >= n_read:
        raise DataError(f"{data} has {n_read:,} rows, and row {rows.max():,} is in SCORES: give what was scored")
    own = pd.concat(found).loc[rows].reset_index(drop=True)
    return own.set_axis([str(name) for name in own.columns], axis=1)


def is_same(own: pd.Series, scored: pd.Series | None) -> bool:
    """Whether a score table has a column of the data already."""
    from vae_anomaly.tables.row_names import texts_of_cells

    return scored is not None and texts_of_cells(own.tolist()).tolist() == texts_of_cells(scored.tolist()).tolist()
