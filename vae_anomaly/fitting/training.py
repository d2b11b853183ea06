"""One plain training loop: shuffled batches, AdamW, early stopping, the weights of the best epoch, checkpoints.

`vae_anomaly.fitting.run` has the loss and what a step does, `vae_anomaly.fitting.schedule` the learning rate and the
rule for stopping. Here is the loop around them, and what makes it safe to interrupt.

References
----------
Decoupled Weight Decay Regularization (Loshchilov & Hutter, 2019), https://arxiv.org/abs/1711.05101
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event

import numpy as np
import torch
from torch import Tensor

from vae_anomaly.fitting.checkpoints import Checkpoints
from vae_anomaly.fitting.precision import denormals_flushed
from vae_anomaly.fitting.run import Recipe, Run
from vae_anomaly.history import EpochRecord, validation_elbo
from vae_anomaly.model.vae import VAE
from vae_anomaly.progress import phase, progress_bar
from vae_anomaly.storage.rows import Rows

SECONDS_TO_STOP = 1.0  # after which an interrupted fit says what it waits for


def train(
    vae: VAE,
    X: Rows,
    X_validation: np.ndarray,
    recipe: Recipe,
    noise: Tensor,
    generator: torch.Generator,
    *,
    progress: bool = False,
    checkpoints: Checkpoints | None = None,
) -> list[EpochRecord]:
    """Fit ``vae`` in place and leave it with the weights of its best epoch.

    Parameters
    ----------
    vae
        Initialised, on its device, in the precision to train in.
    X, X_validation
        Raw rows ``(N, D)``, the first perhaps on disk. The second set stops the training and picks the epoch.
    recipe
        How to train.
    noise
        Latent draws ``(K, 1, latent_dim)`` for the validation ELBO.
    generator
        Source of every random number; lives on the model's device.
    progress
        Show progress with the ELBO's two terms on stderr.
    checkpoints
        What to continue from, and where to write to: at its interval, at the end, and when interrupted.

    Returns
    -------
    list of EpochRecord
        One record an epoch, oldest first.

    Raises
    ------
    TrainingError
        If the loss is no longer finite.
    CheckpointError
        If the newest checkpoint is of another fit, or none is whole.
    KeyboardInterrupt
        If interrupted; where there are checkpoints, only once the step under way is done and written.
    """
    run = Run(vae, X, recipe, generator)
    if checkpoints is not None and (checkpoint := checkpoints.latest()) is not None:
        tensors, state = checkpoint
        run.restore(tensors, **state)
    loop = partial(finish, run, X_validation, noise, checkpoints, progress=progress)
    if checkpoints is None:
        loop(Event())
    else:
        uninterrupted(loop)
    vae.load_state_dict(run.best_state)
    return run.history


def finish(
    run: Run, X_validation: np.ndarray, noise: Tensor, checkpoints: Checkpoints | None, stop: Event, *, progress: bool
) -> None:
    """Train until the run is finished, or any rank is asked to stop; then write a checkpoint, if there are any."""
    total = run.recipe.epochs * run.n_rows
    with progress_bar("training", total, done=run.rows_done, shown=progress) as bar, denormals_flushed():
        (stopped,) = run.ranks.true_on_any([stop.is_set()])
        while not (run.finished or stopped):
            if run.steps_into_epoch < run.steps:
                bar.update(run.step())
            else:
                bar.set_postfix_str(described(run.end_epoch(X_validation, noise)))
            is_due = checkpoints is not None and checkpoints.due()
            is_due, stopped = run.ranks.true_on_any([is_due, stop.is_set()])
            if is_due:
                save(run, checkpoints)
    save(run, checkpoints)


def save(run: Run, checkpoints: Checkpoints | None) -> None:
    """Write a checkpoint, if there are any; of several ranks only the first does."""
    if checkpoints is not None and run.ranks.rank == 0:
        taken = run.position.taken
        checkpoints.write(taken, run.tensors(), {"history": run.history, "taken": taken})


def uninterrupted(loop: Callable[[Event], None]) -> None:
    """Run ``loop`` where no KeyboardInterrupt can cut it between two statements: in a thread of its own.

    The interrupt reaches this thread instead, which asks the loop to stop, waits until it has, and passes it on.
    """
    stop = Event()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()  # starts the thread: only one that has started is sure to be waited for
        try:
            pool.submit(loop, stop).result()
        except KeyboardInterrupt:
            stop.set()
            with phase("finishing the training step and writing a checkpoint", after=SECONDS_TO_STOP):
                pool.shutdown()
            raise
        finally:
            stop.set()


def described(record: EpochRecord) -> str:
    """An epoch in a few words."""
    return (
        f"epoch {record['epoch']}: reconstruction {record['reconstruction']:.1f}, KL {record['kl']:.1f}, "
        f"validation ELBO {validation_elbo(record):.1f}"
    )
