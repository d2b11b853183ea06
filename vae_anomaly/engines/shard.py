"""The function of a shard: read its rows, score them, write its part; the same on every engine.

It is idempotent: a part appears whole or not at all, a second call finds it and does nothing, and of two that run side
by side either's part is the same to the bit. So an engine may call it again whenever it is in doubt.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from vae_anomaly.datasets import rows_at
from vae_anomaly.engines.manifest import Shard
from vae_anomaly.errors import DataError, ModelFileError
from vae_anomaly.scoring import BLOCK_ROWS
from vae_anomaly.storage.safe_reading import printable
from vae_anomaly.storage.score_table import open_score_table

CHUNK_BYTES = 32 << 20  # of rows in double precision, held at a time
MOST_ATTEMPTS = 5  # that may die on one shard before it is left alone


class Task(NamedTuple):
    """What to score with and where the parts go; nothing but text, so that any engine can carry it.

    Parameters
    ----------
    model, digest
        The model file, and its SHA-256: every worker reads the same.
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
    """Scores shards one after the other, with a model that is loaded once; for a worker's process alone.

    The process computes with one thread from now on: several workers of several threads each starve each other.

    Raises
    ------
    ModelFileError
        If the model is another than the task's, or none.
    """

    def __init__(self, task: Task) -> None:
        import torch

        from vae_anomaly.fitted_model import FittedModel

        torch.set_num_threads(1)
        self.task = task
        self.model = FittedModel.load(task.model, device=task.device).using(task.score)
        if file_digest(Path(task.model)) != task.digest:
            raise ModelFileError(f"{task.model} is another model than the one that the run began with")

    def __call__(self, shard: Shard) -> dict[str, Any]:
        """A record: the shard's number, and why it has no part, or None; never raises an exception."""
        part = Path(self.task.output, shard.part)
        attempts = attempts_at(part)
        error = None
        try:
            if not is_whole(part, shard.n_rows):
                with attempts.open("ab") as file:
                    file.write(b".")
                    n_attempts = file.tell()
                if n_attempts > MOST_ATTEMPTS:
                    error = f"its worker died {MOST_ATTEMPTS} times"
                else:
                    self.write(shard, part)
            attempts.unlink(missing_ok=True)
        except Exception as caught:
            attempts.unlink(missing_ok=True)
            error = f"{'' if isinstance(caught, DataError | OSError) else f'{type(caught).__name__}: '}{caught}"
        return {"number": shard.number, "error": error if error is None else printable(error)}

    def write(self, shard: Shard, part: Path) -> None:
        """Score the rows, a piece at a time."""
        import numpy as np

        step = max(1, CHUNK_BYTES // (8 * self.model.n_features * BLOCK_ROWS)) * BLOCK_ROWS
        row = shard.start
        with open_score_table(part) as write:
            for rows in rows_at(shard.location, shard.first_row, shard.n_rows, step, self.task.label_column):
                scores = self.model.score_table(rows.X, rows.feature_names)
                write({"index": np.arange(row, row + len(rows))} | scores)
                row += len(rows)


def attempts_at(part: Path) -> Path:
    """Holds a byte for each attempt at a part that has not ended."""
    return part.with_name(f".{part.name}.attempts")


def is_whole(part: Path, n_rows: int) -> bool:
    """Whether a part is there, with as many rows."""
    import pyarrow.parquet as pq

    if not part.is_file():
        return False
    try:
        found: int = pq.read_metadata(part).num_rows
    except Exception:  # whatever a damaged one makes of the parser
        return False
    return found == n_rows


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
