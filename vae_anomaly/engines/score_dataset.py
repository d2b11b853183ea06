"""Scores of data of any size, on many processes or machines: ``score_dataset``.

The output folder holds ``part-000000.parquet`` and so on, one score table for each shard, in order; the digest of each,
``_part-000000.sha256``; ``_run.json``, the identity of the run; and ``_summary.json``, written last. Readers of parquet
folders skip names that begin with an underscore.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vae_anomaly.engines import ENGINES
from vae_anomaly.engines.manifest import Manifest, Shard, manifest
from vae_anomaly.engines.processes import n_cpus, run_on_processes
from vae_anomaly.engines.shard import Task, is_damaged, is_whole
from vae_anomaly.engines.summary import SHARES, columns, count, quantiles
from vae_anomaly.errors import DataError, PartWarning
from vae_anomaly.progress import progress_bar
from vae_anomaly.storage.atomic import atomic_write, make_folder, remove_stale
from vae_anomaly.storage.model_schema import read_checked
from vae_anomaly.storage.outputs import Output, conflict
from vae_anomaly.storage.run_identity import RunIdentity
from vae_anomaly.storage.safe_reading import read_data
from vae_anomaly.storage.strict_json import loads

RUN, SUMMARY = "_run.json", "_summary.json"
LEFTOVER = re.compile(r"\.(part-\d{6,}\.parquet|_part-\d{6,}\.sha256)\.([0-9a-f]{8}\.part|attempts)")
NO_PART = "its part is missing or damaged"
NAMED_PARTS = 10  # in one message


@dataclass(frozen=True)
class Failure:
    """A shard without scores.

    Parameters
    ----------
    shard
        The rows, and their file.
    error
        The reason, on one line.
    """

    shard: Shard
    error: str


@dataclass(frozen=True)
class ScoredDataset:
    """The result of `score_dataset`.

    Parameters
    ----------
    output
        The folder with the parts.
    n_parts, n_rows, n_flagged
        How many parts and rows there are, and rows with decision 1.
    quantiles
        Of the anomaly scores, by share.
    failures
        Shards without scores; a second run tries only these.
    """

    output: Path
    n_parts: int
    n_rows: int
    n_flagged: int
    quantiles: dict[str, float]
    failures: tuple[Failure, ...]


def score_dataset(
    data: str | Path,
    model: str | Path,
    output: str | Path,
    *,
    engine: str = "processes",
    workers: int | None = None,
    address: str | None = None,
    score: str | None = None,
    label_column: str | None = None,
    id_columns: tuple[str, ...] = (),
    device: str = "cpu",
    shard_rows: int | None = None,
    verbose: bool = False,
) -> ScoredDataset:
    """Score data of any size on many processes or machines, to the same bits as on one.

    A second call with the same arguments keeps the parts that are there and scores the rest. Parts that are not as they
    were written are among the rest, and a `PartWarning` names them.

    Parameters
    ----------
    data : str or Path
        A ``.npy``, parquet or Zarr file, a folder of such, or a URL that fsspec knows. Every worker must see the data,
        the model and the output under these names.
    model : str or Path
        A model file.
    output : str or Path
        Folder for the parts; made if it is not there.
    engine : {"processes", "ray"}
        Worker processes on this machine, or a Ray cluster.
    workers : int, optional
        How many, of one thread each. None: one for each CPU of this machine, or of the cluster.
    address : str, optional
        HOST:PORT of a Ray cluster. None: one is started on this machine for this call.
    score : str, optional
        A key of `vae_anomaly.registry.SCORES`. None: the model's own.
    label_column : str, optional
        Column of a table that is no feature.
    id_columns : tuple of str
        Columns of a table that name its rows in the parts; none: the identifiers that the model carries.
    device : str
        A name that torch knows, the same for all workers.
    shard_rows : int, optional
        Most rows a shard; row groups and chunks are never cut. None: a 64th of the data, at most 262,144.
    verbose : bool
        Show progress on stderr.

    Returns
    -------
    ScoredDataset
        Counts, quantiles, and the shards that could not be scored, which did not stop the others.

    Raises
    ------
    DataError
        If the data cannot be cut into shards, or the folder holds anything but parts of the same run, or is or holds
        the data or the model.
    EngineError
        If the engine is missing, cannot be reached, or its workers do not start.
    """
    check_options(engine, address, workers=workers, shard_rows=shard_rows)
    model, output = Path(model).absolute(), Path(output).absolute()
    lost = conflict({"data": data, "model": model}, [Output("output", output, entries="*")])
    if lost is not None:
        raise DataError(lost)
    config, digest = read_checked(model)
    task = Task(
        str(model), digest, str(output), score or config["parameters"]["score"], device, label_column, id_columns
    )
    plan = manifest(absolute(data), shard_rows)
    claim(output, identity_of(task, plan))
    remove_leftovers(output)
    left = [shard for shard in plan.shards if not is_whole(output / shard.part)]
    warn_of_damage([output / shard.part for shard in left])
    errors: dict[int, str] = {}
    try:
        for record in progress(run(engine, task, left, workers, address), plan, left, verbose=verbose):
            if record["error"] is not None:
                errors[int(record["number"])] = record["error"]
    finally:
        remove_leftovers(output)
    return summarise(output, plan, errors)


def check_options(engine: str, address: str | None, **counts: int | None) -> None:
    """Refuse options of `score_dataset` that do not go together, and the lack of pyarrow, which writes the parts."""
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(map(repr, ENGINES))}, got {engine!r}")
    if address is not None and engine != "ray":
        raise ValueError(f"address is for engine='ray', got engine={engine!r}")
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    try:
        import pyarrow  # noqa: F401 - whether it is there
    except ImportError:
        raise DataError("an engine writes parquet, which needs pyarrow: pip install 'vae-anomaly[parquet]'") from None


def run(
    engine: str, task: Task, shards: Sequence[Shard], workers: int | None, address: str | None
) -> Iterator[dict[str, Any]]:
    """Let an engine score shards, if there are any, and pass on their records."""
    if not shards:
        return
    if engine == "ray":
        from vae_anomaly.engines.on_ray import run_on_ray

        yield from run_on_ray(task, shards, workers, address)
    else:
        yield from run_on_processes(task, shards, workers or n_cpus())


def absolute(data: str | Path) -> str:
    """A path that other processes find too; a URL as it is."""
    from vae_anomaly.datasets import is_url

    text = str(data)
    return text if is_url(text) else str(Path(text).absolute())


def identity_of(task: Task, plan: Manifest) -> RunIdentity:
    """What the bits of the parts depend on, and where they are cut."""
    from vae_anomaly import __version__
    from vae_anomaly.storage.model_file import versions

    return RunIdentity(
        {
            "model": task.digest,
            "data": plan.fingerprint,
            "number of shards": len(plan.shards),
            "score": task.score,
            "label column": task.label_column,
            "identifiers": list(task.id_columns),
            "device": task.device,
            "version": f"{__version__}, torch {versions()['torch']}",
        }
    )


def claim(output: Path, identity: RunIdentity) -> None:
    """Take a folder that is new, or that the same run began; the summary of the earlier run is removed.

    Raises
    ------
    DataError
        If it holds anything else.
    """
    run = output / RUN
    make_folder(output)
    if not run.exists():
        if any(not name.name.startswith(f".{RUN}.") for name in output.iterdir()):
            raise DataError(f"{output} holds other files: give a folder that is empty or not there yet")
        with atomic_write(run, "w", encoding="utf-8") as file:
            json.dump(identity.facts, file, indent=2)
    try:
        written = dict(loads(read_data(run, 1 << 20)))
    except (ValueError, TypeError) as error:
        raise DataError(f"{run} is damaged: give another folder for the scores") from error
    identity.check(written, output, "give another folder", DataError)
    (output / SUMMARY).unlink(missing_ok=True)


def warn_of_damage(parts: Sequence[Path]) -> None:
    """Name those of the parts that are there but not as they were written."""
    damaged = [part for part in parts if is_damaged(part)]
    if damaged:
        more = len(damaged) - NAMED_PARTS
        names = ", ".join(part.name for part in damaged[:NAMED_PARTS]) + (f" and {more:,} more" if more > 0 else "")
        warnings.warn(f"{damaged[0].parent}: damaged, and scored again: {names}", PartWarning, stacklevel=3)


def remove_leftovers(output: Path) -> None:
    """Remove what killed workers left behind, but nothing that a living one is writing."""
    for path in list(output.iterdir()):
        if found := LEFTOVER.fullmatch(path.name):
            if found[2] == "attempts":
                path.unlink(missing_ok=True)
            else:
                remove_stale(output / found[1])


def progress(
    records: Iterator[dict[str, Any]], plan: Manifest, left: Sequence[Shard], *, verbose: bool
) -> Iterator[dict[str, Any]]:
    """The records, with a progress bar on stderr that also counts the rows of earlier runs."""
    done = plan.n_rows - sum(shard.n_rows for shard in left)
    with progress_bar("scoring", plan.n_rows, done=done, shown=verbose) as bar:
        for record in records:
            bar.update(plan.shards[int(record["number"])].n_rows)
            yield record


def summarise(output: Path, plan: Manifest, errors: dict[int, str]) -> ScoredDataset:
    """Count what the parts hold, and write the summary."""
    whole = [is_whole(output / shard.part) for shard in plan.shards]
    parts = [output / shard.part for shard, there in zip(plan.shards, whole, strict=True) if there]
    n_rows, n_flagged = count(parts)
    values = quantiles(partial(columns, parts, "anomaly_score"), n_rows) if n_rows else []
    result = ScoredDataset(
        output=output,
        n_parts=len(parts),
        n_rows=n_rows,
        n_flagged=n_flagged,
        quantiles={f"{share:g}": value for share, value in zip(SHARES, values, strict=False)},
        failures=tuple(
            Failure(shard, errors.get(shard.number, NO_PART))
            for shard, there in zip(plan.shards, whole, strict=True)
            if not there
        ),
    )
    summary = {
        "rows": n_rows,
        "flagged": n_flagged,
        "parts": len(parts),
        "anomaly_score": result.quantiles,
        "failed": [failure.shard._asdict() | {"error": failure.error} for failure in result.failures],
    }
    with atomic_write(output / SUMMARY, "w", encoding="utf-8") as file:
        json.dump(summary, file, indent=2)
    return result
