"""Checkpoints: what a fit that was killed goes on from.

A checkpoint is everything that the next training step depends on, written between two steps, beside an *identity*:
what decides which fit this is (the rows' hash, the parameters, the seed, the device, the libraries' versions). Going on
from it gives the weights of a fit that was never interrupted, to the bit; so only a fit of the same identity may.

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
from vae_anomaly.storage.safe_reading import loads

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
        What decides which fit this is; anything JSON can hold.
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
        self.identity = canonical(identity | {"checkpoint format": FORMAT_VERSION})
        self.resume = resume
        self.newest: Path | None = None
        self.written = time.monotonic()
        if not resume:
            refuse_existing(folder)
        folder.mkdir(parents=True, exist_ok=True)

    def due(self) -> bool:
        """Whether the interval has passed since the last one."""
        return time.monotonic() - self.written >= self.interval

    def latest(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and description of the newest whole checkpoint; None if there is none, or none is wanted.

        Raises
        ------
        CheckpointError
            If it is of another fit, or all there are are damaged.
        """
        error: ModelFileError | None = None
        for path in found(self.folder) if self.resume else []:
            try:
                tensors, config = model_file.read(path, kind="checkpoint")
            except ModelFileError as unreadable:
                error = unreadable
                continue
            if error is not None:
                warnings.warn(f"{error}; going on from the one before, {path.name}", CheckpointWarning, stacklevel=2)
            self.check_identity(config["identity"], config["versions"])
            self.newest = path
            return tensors, config["state"]
        if error is not None:
            raise CheckpointError(f"{error}, and no other is whole: to begin anew, empty {self.folder}") from error
        return None

    def check_identity(self, identity: dict[str, Any], versions: dict[str, str]) -> None:
        """Refuse a checkpoint of another fit, and say what differs."""
        theirs, ours = versions | identity, model_file.versions() | self.identity
        differences = [
            "the training rows" if name == "data" else f"{name} ({theirs.get(name)!r} there, {ours.get(name)!r} here)"
            for name in sorted(theirs.keys() | ours.keys())
            if theirs.get(name) != ours.get(name)
        ]
        if differences:
            raise CheckpointError(
                f"{self.folder} holds a checkpoint of another fit, which differs in {', '.join(differences)}: "
                "make these the same, or use another folder"
            )

    def write(self, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Add a checkpoint and leave no other but the one before; does nothing if this step has one.

        Raises
        ------
        OSError
            If it cannot be written; the one before is untouched.
        """
        path = self.folder / f"{step:012d}{SUFFIX}"
        if path == self.newest:
            return
        model_file.write(path, tensors, {"identity": self.identity, "state": state}, "checkpoint")
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
    """Delete the folder's checkpoints, and what writing one has left behind when it was killed; the folder stays."""
    for path in [*found(folder), *folder.glob(f".*{SUFFIX}.*.part")]:
        if path not in keep:
            path.unlink(missing_ok=True)


def canonical(identity: dict[str, Any]) -> dict[str, Any]:
    """As it comes back from a file."""
    result: dict[str, Any] = loads(model_file.dumps(identity))
    return result
