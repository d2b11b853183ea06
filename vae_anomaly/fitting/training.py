"""One plain training loop: shuffled batches, AdamW with warm-up and cosine decay, early stopping, best weights.

References
----------
Decoupled Weight Decay Regularization (Loshchilov & Hutter, 2019), https://arxiv.org/abs/1711.05101
Denoising Criterion for Variational Auto-Encoding Framework (Im et al., 2017), https://arxiv.org/abs/1511.06406
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import NamedTuple, NoReturn, TypedDict

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vae_anomaly.errors import TrainingError
from vae_anomaly.fitting.batches import shuffled
from vae_anomaly.fitting.checkpoints import Checkpoints
from vae_anomaly.fitting.distributed import team
from vae_anomaly.fitting.optimizer import AdamW
from vae_anomaly.fitting.precision import denormals_flushed
from vae_anomaly.model.elbo import training_terms
from vae_anomaly.model.priors.standard_normal import kl_divergence
from vae_anomaly.model.vae import VAE
from vae_anomaly.scoring.scores import BLOCK_ROWS, by_block
from vae_anomaly.storage.rows import Rows


class EpochRecord(TypedDict):
    """One epoch of `history_`; all terms are means per sample, in nats."""

    epoch: int
    learning_rate: float
    reconstruction: float
    kl: float
    validation_reconstruction: float
    validation_kl: float


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train.

    Parameters
    ----------
    epochs
        Passes over the training rows, at most.
    batch_size
        Rows a step; fewer rows than that make one smaller batch.
    learning_rate
        Its peak, reached after the first tenth of the steps.
    patience
        Epochs without a better validation ELBO after which training stops; those of the warm-up do not count.
    input_noise
        Standard deviation of the noise added to the encoder's input, in scaled units (1511.06406).
    precision
        Of the products: "full", which is the model's, or "bfloat16".
    """

    epochs: int
    batch_size: int
    learning_rate: float
    patience: int
    input_noise: float
    precision: str = "full"


class Position(NamedTuple):
    """Where in an epoch a run is: steps taken since the beginning, order of the epoch's rows, sums of its two terms."""

    taken: int
    order: Tensor
    totals: Tensor


