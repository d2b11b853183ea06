"""Checkpoints: the state from which a fit that was killed is resumed.

A checkpoint is everything that the next training step depends on, written between two steps, beside the identity of the
fit (the rows' hash, the parameters, the seed, the device, the libraries' versions). A fit that is resumed ends with the
weights of one that was never interrupted, to the bit; so only a fit of the same identity may resume.

The files are of the kind that `storage.model_file` writes: whole or not there, and with a hash. The last two are
kept, in case the newest is damaged all the same. `one_fit_in` locks the folder itself for the life of a fit. Nothing is
removed but what the header says is a checkpoint of the same fit, and unfinished files without a living writer.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_anomaly.errors import CheckpointError, CheckpointWarning, ModelFileError
from vae_anomaly.fitting.distributed import current_ranks
from vae_anomaly.storage import model_file
from vae_anomaly.storage.atomic import make_folder, remove_stale
from vae_anomaly.storage.locks import try_lock
from vae_anomaly.storage.run_identity import RunIdentity

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 2  # of what the training loop puts into a checkpoint, and of how it goes on
NAME = re.compile(r"\d{12}\.checkpoint")
PART = re.compile(rf"\.({NAME.pattern})\.[0-9a-f]{{8}}\.part")
LOCK_SECONDS = 3.0  # a fit that a cluster has just killed takes a moment to be gone


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
        Whether the fit goes on from `latest`. If not, a folder with checkpoints is refused rather than overwritten.

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
        """Tensors and description of the newest whole checkpoint; None if there is none, or ``resume`` is false.

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
            raise CheckpointError(f"{error}, and no other is whole: to start over, empty {self.folder}") from error
        return None

    def write(self, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Add a checkpoint and keep only the one before it; does nothing if this step has one.

        Raises
        ------
        OSError
            If it cannot be written; the one before is untouched.
        """
        path = self.folder / f"{step:012d}.checkpoint"
        if path == self.newest:
            return
        model_file.write(path, tensors, {"identity": self.identity.facts, "state": state}, "checkpoint")
        remove_of(self.identity.facts, self.folder, keep=(path, self.newest))
        self.newest = path
        self.written = time.monotonic()


@contextlib.contextmanager
def one_fit_in(folder: str | Path | None) -> Iterator[None]:
    """Keep other fits out of a folder for the block, and remove this one's checkpoints once it has ended well.

    The folder is made if it is not there, and stays; None: there is none. Of several ranks the first does all this.

    Raises
    ------
    CheckpointError
        If another fit is at work there.
    OSError
        If the folder cannot be made.
    """
    if folder is None or current_ranks().rank:
        yield
        return
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        if os.name == "posix":  # elsewhere a folder cannot be opened, and there are no such locks
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            give_up = time.monotonic() + LOCK_SECONDS
            while not try_lock(descriptor):
                if time.monotonic() >= give_up:
                    raise CheckpointError(f"another fit keeps its checkpoints in {folder} now: use another folder")
                time.sleep(0.05)
        yield
        remove_finished(folder)


def found(folder: Path) -> list[Path]:
    """Checkpoints in a folder, by their names, the newest first."""
    return sorted((path for path in folder.glob("*") if NAME.fullmatch(path.name)), reverse=True)


def refuse_existing(folder: Path) -> None:
    """Raise `CheckpointError` if there are checkpoints, which a new fit would overwrite."""
    if found(folder):
        raise CheckpointError(
            f"{folder} holds the checkpoint of an unfinished fit: resume it (resume=True, or --resume on the command "
            "line), or use another folder"
        )


def remove_finished(folder: Path) -> None:
    """Delete the checkpoints of the fit that has ended in a folder: it wrote the newest whole one."""
    for path in found(folder):
        with contextlib.suppress(ModelFileError, OSError):
            config, _ = model_file.read_config(path, "checkpoint")
            remove_of(config["identity"], folder)
            return


def remove_of(identity: dict[str, Any], folder: Path, keep: tuple[Path | None, ...] = ()) -> None:
    """Delete the checkpoints in a folder that state this identity, and unfinished ones that a kill left behind."""
    for path in found(folder):
        with contextlib.suppress(ModelFileError, OSError):  # not ours to remove, or gone
            if path not in keep and model_file.read_claim(path, "checkpoint").get("identity") == identity:
                path.unlink()
    for name in {match[1] for path in folder.glob(".*.part") if (match := PART.fullmatch(path.name))}:
        remove_stale(folder / name)
