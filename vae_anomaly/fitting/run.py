r"""The state of a training, and its two moves: a step, and the end of an epoch.

*Loss.* For n scaled rows x of D features, with one latent draw :math:`z = \mu + \sigma \epsilon` each from the
posterior of the row with noise of standard deviation s added,

.. math::

    \mathcal L = \frac{1}{n D} \sum_x \big[ \mathrm{KL}(q(z | \tilde x) \,\|\, N(0, I)) - \log p(x | z) \big],
    \qquad \tilde x = x + s\, \xi, \quad \xi, \epsilon \sim N(0, I),

the negative ELBO per feature, so that one learning rate suits rows of any width. AdamW descends it.

*Variance.* A Gaussian likelihood's variance has its optimum in closed form, the mean squared residual, and is set
rather than descended to. Before the loss of step t is taken,

.. math::

    v \leftarrow (1 - w_t)\, v + w_t \frac{1}{nD} \sum_x \lVert x - \hat x \rVert^2

with the weight :math:`w_t` that `vae_anomaly.fitting.schedule` gives, as it gives the learning rate.

*Validation.* After each epoch the same ELBO, without noise on the input and with fixed latent draws, is taken of rows
that are not trained on. Its highest value decides which weights remain, and when to stop.

References
----------
Auto-Encoding Variational Bayes (Kingma & Welling, 2014), https://arxiv.org/abs/1312.6114
Simple and Effective VAE Training with Calibrated Decoders (Rybkin et al., 2021), https://arxiv.org/abs/2006.13202
Denoising Criterion for Variational Auto-Encoding Framework (Im et al., 2017), https://arxiv.org/abs/1511.06406
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from vae_anomaly.errors import TrainingError
from vae_anomaly.fitting.batches import Resident, shuffled
from vae_anomaly.fitting.captured_step import CapturedStep, GraphRecorder, HostTraffic, StepInputs
from vae_anomaly.fitting.distributed import current_ranks
from vae_anomaly.fitting.optimizer import AdamW
from vae_anomaly.fitting.schedule import is_over, trapezoid, variance_weight
from vae_anomaly.history import EpochRecord, best_epoch
from vae_anomaly.model.elbo import training_terms
from vae_anomaly.model.priors.standard_normal import kl_divergence
from vae_anomaly.model.vae import VAE
from vae_anomaly.scoring.blocks import by_block, rows_of_block
from vae_anomaly.scoring.transfer import is_gpu
from vae_anomaly.storage.rows import Rows

Scalar: TypeAlias = float | Tensor


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
        Its peak: that of all steps but the first tenth and the last three tenths.
    patience
        Epochs without a better validation ELBO after which training stops; those of the warm-up do not count.
    input_noise
        Standard deviation of the noise added to the encoder's input, in scaled units.
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
    """How far a run is: steps taken in all, the current epoch's order of the rows, and its sums of the two terms.

    The sums are on the device, and always in the same tensor.
    """

    taken: int
    order: Tensor
    totals: Tensor


class Run:
    """A training under way. Between two calls of its methods, `tensors` and `history` are its whole state.

    Parameters
    ----------
    vae, X, recipe, generator
        As `vae_anomaly.fitting.training.train` has them.
    """

    def __init__(self, vae: VAE, X: Rows, recipe: Recipe, generator: torch.Generator) -> None:
        self.vae, self.recipe, self.generator = vae, recipe, generator
        self.device, self.dtype = vae.scaling.loc.device, vae.scaling.loc.dtype
        self.rows, self.n_rows = shuffled(X, self.device), len(X)
        self.ranks = current_ranks()
        self.forward = self.ranks.data_parallel(vae)
        self.steps = math.ceil(len(X) / recipe.batch_size)  # an epoch
        self.optimizer = AdamW(vae.parameters())
        self.history: list[EpochRecord] = []
        self.best_epoch, self.best_state = 0, clone_state(vae)
        totals = torch.zeros(2, dtype=torch.float64, device=self.device)
        self.position = Position(0, torch.empty(0, dtype=torch.int64), totals)
        self.schedule: tuple[int, Tensor, Tensor] | None = None  # of an epoch, on a GPU
        self.captured: CapturedStep | None = None
        if isinstance(self.rows, Resident) and self.ranks.size == 1:
            self.captured = CapturedStep(GraphRecorder(self.device, generator))

    @property
    def steps_into_epoch(self) -> int:
        """Steps taken since the last epoch in `history` ended."""
        return self.position.taken - len(self.history) * self.steps

    @property
    def rows_done(self) -> int:
        """Rows taken in all epochs together."""
        return len(self.history) * self.n_rows + min(self.n_rows, self.steps_into_epoch * self.recipe.batch_size)

    @property
    def finished(self) -> bool:
        """Whether all epochs are over, or too many went by without a better one."""
        recipe = self.recipe
        return is_over(len(self.history), self.best_epoch, epochs=recipe.epochs, patience=recipe.patience)

    def learning_rate(self, step: int) -> float:
        """Of a step, counted from 0."""
        return self.recipe.learning_rate * trapezoid(step, self.steps * self.recipe.epochs)

    def step(self) -> int:
        """Take one step on the next batch, in a new order of the rows where an epoch begins.

        Returns
        -------
        int
            Rows in the batch, those of all ranks together.
        """
        start = self.steps_into_epoch * self.recipe.batch_size
        if start == 0:
            self.position.totals.zero_()
            self.position = self.position._replace(order=self.rows.order(self.generator))
        taken, order, _ = self.position
        n = min(self.recipe.batch_size, self.n_rows - start)
        if self.captured is not None and n == self.recipe.batch_size:
            assert isinstance(self.rows, Resident), "what can be captured"
            inputs = StepInputs(self.rows.places(order, start, start + n), *self.scalars_on_device())
            self.captured.take(self.descend_resident, inputs, self.obstacle)
        else:
            own = self.ranks.own_rows(start)
            raw = self.rows.batch(order, start + own.start, start + n, own.step)
            self.descend(raw, *self.scalars(), n, own)
        self.position = self.position._replace(taken=taken + 1)
        return n

    def scalars(self) -> tuple[Scalar, Scalar]:
        """Learning rate of the next step, and the weight of its batch in a variance; on a GPU tensors there."""
        if is_gpu(self.device):
            return self.scalars_on_device()
        return self.learning_rate(self.position.taken), variance_weight(self.position.taken)

    def scalars_on_device(self) -> tuple[Tensor, Tensor]:
        """The same as tensors ``()``, of which those of an epoch are sent to the device at once."""
        epoch = len(self.history)
        if self.schedule is None or self.schedule[0] != epoch:
            steps = range(epoch * self.steps, (epoch + 1) * self.steps)
            rates = torch.tensor([self.learning_rate(step) for step in steps], dtype=torch.float32)
            weights = torch.tensor([variance_weight(step) for step in steps], dtype=self.dtype)
            self.schedule = epoch, rates.to(self.device), weights.to(self.device)
        _, rates, weights = self.schedule
        return rates[self.steps_into_epoch], weights[self.steps_into_epoch]

    def descend_resident(self, inputs: StepInputs) -> None:
        """`descend` on rows that are on the device."""
        assert isinstance(self.rows, Resident), "what can be captured"
        places, learning_rate, variance_weight = inputs
        self.descend(self.rows.rows[places], learning_rate, variance_weight, len(places), slice(None))

    def descend(self, raw: Tensor, learning_rate: Scalar, variance_weight: Scalar, n: int, own: slice) -> None:
        """Move weights, moments and buffers by the loss of a batch, and add its terms to the epoch's sums, in place.

        No number goes to or comes from the host, so that the work can be captured.

        Parameters
        ----------
        raw
            This rank's rows of the batch, ``(m, D)``.
        learning_rate, variance_weight
            As `scalars` gives them.
        n
            Rows in the batch.
        own
            Which of them are this rank's.
        """
        x = self.vae.scaling(raw.to(self.dtype))
        corrupted = x
        if self.recipe.input_noise:
            corrupted = torch.add(x, self.randn(n, x.shape[1])[own], alpha=self.recipe.input_noise)
        reconstruction, kl = self.forward(partial(self.terms, x, corrupted, variance_weight, n, own))
        loss = self.ranks.batch_mean(kl - reconstruction, n) / x.shape[1]
        try:
            loss.backward()
            self.optimizer.step(learning_rate)
        except RuntimeError:
            self.optimizer.drop_gradients()  # those of a capture that failed lie in memory of its own
            raise
        sums = torch.stack([reconstruction.detach().sum(), kl.detach().sum()])
        self.position.totals.add_(self.ranks.sum_over_ranks(sums))

    def obstacle(self, step: Callable[[], None]) -> str | None:
        """What keeps a step from being captured, found by one that is undone; None if nothing does."""
        before = {name: value.clone() for name, value in self.tensors().items()}
        places = [value.data_ptr() for value in self.vae.state_dict().values()]
        with HostTraffic() as traffic:  # type: ignore[no-untyped-call]  # of PyTorch's
            step()
        moved = places != [value.data_ptr() for value in self.vae.state_dict().values()]
        self.restore(before, self.history, self.position.taken)
        return traffic.found or ("it puts new tensors in the place of buffers" if moved else None)

    def terms(self, x: Tensor, corrupted: Tensor, variance_weight: Scalar, n: int, own: slice) -> tuple[Tensor, Tensor]:
        """Reconstruction and KL term of this rank's rows of a batch of ``n``; first the likelihood learns from them."""
        vae = self.vae
        in_bfloat16 = self.recipe.precision == "bfloat16"
        # a cache would outlive the step within an autocast of the caller's, and a capture would read old weights there
        with torch.autocast(self.device.type, torch.bfloat16, enabled=in_bfloat16, cache_enabled=False):
            posterior = vae.encode(corrupted)
            eps = self.randn(n, posterior.mu.shape[1])[own]
            decoded = vae.decode(vae.rsample(posterior, eps))
        if self.ranks.size == 1:
            return vae.likelihood.learn(x, decoded, variance_weight), kl_divergence(posterior)
        if len(x):
            vae.likelihood.learn(x, decoded.detach(), variance_weight)
        self.ranks.average_buffers(vae.likelihood, len(x) / n)
        return vae.likelihood.training_log_prob(x, decoded), kl_divergence(posterior)

    def randn(self, *shape: int) -> Tensor:
        """Standard normal numbers from the run's generator, the same on all ranks."""
        return torch.randn(shape, generator=self.generator, device=self.device, dtype=self.dtype)

    def end_epoch(self, X_validation: np.ndarray, noise: Tensor) -> EpochRecord:
        """Validate, and keep the weights if they are the best so far.

        Raises
        ------
        TrainingError
            If the loss is no longer finite.
        """
        epoch = len(self.history) + 1
        reconstruction, kl = (self.position.totals / self.n_rows).tolist()
        n_blocks = math.ceil(len(X_validation) / rows_of_block(self.vae, X_validation.shape[1], len(noise)))
        block_rows = math.ceil(len(X_validation) / n_blocks)  # nothing to fill up
        terms = by_block(self.vae, X_validation, lambda x: training_terms(self.vae, x, noise), block_rows)
        validation = self.ranks.broadcast_from_first([float(term.mean(dtype=np.float64)) for term in terms])
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
        """The run's state, without `history` and the number of steps taken."""
        tensors = {f"vae.{name}": value for name, value in self.vae.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best_state.items()}
        tensors |= self.optimizer.tensors()
        return tensors | {
            "generator": self.generator.get_state(),
            "order": self.position.order,
            "totals": self.position.totals,
        }

    def restore(self, tensors: dict[str, Tensor], history: list[EpochRecord], taken: int) -> None:
        """Take on the state that another run was in; the tensors are copied, weights and sums to where they were."""
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
        self.position.totals.copy_(tensors["totals"])
        self.position = Position(taken, tensors["order"].clone(), self.position.totals)


def clone_state(vae: VAE) -> dict[str, Tensor]:
    """A copy of weights and buffers."""
    return {name: value.clone() for name, value in vae.state_dict().items()}
