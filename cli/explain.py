"""``vae-anomaly explain``: why one sample got its score."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from vae_anomaly.cli import click_types, options
from vae_anomaly.cli.explain_sample import collect_evidence, load_sample
from vae_anomaly.cli.explain_text import draw, evidence_text
from vae_anomaly.cli.outputs import check_outputs
from vae_anomaly.datasets.reading import Reading
from vae_anomaly.storage.outputs import Output
from vae_anomaly.storage.safe_reading import printable

SUFFIXES = (".png", ".svg", ".json", ".txt")


@click.command()
@click.argument("model", type=click_types.existing_file)
@click.argument("data", type=click_types.data_path)
@click.option(
    "--row", type=click.IntRange(0), help="Which sample of DATA, counted from 0; needed where it has more than one."
)
@click.option("--file", "name", help="Which image of a folder DATA, by its name as in score tables, in place of --row.")
@click.option(
    "--top", type=click.IntRange(1), default=10, show_default=True, help="How many features and latents to show."
)
@click.option("--output", type=click_types.file_path, help="File to write: .png or .svg for a figure, .json or .txt.")
@options.missing_columns_option
@options.table_options
@options.id_column_option
@options.score_option
@options.device_option
@options.json_option
def explain(
    model: Path,
    data: Path,
    row: int | None,
    name: str | None,
    top: int,
    output: Path | None,
    label_column: str | None,
    reading: Reading,
    id_columns: tuple[str, ...],
    score_name: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Show why a sample got its score: the ELBO's two terms, divided among features and latents.

    DATA is as for score. The features or pixels that cost most are listed, beside what the model expected instead.
    The cost is in nats: of a feature beyond what the model predicts, of a pixel beyond the best pixel of the image.
    The ELBO is explained, whatever the score. JSON holds all features. In a table, a category shows the likeliest level
    with its probability, and a gap is called missing.
    """
    if row is not None and name is not None:
        raise click.UsageError("--row and --file both say which sample: give one of them")
    if output is not None:
        check_outputs({"MODEL": model, "DATA": data}, Output("--output", output))
    from vae_anomaly.reports.plots.style import to_png, to_svg
    from vae_anomaly.storage.atomic import atomic_write

    if output is not None and output.suffix not in SUFFIXES:
        raise click.BadParameter(f"{output} is neither .png, .svg, .json nor .txt", param_hint="--output")
    detector = options.load_detector(model, device, score_name)
    sample = load_sample(data, row if name is None else name, label_column, detector, reading)
    row = int(sample.row_numbers[0])
    evidence, parts = collect_evidence(detector, sample, row, id_columns)
    whole = json.dumps({"model": str(model)} | evidence, indent=2, allow_nan=False)
    text = evidence_text(evidence, parts, top, detector.vae_.prior.shares_of)
    if output is not None:
        if output.suffix in (".png", ".svg"):
            figure = draw(evidence, parts, top)
            content = to_png(figure) if output.suffix == ".png" else to_svg(figure)
        else:
            content = f"{whole if output.suffix == '.json' else text}\n".encode()
        with atomic_write(output) as file:
            file.write(content)
        text += f"\nwrote      {printable(output)}"
    elif str(data) != "-":
        again = shlex.join(["vae-anomaly", "explain", str(model), str(data), "--row", str(row)])
        text += f"\nfigure     {printable(again)} --output row-{row}.png"
    click.echo(whole if as_json else text)
