"""``vae-anomaly score``: anomaly scores, a chunk at a time."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vae_anomaly.cli import options
from vae_anomaly.cli.data import row_bar
from vae_anomaly.storage.safe_reading import printable

if TYPE_CHECKING:
    from vae_anomaly.fitted_model import FittedModel
    from vae_anomaly.reports import Columns, ScoreTable
    from vae_anomaly.storage.run_identity import RunIdentity

ANOMALY_EXIT_CODE = 3
RESUME_ROWS = 1 << 14  # as many can be lost to a kill
MOST_TOLD = 20


@click.command()
@click.argument("data", type=options.data_location)
@options.model_option
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="File to write: .csv, .parquet, .jsonl or .npy; with --engine a folder.  [default: CSV on stdout]",
)
@options.label_column_option
@click.option(
    "--fdr",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Decide the whole batch by Benjamini-Hochberg: at most this expected share of those flagged is normal.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Keep progress in OUTPUT.partial, and go on where an earlier run with this option was cut; .csv and .jsonl.",
)
@click.option("--fail-on-anomaly", is_flag=True, help=f"Exit with {ANOMALY_EXIT_CODE} if a sample is flagged.")
@click.option(
    "--engine",
    type=click.Choice(options.ENGINES),
    help="Score shards of the data on worker processes, or on a Ray cluster, into parts in the folder OUTPUT.",
)
@options.address_option
@options.workers_option
@click.option(
    "--shard-rows", type=click.IntRange(1), help="Most rows a shard.  [default: a 64th of the data, at most 262,144]"
)
@options.score_option
@options.device_option
@click.pass_context
def score(
    ctx: click.Context,
    /,
    data: Path | str,
    model: Path,
    output: Path | None,
    label_column: str | None,
    fdr: float | None,
    resume: bool,
    fail_on_anomaly: bool,
    score_name: str | None,
    device: str,
    **on_engine: Any,
) -> None:
    """Score samples: higher is more anomalous.

    DATA is a .npy, .npz, .csv, .parquet or .zarr file, a folder of images, or - for CSV or .npy on standard input. One
    row comes out for each sample: index, anomaly_score (by default the negative ELBO, in nats), decision (1 = anomaly),
    p_value (among held-out normals), and the ELBO's two terms, of which it is kl - reconstruction. Memory does not grow
    with the file, but for 8 bytes a row with --fdr, and for .npz, which is read whole.

    With --engine, DATA is a .npy, .parquet or .zarr file, a folder of such, or a URL, and OUTPUT a folder of parts. The
    same command again scores what is missing there.
    """
    import sys

    if on_engine["engine"] is not None:
        if fdr is not None or resume or output is None or data == Path("-"):
            raise click.UsageError("--engine needs --output and a file, folder or URL, and takes no --fdr or --resume")
        n_flagged = score_shards(data, model, output, label_column, score_name, device, **on_engine)
        if fail_on_anomaly and n_flagged:
            ctx.exit(ANOMALY_EXIT_CODE)
        return
    if isinstance(data, str):
        raise click.UsageError("a URL needs --engine")
    if any(value is not None for value in on_engine.values()):
        raise click.UsageError("--address, --workers and --shard-rows go with --engine")
    if output is not None and output.is_dir():
        raise click.BadParameter(f"File '{output}' is a directory.", param_hint="'--output'")

    from vae_anomaly.reports import open_resumable_table, open_score_table

    if resume and (output is None or fdr is not None or data == Path("-")):
        raise click.UsageError("--resume needs --output and a file or folder, and does not go with --fdr")
    fitted = options.load_model(model, device, score_name)
    if resume and output is not None:
        with open_resumable_table(output, identity_of(fitted, data, label_column)) as table:
            for piece in score_chunks(fitted, data, label_column, table.n_rows, RESUME_ROWS):
                table.write(piece)
        n_flagged = table.n_flagged
    else:
        with open_score_table(output or sys.stdout) as write:
            pieces = score_chunks(fitted, data, label_column)
            if output is None and sys.stdout.isatty():
                pieces = map(presentable, pieces)
            n_flagged = write_pieces(pieces, write) if fdr is None else write_batch(pieces, write, fdr)
    if fail_on_anomaly and n_flagged:
        ctx.exit(ANOMALY_EXIT_CODE)


def score_shards(
    data: Path | str,
    model: Path,
    output: Path,
    label_column: str | None,
    score_name: str | None,
    device: str,
    *,
    engine: str,
    **how: Any,
) -> int:
    """Score on an engine and say what came of it; returns how many samples are flagged."""
    from vae_anomaly.engines.score_dataset import SUMMARY, score_dataset

    if how["address"] is not None and engine != "ray":
        raise click.UsageError("--address goes with --engine ray")
    options.check_model(model)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # where Ray would tell of every worker that dies
            done = score_dataset(
                data,
                model,
                output,
                engine=engine,
                score=score_name,
                label_column=label_column,
                device="cpu" if device == "auto" else device,
                verbose=True,
                **how,
            )
    except KeyboardInterrupt as interruption:
        interruption.add_note(f"the parts in {output} stay: the same command goes on from there")
        raise
    options.say(
        f"scored     {done.n_rows:,} samples, {done.n_flagged:,} flagged",
        f"wrote      {output / SUMMARY}, {done.n_parts:,} parts",
    )
    if done.failures:
        lines = [f"{failure.shard}: {failure.error}" for failure in done.failures[:MOST_TOLD]]
        more = len(done.failures) - len(lines)
        lines += [f"and {more:,} more, all in {output / SUMMARY}"] if more else []
        click.echo(options.shown(*lines), err=True)
        raise click.ClickException(
            f"{len(done.failures):,} of {done.n_parts + len(done.failures):,} shards have no scores; the same command "
            "tries them again"
        )
    return done.n_flagged


def identity_of(fitted: FittedModel, data: Path, label_column: str | None) -> RunIdentity:
    """What the bits of a score table depend on."""
    import torch

    from vae_anomaly import __version__
    from vae_anomaly.datasets import stamp
    from vae_anomaly.storage.run_identity import RunIdentity

    return RunIdentity(
        {
            "model": fitted.file_digest,
            "data": stamp(str(data)),
            "score": fitted.score,
            "label column": label_column,
            "device": str(fitted.vae.scaling.loc.device),
            "number of threads": torch.get_num_threads(),
            "version": f"{__version__}, torch {torch.__version__}",
        }
    )


def presentable(columns: Columns) -> Columns:
    """File names as a terminal may see them."""
    names = {"file": [printable(name) for name in columns["file"]]} if "file" in columns else {}
    return {**columns, **names}


def score_chunks(
    fitted: FittedModel, data: Path, label_column: str | None, first_row: int = 0, most_rows: int | None = None
) -> Iterator[Columns]:
    """The score table from a row on, a chunk at a time, with progress on stderr."""
    import numpy as np

    from vae_anomaly.datasets import chunks

    n_rows = max(1, options.CHUNK_BYTES // (8 * fitted.n_features))
    n_rows = n_rows if most_rows is None else min(n_rows, most_rows)
    with row_bar(data, "scoring", first_row) as bar:
        start = first_row
        for part in chunks(data, n_rows, label_column, first_row):
            columns = {"index": np.arange(start, start + len(part))}
            columns |= fitted.score_table(part.X, part.feature_names)
            if part.row_names is not None:
                columns["file"] = np.array(part.row_names)
            yield columns
            start += len(part)
            bar.update(len(part))


def write_pieces(pieces: Iterator[Columns], write: ScoreTable) -> int:
    """Write as they come; returns how many samples are flagged."""
    n_flagged = 0
    for columns in pieces:
        write(columns)
        n_flagged += int(columns["decision"].sum())
    return n_flagged


def write_batch(pieces: Iterator[Columns], write: ScoreTable, fdr: float) -> int:
    """Keep the table in a temporary file until all p-values are known, then decide and write."""
    import tempfile

    import numpy as np

    from vae_anomaly.calibration.conformal import benjamini_hochberg
    from vae_anomaly.storage.score_formats import records

    with tempfile.TemporaryFile() as spool:
        p_values = []
        for columns in pieces:
            p_values.append(columns["p_value"])
            np.save(spool, records(columns), allow_pickle=False)
        flagged = benjamini_hochberg(np.concatenate(p_values), fdr)
        spool.seek(0)
        start = 0
        for part in p_values:
            rows = np.load(spool, allow_pickle=False)
            rows["decision"] = flagged[start : start + len(part)]
            write({name: rows[name] for name in rows.dtype.names})
            start += len(part)
    return int(flagged.sum())
