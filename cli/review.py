"""``vae-anomaly review``: the rows that a person should label."""

from __future__ import annotations

from pathlib import Path

import click

from vae_anomaly.cli import click_types, options
from vae_anomaly.cli.outputs import check_outputs
from vae_anomaly.cli.text import print_lines
from vae_anomaly.storage.outputs import Output


@click.command()
@click.argument("scores", type=click_types.existing_file)
@click.option("-k", "n_rows", type=click.IntRange(1), default=20, show_default=True, help="How many rows of each kind.")
@options.model_option
@options.score_option
@click.option(
    "--output", type=click_types.file_path, default=Path("review.csv"), show_default=True, help="CSV to write."
)
def review(scores: Path, n_rows: int, model: Path, score_name: str | None, output: Path) -> None:
    """Write the most anomalous rows of a score file, and the most uncertain ones, for a person to label.

    Fill in the column label (1 = anomaly, 0 = normal), then: vae-anomaly calibrate MODEL --reviewed review.csv --method
    youden. Uncertain are the rows whose scores lie nearest to the model's threshold.
    """
    import pandas as pd

    from vae_anomaly.storage.atomic import atomic_write
    from vae_anomaly.storage.model_schema import read_description
    from vae_anomaly.storage.score_table import read_score_table

    if not model.exists():
        raise click.ClickException(f"{model} does not exist: give --model")
    if output.suffix != ".csv":
        raise click.BadParameter(f"{output} is not a .csv", param_hint="--output")
    check_outputs({"SCORES": scores, "--model": model}, Output("--output", output))
    threshold = options.calibration_in(read_description(model), score_name)["threshold"]
    table = read_score_table(scores).drop(columns=["label", "anomaly"], errors="ignore")
    top = table.nlargest(n_rows, "anomaly_score").assign(reason="anomalous")
    rest = table.drop(index=top.index)
    nearest = (rest["anomaly_score"] - threshold).abs().nsmallest(n_rows).index
    chosen = pd.concat([top, rest.loc[nearest].assign(reason="uncertain")]).assign(label="")
    with atomic_write(output, "w", encoding="utf-8", newline="") as file:
        chosen.to_csv(file, index=False, lineterminator="\n")
    print_lines(f"wrote {output}: {len(top)} most anomalous and {len(nearest)} most uncertain of {len(table):,} rows")
