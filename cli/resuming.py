"""Fits that survive interruptions: checkpoints that a later command continues from, and workers of a Ray cluster."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from vae_anomaly.cli.options import typed_arguments

WORKER = "worker"  # click's `obj` in a command that a worker of a Ray cluster runs


@contextlib.contextmanager
def keeping_checkpoints(folder: Path | None, *, resume: bool, rank: int) -> Iterator[None]:
    """Prepare a folder for the checkpoints of the fit in the block, and remove them once the block has ended well.

    Of several ranks only the first prints, locks and removes. A KeyboardInterrupt gets a note with the command that
    goes on.

    Raises
    ------
    CheckpointError
        If another fit is at work in the folder, or it holds checkpoints and ``resume`` is false.
    """
    if folder is None:
        yield
        return
    from vae_anomaly.fitting import checkpoints

    with checkpoints.one_fit_in(folder):
        prepare(folder, resume=resume, rank=rank)
        try:
            yield
        except KeyboardInterrupt as interruption:
            command = shlex.join(["vae-anomaly", *arguments_to_resume()])
            found = checkpoints.found(folder)
            interruption.add_note(f"to go on: {command}" if found else "there was no checkpoint yet to go on from")
            raise


def prepare(folder: Path, *, resume: bool, rank: int) -> None:
    """Make a folder for checkpoints, if it can be written to and has none that are not wanted."""
    from vae_anomaly.fitting import checkpoints
    from vae_anomaly.storage.atomic import check_writable, make_folder

    if not resume:
        checkpoints.refuse_existing(folder)
    elif not rank and not checkpoints.found(folder):
        click.echo(f"note: {folder} holds no checkpoint: starting from the beginning", err=True)
    make_folder(folder)
    check_writable(folder / "probe")


def arguments_to_resume() -> list[str]:
    """The arguments of the running command, with --resume."""
    typed = typed_arguments()
    return typed if "--resume" in typed else [*typed, "--resume"]


def fit_on_ray(checkpoint_dir: Path, *, resume: bool, address: str | None, workers: int | None) -> str:
    """Run the command by workers; returns what it prints.

    When a worker dies, all of them go on from the newest checkpoint.
    """
    from vae_anomaly.engines.on_ray import train_on_ray
    from vae_anomaly.fitting import checkpoints
    from vae_anomaly.storage.atomic import make_folder

    if not resume:
        checkpoints.refuse_existing(checkpoint_dir)
    make_folder(checkpoint_dir)
    task = {"folder": os.getcwd(), "arguments": arguments_to_resume()}
    with contextlib.redirect_stdout(io.StringIO()):  # Ray prints a message for every worker that dies
        return train_on_ray(run_on_worker, task, workers, address, checkpoint_dir.absolute())


def run_on_worker(task: dict[str, Any]) -> str:
    """Run the command on one of several workers; returns what it prints.

    Raises
    ------
    EngineError
        If the command fails, with its message.
    """
    from vae_anomaly.cli import main
    from vae_anomaly.errors import EngineError

    os.chdir(task["folder"])
    with contextlib.redirect_stdout(io.StringIO()) as output:
        try:
            main(task["arguments"], standalone_mode=False, obj=WORKER)
        except click.ClickException as error:
            raise EngineError(error.message) from None
    return output.getvalue()


def is_worker() -> bool:
    """Whether this command is run by `run_on_worker`."""
    return bool(click.get_current_context().find_root().obj == WORKER)
