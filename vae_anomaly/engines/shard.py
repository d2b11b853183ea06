"""What every engine does with a shard: read its rows, score them, write its part.

It is idempotent: a part appears whole or not at all, a second call finds it and does nothing, and two calls that run at
the same time write the same bits. So an engine may call it again whenever it is in doubt.

Beside ``part-000000.parquet`` lies its digest, ``_part-000000.sha256``, as ``sha256sum`` prints it. It is written after
the part, so a part that was damaged later is found out, whatever of it is still readable.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from vae_anomaly.datasets import rows_at
from vae_anomaly.datasets.reading import ImageReading
from vae_anomaly.engines.manifest import Shard
from vae_anomaly.errors import DataError, ModelFileError
from vae_anomaly.scoring import BLOCK_ROWS
from vae_anomaly.storage.atomic import atomic_write
from vae_anomaly.storage.safe_reading import open_regular, printable, read_data
from vae_anomaly.storage.score_table import open_score_table
from vae_anomaly.tables.row_names import ids_of, renamed

CHUNK_BYTES = 32 << 20  # of rows in double precision, held at a time
MAX_ATTEMPTS = 5  # workers that may die on one shard; then it counts as failed


class Task(NamedTuple):
    """What to score with and where the parts go; nothing but text, so that any engine can send it.

    Parameters
    ----------
    model, digest
        The model file and its SHA-256, with which each worker compares what it loaded.
    output
        Folder of the parts.
    score, device
        As `VAEDetector` has them.
    label_column
        Column of a table that is no feature.
    id_columns
        Columns of a table that name its rows; none: its identifiers.
    """

    model: str
    digest: str
    output: str
    score: str
    device: str
    label_column: str | None
    id_columns: tuple[str, ...] = ()


class ShardScorer:
    """Scores shards one after the other with a model that is loaded once; only for a process that is a worker.

    The process computes with one thread from then on: several workers of several threads each slow each other down.

    Raises
    ------
    ModelFileError
        If the file is not the task's model, or no model.
    """

    def __init__(self, task: Task) -> None:
        import torch

        from vae_anomaly.fitted_model import FittedModel

        torch.set_num_threads(1)
        self.task = task
        model = FittedModel.load(task.model, device=task.device)
        if model.file_digest != task.digest:
            raise ModelFileError(f"{task.model} is another model than the one that the run began with")
        self.model, known = model.using(task.score), model.images
        self.images = ImageReading() if known is None else ImageReading(resize=known.resize, crop=known.crop)

    def __call__(self, shard: Shard) -> dict[str, Any]:
        """Score a shard, and give a record: its number, and why it has no part, or None. Never raises an exception."""
        part = Path(self.task.output, shard.part)
        attempts = attempts_at(part)
        error = None
        try:
            if not is_whole(part):
                with attempts.open("ab") as file:
                    file.write(b".")
                    n_attempts = file.tell()
                if n_attempts > MAX_ATTEMPTS:
                    error = f"its worker died {MAX_ATTEMPTS} times"
                else:
                    for path in part, digest_at(part):
                        if path.is_symlink():  # to what is not ours, and would be replaced
                            path.unlink()
                    self.write(shard, part)
            attempts.unlink(missing_ok=True)
        except Exception as caught:
            attempts.unlink(missing_ok=True)
            error = f"{'' if isinstance(caught, DataError | OSError) else f'{type(caught).__name__}: '}{caught}"
        return {"number": shard.number, "error": error if error is None else printable(error)}

    def write(self, shard: Shard, part: Path) -> None:
        """Score the rows, a chunk at a time, and write the part's digest once it is there."""
        import numpy as np

        step = max(1, CHUNK_BYTES // (8 * self.model.n_features))
        step -= step % BLOCK_ROWS if step > BLOCK_ROWS else 0
        row = shard.start
        with open_score_table(part) as write:
            place = shard.location, shard.first_row, shard.n_rows
            for rows in rows_at(*place, step, self.task.label_column, self.images):
                scores = self.model.score_table(rows.X, rows.source, int(rows.row_numbers[0]))
                ids = ids_of(rows.X, self.model.columns, self.task.id_columns, rows.source)
                write({"row": np.arange(row, row + len(rows))} | renamed(ids, ["row", *scores]) | scores)
                row += len(rows)
        with atomic_write(digest_at(part), "w", encoding="utf-8") as file:
            file.write(digest_line(part))


def attempts_at(part: Path) -> Path:
    """The file that holds a byte for each attempt at a part that did not end."""
    return part.with_name(f".{part.name}.attempts")


def digest_at(part: Path) -> Path:
    """The file that holds the digest of a part; readers of parquet folders skip it."""
    return part.with_name(f"_{part.stem}.sha256")


def digest_line(part: Path) -> str:
    """A part's digest and name, as ``sha256sum`` prints them."""
    with open_regular(part) as file:
        return f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {part.name}\n"


def is_whole(part: Path) -> bool:
    """Whether a part and its digest are there, and go together."""
    return part.is_file() and digest_at(part).is_file() and not is_damaged(part)


def is_damaged(part: Path) -> bool:
    """Whether a part and its digest are there, but do not go together."""
    if not (part.is_file() and digest_at(part).is_file()):
        return False
    try:
        return read_data(digest_at(part), 1 << 10) != digest_line(part).encode()
    except (DataError, OSError):
        return True
