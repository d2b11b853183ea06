"""Checkpoints: the state from which a fit that was killed is resumed.

A checkpoint is everything that the next training step depends on, written between two steps, beside the identity of the
fit (the rows' hash, the parameters, the seed, the device, the libraries' versions). A fit that is resumed ends with the
weights of one that was never interrupted, to the bit; so only a fit of the same identity may resume.

The files are of the kind that `storage.model_file` writes: whole or not there, and with a hash. The last two are
kept, in case the newest is damaged all the same.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_anomaly.errors import CheckpointError, CheckpointWarning, ModelFileError
from vae_anomaly.storage import model_file
from vae_anomaly.storage.atomic import make_folder
from vae_anomaly.storage.run_identity import RunIdentity

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 1  # of what the training loop puts into a checkpoint
SUFFIX = ".checkpoint"


class Checkpoints:
    """The checkpoints of one fit, in a folder of their own.

    Parameters
    ----------
    folder
        Made if it is not there.
    interval
        Seconds between two of them.
    identity
        What the fit depends on, beside the libraries' versions; anything JSON can hold.
    resume
        Whether `latest` is wanted. If not, a folder with checkpoints is refused rather than overwritten.

    Raises
    ------
    CheckpointError
        If there are checkpoints and ``resume`` is false.
    OSError
        If the folder cannot be made.
    """

    def __init__(self, folder: Path, interval: float, identity: dict[str, Any], *, resume: bool) -> None:
        self.folder = folder
        self.interval = interval
        self.identity = RunIdentity(identity | model_file.versions() | {"checkpoint format": FORMAT_VERSION})
        self.resume = resume
        self.newest: Path | None = None
        self.written = time.monotonic()
        if not resume:
            refuse_existing(folder)
        make_folder(folder)

    def due(self) -> bool:
        """Whether the interval has passed since the last one."""
        return time.monotonic() - self.written >= self.interval

    def latest(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and description of the newest whole checkpoint; None if there is none, or none is wanted.

        Raises
        ------
        CheckpointError
            If it is of another fit, or every one is damaged.
        """
        error: ModelFileError | None = None
        for path in found(self.folder) if self.resume else []:
            try:
                tensors, config, _ = model_file.read(path, kind="checkpoint")
            except ModelFileError as unreadable:
                error = unreadable
                continue
            if error is not None:
                warnings.warn(f"{error}; going on from the one before, {path.name}", CheckpointWarning, stacklevel=2)
            self.identity.check(
                config["identity"], self.folder, "make these the same, or use another folder", CheckpointError
            )
            self.newest = path
            return tensors, config["state"]
        if error is not None:
            raise CheckpointError(f"{error}, and no other is whole: to begin anew, empty {self.folder}") from error
        return None

    def write(self, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Add a checkpoint and keep only the one before it; does nothing if this step has one.

        Raises
        ------
        OSError
            If it cannot be written; the one before is untouched.
        """
        path = self.folder / f"{step:012d}{SUFFIX}"
        if path == self.newest:
            return
        model_file.write(path, tensors, {"identity": self.identity.facts, "state": state}, "checkpoint")
        remove(self.folder, keep=(path, self.newest))
        self.newest = path
        self.written = time.monotonic()


def found(folder: Path) -> list[Path]:
    """Checkpoints in a folder, the newest first."""
    return sorted(folder.glob(f"*{SUFFIX}"), reverse=True)


def refuse_existing(folder: Path) -> None:
    """Raise `CheckpointError` if there are checkpoints, which a new fit would overwrite."""
    if found(folder):
        raise CheckpointError(
            f"{folder} holds the checkpoint of an unfinished fit: resume it (resume=True, or --resume on the command "
            "line), or use another folder"
        )


def remove(folder: Path, keep: tuple[Path | None, ...] = ()) -> None:
    """Delete the folder's checkpoints, and unfinished ones that a kill left behind; the folder stays."""
    for path in [*found(folder), *folder.glob(f".*{SUFFIX}.*.part")]:
        if path not in keep:
            path.unlink(missing_ok=True)
