"""``vae-anomaly score``: anomaly scores, a chunk at a time."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import click

from vae_anomaly.cli import click_types, options
from vae_anomaly.cli.data import reading_for
from vae_anomaly.cli.outputs import check_outputs
from vae_anomaly.cli.score_maps import check_maps_folder, maps_into
from vae_anomaly.cli.score_shards import score_shards
from vae_anomaly.cli.score_table import DEPENDENCE, Source, Together, score_to_table, score_to_table_resumably
from vae_anomaly.datasets.reading import INFERRED, Reading
from vae_anomaly.engines import ENGINES
from vae_anomaly.storage.outputs import STANDARD_OUTPUT, Output


class Deciding(NamedTuple):
    """What is said of how samples are decided, as the options of that name."""

    fdr: float | None
    dependence: str | None
    stream: bool
    adaptive: float | None
    state: Path | None
    resume: bool


class Places(NamedTuple):
    """What is asked of the places of images, as the options ``--maps`` and ``--boxes``."""

    maps: Path | None
    boxes: bool


@click.command()
@click.argument("data", type=click_types.data_path_or_url, nargs=-1, required=True)
@options.model_option
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="File to write: .csv, .parquet, .jsonl or .npy; with --engine a folder.  [default: CSV on stdout]",
)
@options.missing_columns_option
@options.table_options
@options.id_column_option
@click.option(
    "--fdr",
    type=click_types.share,
    help="Decide all samples together by Benjamini-Hochberg: of those flagged, at most this expected share is normal.",
)
@click.option(
    "--dependence",
    type=click.Choice(DEPENDENCE),
    help="What --fdr may rest on: samples independent of each other, so that p-values depend positively, or nothing, "
    f"as samples of one machine or patient need it, by e-values.  [default: {DEPENDENCE[0]}]",
)
@click.option(
    "--stream",
    is_flag=True,
    help="Decide each sample by those before it alone: with --fdr, which then holds after every sample, or --adaptive.",
)
@click.option(
    "--adaptive",
    type=click_types.share,
    help="With --stream: flag this share of all samples in the long run, on any sequence, by a threshold that follows "
    "drift.",
)
@click.option(
    "--state",
    type=click_types.file_path,
    help="With --stream: file of what is known of the stream so far, to go on from and to leave behind.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Keep progress in OUTPUT.partial, and continue an earlier run with this option; .csv and .jsonl only.",
)
@click.option(
    "--maps",
    type=click.Path(path_type=Path),
    help="Of images: folder to make, with each one under its heat map as PNG, and the heat map in nats as .npy.",
)
@click.option(
    "--boxes",
    is_flag=True,
    help="Of images: a column boxes, JSON [[top, left, bottom, right, peak], ...] of the regions above the threshold "
    "for places.",
)
@click.option("--fail-on-anomaly", is_flag=True, help=f"Exit with {options.ALARM_EXIT_CODE} if a sample is flagged.")
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    help="Score shards of the data on worker processes, or on a Ray cluster, into parts in the folder OUTPUT.",
)
@options.address_option
@options.workers_option
@click.option(
    "--shard-rows",
    type=click.IntRange(1),
    help="Rows per shard, at most.  [default: a 64th of the data, at most 262,144]",
)
@options.score_option
@options.device_option
@click.pass_context
def score(
    ctx: click.Context,
    /,
    data: tuple[Path | str, ...],
    model: Path,
    output: Path | None,
    label_column: str | None,
    reading: Reading,
    id_columns: tuple[str, ...],
    fdr: float | None,
    dependence: str | None,
    stream: bool,
    adaptive: float | None,
    state: Path | None,
    resume: bool,
    maps: Path | None,
    boxes: bool,
    fail_on_anomaly: bool,
    score_name: str | None,
    device: str,
    **engine_options: Any,
) -> None:
    """Score samples: higher is more anomalous.

    DATA is a .npy, .npz, .csv, .parquet or .zarr file, a folder of images, one or more image files, or - for CSV or
    .npy on standard input. Image files are brought to the size that the model was fitted on, if it was by --resize or
    --crop. The output has one row for each sample: row (its number in DATA, from 0), its identifiers, anomaly_score (by
    default the negative ELBO in nats, of images minus the logarithm of the harmonic mean of three p-values), decision
    (1 = anomaly), p_value (among held-out normals), and the ELBO's two terms; the negative ELBO is kl - reconstruction;
    of images it is an energy, to be compared within one model. If the
    model's table has categories, dates or gaps, missing counts the gaps of the row. Memory does not grow with the size
    of the file, except by 8 bytes a row with --fdr, and for .npz, which is read whole.

    With --stream there is level too, what the row's p_value must not exceed for it to be flagged; with --adaptive it is
    recent_p_value, the rank among the latest rows, that must not. DATA are the rows that came after those that STATE
    counts; a run that was interrupted goes on by the same command.

    With --engine, DATA is a .npy, .parquet or .zarr file, a folder of such, or a URL, and OUTPUT a folder of parts. The
    same command again scores the parts that are missing.
    """
    if engine_options["engine"] is not None and reading != INFERRED:
        raise click.UsageError(
            "--engine reads files that say themselves how: leave out --sep, --decimal, --encoding, --header, "
            "--skip-rows and --missing-columns"
        )
    deciding = Deciding(fdr, dependence, stream, adaptive, state, resume)
    first, further = data[0], further_images(data)
    check_usage(first, output, deciding, engine_options)
    places = Places(maps, boxes)
    check_places(places, deciding, engine_options["engine"])
    inputs: dict[str, Path | str | None] = {f"DATA {number}": path for number, path in enumerate(further, 2)}
    outputs = outputs_of(output, engine_options["engine"], deciding)
    if maps is not None:
        outputs.append(Output("--maps", maps, entries="*"))
    check_outputs({"DATA": first, "--model": model} | inputs, *outputs)
    if engine_options["engine"] is not None:
        assert output is not None
        n_flagged = score_shards(first, model, output, label_column, id_columns, score_name, device, **engine_options)
    else:
        assert isinstance(first, Path)
        reading = replace(reading, images=replace(reading.images, further=further))
        fitted = options.load_model(model, device, score_name)
        source = Source(first, label_column, reading_for(fitted, reading), id_columns)
        if stream:
            from vae_anomaly.cli.score_stream import Wanted, score_stream

            n_flagged = score_stream(fitted, source, output or sys.stdout, Wanted(fdr, adaptive), state)
        elif resume and output is not None:
            n_flagged = score_to_table_resumably(fitted, source, output)
        else:
            together = None if fdr is None else Together(fdr, dependence or DEPENDENCE[0])
            with maps_into(fitted, places.maps, boxes=places.boxes) as maker:
                n_flagged = score_to_table(fitted, source, output or sys.stdout, together, maker)
    if fail_on_anomaly and n_flagged:
        ctx.exit(options.ALARM_EXIT_CODE)


def further_images(data: tuple[Path | str, ...]) -> tuple[Path, ...]:
    """The image files that follow the first; nothing else may come in several."""
    from vae_anomaly.datasets.formats import format_of

    paths = tuple(path for path in data if isinstance(path, Path))
    if len(data) > 1 and not (
        len(paths) == len(data) and all(path.is_file() and format_of(path) == "image_file" for path in paths)
    ):
        raise click.UsageError("only image files can be given several at a time: give one DATA, such as their folder")
    return paths[1:]


def outputs_of(output: Path | None, engine: str | None, deciding: Deciding) -> list[Output]:
    """What is written: a table, a folder of parts, or a table that is kept beside its progress."""
    if output is None:
        return [Output("standard output", STANDARD_OUTPUT)]
    if engine is not None:
        return [Output("--output", output, entries="*")]
    from vae_anomaly.storage.resumable_table import companions

    table = Output("--output", output)
    if deciding.state is not None:
        from vae_anomaly.storage.stream_table import lock_at

        kept, lock = companions(output)[0], lock_at(deciding.state)
        return [table, Output("--state", deciding.state), Output("--state's", kept), Output("--state's", lock)]
    return [table, *(Output("--resume's", path) for path in (companions(output) if deciding.resume else ()))]


def check_usage(data: Path | str, output: Path | None, deciding: Deciding, engine_options: dict[str, Any]) -> None:
    """Refuse options that do not go together."""
    is_stdin = data == Path("-")
    if deciding.dependence is not None and deciding.fdr is None:
        raise click.UsageError("--dependence goes with --fdr")
    if engine_options["engine"] is not None:
        if any((deciding.fdr, deciding.stream, deciding.resume)) or output is None or is_stdin:
            raise click.UsageError(
                "--engine needs --output and a file, folder or URL, and takes no --fdr, --stream or --resume"
            )
        if engine_options["address"] is not None and engine_options["engine"] != "ray":
            raise click.UsageError("--address goes with --engine ray")
        return
    if isinstance(data, str):
        raise click.UsageError("a URL needs --engine")
    if any(value is not None for value in engine_options.values()):
        raise click.UsageError("--address, --workers and --shard-rows go with --engine")
    if output is not None and output.is_dir():
        raise click.BadParameter(f"File '{output}' is a directory.", param_hint="'--output'")
    check_stream_usage(deciding, findable=output is not None and not is_stdin)
    if deciding.resume and (output is None or deciding.fdr is not None or is_stdin):
        raise click.UsageError("--resume needs --output and a file or folder, and does not go with --fdr")


def check_places(places: Places, deciding: Deciding, engine: str | None) -> None:
    """Refuse maps and boxes where images are not scored one chunk after the other into one table."""
    if places.maps is None and not places.boxes:
        return
    if engine is not None or deciding.stream or deciding.resume:
        raise click.UsageError("--maps and --boxes do not go with --engine, --stream or --resume")
    if places.maps is not None:
        check_maps_folder(places.maps)


def check_stream_usage(deciding: Deciding, *, findable: bool) -> None:
    """Refuse options of a stream that do not go together; rows can be found again in a file, and not in a pipe."""
    if not deciding.stream:
        if deciding.adaptive is not None or deciding.state is not None:
            raise click.UsageError("--adaptive and --state go with --stream")
        return
    if (deciding.fdr is None) == (deciding.adaptive is None):
        raise click.UsageError("--stream needs either --fdr or --adaptive")
    if deciding.dependence == "arbitrary":
        raise click.UsageError(
            "--stream --fdr rests on samples independent of each other: without --stream, --fdr decides dependent ones"
        )
    if deciding.resume:
        raise click.UsageError("--stream goes on from --state: leave out --resume")
    if deciding.state is not None and not findable:
        raise click.UsageError("--state needs --output and a file or folder, where an interrupted run finds its rows")