class Run:
    """A training under way; between two calls of its methods it is what `tensors` and `history` say.

    Parameters
    ----------
    vae, X, recipe, generator
        As `train` has them.
    """

    def __init__(self, vae: VAE, X: Rows, recipe: Recipe, generator: torch.Generator) -> None:
        self.vae, self.recipe, self.generator = vae, recipe, generator
        self.rows, self.n_rows = shuffled(X, vae.scaling.loc.device), len(X)
        self.team = team()
        self.parallel = self.team.parallel(vae)
        self.device, self.dtype = vae.scaling.loc.device, vae.scaling.loc.dtype
        self.steps = math.ceil(len(X) / recipe.batch_size)  # an epoch
        self.optimizer = AdamW(vae.parameters())
        self.history: list[EpochRecord] = []
        self.best_epoch, self.best_state = 0, clone_state(vae)
        self.position = Position(0, torch.empty(0, dtype=torch.int64), torch.zeros(2, dtype=torch.float64))

    @property
    def steps_into_epoch(self) -> int:
        """Steps taken since the last epoch in `history` ended."""
        return self.position.taken - len(self.history) * self.steps

    @property
    def finished(self) -> bool:
        """Whether all epochs are over, or too many went by without progress."""
        epochs = len(self.history)
        waited = epochs - max(self.best_epoch, self.recipe.epochs // 10)
        return epochs == self.recipe.epochs or waited >= self.recipe.patience

    def learning_rate(self, step: int) -> float:
        """Of a step, counted from 0."""
        return self.recipe.learning_rate * warmup_cosine(step, self.steps * self.recipe.epochs)

    def step(self) -> int:
        """Take one step on the next batch, in a new order of the rows where an epoch begins; how many rows it had."""
        vae, device, dtype, generator = self.vae, self.device, self.dtype, self.generator
        taken, order, totals = self.position
        start = self.steps_into_epoch * self.recipe.batch_size
        if start == 0:
            order = self.rows.order(generator)
            totals = torch.zeros(2, dtype=torch.float64, device=device)
        n = min(self.recipe.batch_size, self.n_rows - start)  # of all ranks; this one takes a part of them
        first, every = self.team.part(start)
        rows = self.rows.batch(order, start + first, start + n, every)
        x = vae.scaling(rows.to(dtype))
        corrupted = x
        if self.recipe.input_noise:
            noise = torch.randn((n, x.shape[1]), generator=generator, device=device, dtype=dtype)[first::every]
            corrupted = torch.add(x, noise, alpha=self.recipe.input_noise)

        def forward() -> tuple[Tensor, Tensor]:
            with torch.autocast(device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
                posterior = vae.encode(corrupted)
                shape = n, posterior.mu.shape[1]
                eps = torch.randn(shape, generator=generator, device=device, dtype=dtype)[first::every]
                decoded = vae.decode(vae.rsample(posterior, eps))
            weight = max(1 / (taken + 1), 0.02)
            if self.team.size == 1:
                return vae.likelihood.learn(x, decoded, weight), kl_divergence(posterior)
            if len(x):
                vae.likelihood.learn(x, decoded.detach(), weight)
            self.team.share_buffers(vae.likelihood, len(x) / n)
            return vae.likelihood.training_log_prob(x, decoded), kl_divergence(posterior)

        reconstruction, kl = self.parallel(forward)
        loss = self.team.mean(kl - reconstruction, n) / x.shape[1]
        loss.backward()
        self.optimizer.step(self.learning_rate(taken))
        totals = totals + self.team.summed(torch.stack([reconstruction.detach().sum(), kl.detach().sum()]))
        self.position = Position(taken + 1, order, totals)
        return n

    def end_epoch(self, X_validation: np.ndarray, noise: Tensor) -> EpochRecord:
        """Validate, and keep the weights if they are the best so far."""
        epoch = len(self.history) + 1
        reconstruction, kl = (self.position.totals / self.n_rows).tolist()
        block_rows = min(len(X_validation), BLOCK_ROWS)
        terms = by_block(self.vae, X_validation, lambda x: training_terms(self.vae, x, noise), block_rows)
        validation = self.team.of_first([float(term.mean(dtype=np.float64)) for term in terms])
        if not math.isfinite(reconstruction - kl + validation[0] - validation[1]):
            raise TrainingError(
                f"the loss is no longer finite in epoch {epoch} (reconstruction {reconstruction}, KL {kl}): "
                f"lower learning_rate (now {self.recipe.learning_rate}), or look for extreme values in the data"
            )
        record = EpochRecord(
            epoch=epoch,
            learning_rate=self.learning_rate((epoch - 1) * self.steps),
            reconstruction=reconstruction,
            kl=kl,
            validation_reconstruction=validation[0],
            validation_kl=validation[1],
        )
        self.history.append(record)
        if best_epoch(self.history) == epoch:
            self.best_epoch, self.best_state = epoch, clone_state(self.vae)
        return record

    def tensors(self) -> dict[str, Tensor]:
        """The run's state, but for `history`."""
        tensors = {f"vae.{name}": value for name, value in self.vae.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best_state.items()}
        generator = {"generator": self.generator.get_state()}
        return (
            tensors
            | self.optimizer.tensors()
            | generator
            | {"order": self.position.order, "totals": self.position.totals}
        )

    def restore(self, tensors: dict[str, Tensor], history: list[EpochRecord], taken: int) -> None:
        """Take on the state that another run was in; the tensors are copied."""
        state: dict[str, dict[str, Tensor]] = {"vae": {}, "best": {}}
        for name, value in tensors.items():
            part, _, key = name.partition(".")
            if part in state:
                state[part][key] = value.to(self.device, copy=True)
        self.vae.load_state_dict(state["vae"])
        self.best_epoch, self.best_state = best_epoch(history), state["best"]
        self.optimizer.restore(tensors, taken)
        self.generator.set_state(tensors["generator"])
        self.history = history
        self.position = Position(taken, tensors["order"].clone(), tensors["totals"].to(self.device, copy=True))


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
    noise
        Latent draws ``(K, 1, latent_dim)`` for the validation ELBO.
    generator
        Source of every random number; lives on the model's device.
    progress
        Show a bar with the ELBO's two terms on stderr, on a terminal only.
    checkpoints
        Where to go on from, and where to write to: at its interval, at the end, and when interrupted.

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

    def save() -> None:
        if checkpoints is not None and run.team.rank == 0:
            checkpoints.write(run.position.taken, run.tensors(), {"history": run.history, "taken": run.position.taken})

    def loop(stop: Event) -> None:
        with row_bar(run, progress) as bar, denormals_flushed():
            (stopped,) = run.team.any_of(stop.is_set())
            while not (run.finished or stopped):
                if run.steps_into_epoch < run.steps:
                    bar.update(run.step())
                else:
                    bar.set_postfix_str(described(run.end_epoch(X_validation, noise)))
                due = checkpoints is not None and checkpoints.due()
                due, stopped = run.team.any_of(due, stop.is_set())
                if due:
                    save()
        save()

    if checkpoints is None:
        loop(Event())
    else:
        uninterrupted(loop)
    vae.load_state_dict(run.best_state)
    return run.history


def uninterrupted(loop: Callable[[Event], None]) -> None:
    """Run ``loop`` where no KeyboardInterrupt can cut it between two statements: in a thread of its own.

    The interrupt reaches this thread instead, which asks the loop to stop, waits until it has, and passes it on.
    """
    stop = Event()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()  # starts the thread: only one that has started is sure to be waited for
        try:
            pool.submit(loop, stop).result()
        finally:
            stop.set()


def row_bar(run: Run, progress: bool) -> tqdm[NoReturn]:
    """A progress bar over the rows of all epochs, with rows a second and the time left."""
    epochs, n = run.recipe.epochs, run.n_rows
    done = len(run.history) * n + min(n, run.steps_into_epoch * run.recipe.batch_size)
    quiet = None if progress else True
    return tqdm(
        total=epochs * n, initial=done, desc="training", unit=" rows", unit_scale=True, disable=quiet, leave=False
    )


def described(record: EpochRecord) -> str:
    """An epoch in a few words."""
    return (
        f"epoch {record['epoch']}: reconstruction {record['reconstruction']:.1f}, KL {record['kl']:.1f}, "
        f"validation ELBO {validation_elbo(record):.1f}"
    )


def validation_elbo(record: EpochRecord) -> float:
    """What picks the epoch, in nats a sample."""
    return record["validation_reconstruction"] - record["validation_kl"]


def best_epoch(history: list[EpochRecord]) -> int:
    """The first, counted from 1, of the highest validation ELBO; 0 if there is none."""
    return 1 + max(range(len(history)), key=lambda i: validation_elbo(history[i]), default=-1)


def warmup_cosine(step: int, total: int) -> float:
    """Factor on the learning rate: linear over the first tenth of the steps, then a half cosine to zero."""
    warmup = max(1, total // 10)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def clone_state(vae: VAE) -> dict[str, Tensor]:
    """A copy of weights and buffers."""
    return {name: value.clone() for name, value in vae.state_dict().items()}
