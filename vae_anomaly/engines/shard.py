"""What every engine does with a shard: read its rows, score them, write its part.

It is idempotent: a part appears whole or not at all, a second call finds it and does nothing, and two calls that run at
the same time write the same bits. So an engine may call it again whenever it is in doubt.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from vae_anomaly.datasets import rows_at
from vae_anomaly.engines.manifest import Shard
from vae_anomaly.errors import DataError, ModelFileError
from vae_anomaly.scoring import BLOCK_ROWS
from vae_anomaly.storage.safe_reading import printable
from vae_anomaly.storage.score_table import open_score_table

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
    """

    model: str
    digest: str
    output: str
    score: str
    device: str
    label_column: str | None


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
        self.model = model.using(task.score)

    def __call__(self, shard: Shard) -> dict[str, Any]:
        """Score a shard, and give a record: its number, and why it has no part, or None. Never raises an exception."""
        part = Path(self.task.output, shard.part)
        attempts = attempts_at(part)
        error = None
        try:
            if not is_whole(part, shard.n_rows):
                with attempts.open("ab") as file:
                    file.write(b".")
                    n_attempts = file.tell()
                if n_attempts > MAX_ATTEMPTS:
                    error = f"its worker died {MAX_ATTEMPTS} times"
                else:
                    self.write(shard, part)
            attempts.unlink(missing_ok=True)
        except Exception as caught:
            attempts.unlink(missing_ok=True)
            error = f"{'' if isinstance(caught, DataError | OSError) else f'{type(caught).__name__}: '}{caught}"
        return {"number": shard.number, "error": error if error is None else printable(error)}

    def write(self, shard: Shard, part: Path) -> None:
        """Score the rows, a chunk at a time."""
        import numpy as np

        step = max(1, CHUNK_BYTES // (8 * self.model.n_features * BLOCK_ROWS)) * BLOCK_ROWS
        row = shard.start
        with open_score_table(part) as write:
            for rows in rows_at(shard.location, shard.first_row, shard.n_rows, step, self.task.label_column):
                scores = self.model.score_table(rows.X, shard.location, shard.first_row + row - shard.start)
                write({"index": np.arange(row, row + len(rows))} | scores)
                row += len(rows)


def attempts_at(part: Path) -> Path:
    """The file that holds a byte for each attempt at a part that did not end."""
    return part.with_name(f".{part.name}.attempts")


def is_whole(part: Path, n_rows: int) -> bool:
    """Whether a part is there, with as many rows."""
    import pyarrow.parquet as pq

    if not part.is_file():
        return False
    try:
        found: int = pq.read_metadata(part).num_rows
    except Exception:  # a damaged file can make the parser raise anything
        return False
    return found == n_rows
