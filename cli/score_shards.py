"""``vae-anomaly score --engine``: scores by several workers, in parts."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vae_anomaly.cli import options
from vae_anomaly.cli.text import print_lines, terminal_text

if TYPE_CHECKING:
    from vae_anomaly.engines.score_dataset import ScoredDataset

PRINTED_FAILURES = 20


def score_shards(
    data: Path | str,
    model: Path,
    output: Path,
    label_column: str | None,
    id_columns: tuple[str, ...],
    score_name: str | None,
    device: str,
    **engine_options: Any,
) -> int:
    """Score on an engine and print the outcome; returns how many samples are flagged."""
    from vae_anomaly.engines.score_dataset import SUMMARY, score_dataset

    options.check_model_exists(model)
    try:
        # Ray prints a message for every worker that dies
        with contextlib.redirect_stdout(io.StringIO()):
            result = score_dataset(
                data,
                model,
                output,
                score=score_name,
                label_column=label_column,
                id_columns=id_columns,
                device="cpu" if device == "auto" else device,
                verbose=True,
                **engine_options,
            )
    except KeyboardInterrupt as interruption:
        interruption.add_note(f"the parts in {output} stay: the same command goes on from there")
        raise
    print_lines(
        f"scored     {result.n_rows:,} samples, {result.n_flagged:,} flagged",
        f"wrote      {output / SUMMARY}, {result.n_parts:,} parts",
    )
    if result.failures:
        report_failures(result, output / SUMMARY)
    return result.n_flagged


def report_failures(result: ScoredDataset, summary: Path) -> None:
    """Print the shards without scores, and end the command with an error."""
    lines = [f"{failure.shard}: {failure.error}" for failure in result.failures[:PRINTED_FAILURES]]
    more = len(result.failures) - len(lines)
    lines += [f"and {more:,} more, all in {summary}"] if more else []
    click.echo(terminal_text(*lines), err=True)
    n_shards = result.n_parts + len(result.failures)
    raise click.ClickException(
        f"{len(result.failures):,} of {n_shards:,} shards have no scores; the same command tries them again"
    )
