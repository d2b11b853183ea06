"""One plain training loop: shuffled batches, AdamW with warm-up and cosine decay, early stopping, best weights.

References
----------
Decoupled Weight Decay Regularization (Loshchilov & Hutter, 2019), https://arxiv.org/abs/1711.05101
Denoising Criterion for Variational Auto-Encoding Framework (Im et al., 2017), https://arxiv.org/abs/1511.06406
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vae_anomaly.errors import TrainingError
from vae_anomaly.objectives import training_terms
from vae_anomaly.priors import kl_divergence
from vae_anomaly.scores import BLOCK_ROWS, by_block
from vae_anomaly.vae import VAE


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
    """

    epochs: int
    batch_size: int
    learning_rate: float
    patience: int
    input_noise: float


def train(
    vae: VAE,
    X: np.ndarray,
    X_validation: np.ndarray,
    recipe: Recipe,
    noise: Tensor,
    generator: torch.Generator,
    *,
    progress: bool = False,
) -> list[EpochRecord]:
    """Fit ``vae`` in place and leave it with the weights of its best epoch.

    Parameters
    ----------
    vae
        Initialised, on its device, in the precision to train in.
    X, X_validation
        Raw rows ``(N, D)``. The second set stops the training and picks the epoch.
    noise
        Latent draws ``(K, 1, latent_dim)`` for the validation ELBO.
    generator
        Source of every random number; lives on the model's device.
    progress
        Show a bar with the ELBO's two terms on stderr, on a terminal only.

    Returns
    -------
    list of EpochRecord
        One record an epoch, oldest first.

    Raises
    ------
    TrainingError
        If the loss is no longer finite.
    """
    steps = math.ceil(len(X) / recipe.batch_size)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=recipe.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step, steps * recipe.epochs))
    history: list[EpochRecord] = []
    best, best_state, best_epoch = -math.inf, clone_state(vae), 0
    with tqdm(
        total=recipe.epochs, desc="training", unit="epoch", disable=None if progress else True, leave=False
    ) as bar:
        for epoch in range(1, recipe.epochs + 1):
            learning_rate = float(schedule.get_last_lr()[0])
            reconstruction, kl = train_epoch(vae, X, recipe, optimizer, schedule, generator, epoch)
            block_rows = min(len(X_validation), BLOCK_ROWS)
            terms = by_block(vae, X_validation, lambda x: training_terms(vae, x, noise), block_rows)
            validation = [float(term.mean(dtype=np.float64)) for term in terms]
            if not math.isfinite(reconstruction - kl + validation[0] - validation[1]):
                raise TrainingError(
                    f"the loss is no longer finite in epoch {epoch} (reconstruction {reconstruction}, KL {kl}): "
                    f"lower learning_rate (now {recipe.learning_rate}), or look for extreme values in the data"
                )
            history.append(
                EpochRecord(
                    epoch=epoch,
                    learning_rate=learning_rate,
                    reconstruction=reconstruction,
                    kl=kl,
                    validation_reconstruction=validation[0],
                    validation_kl=validation[1],
                )
            )
            bar.set_postfix_str(
                f"reconstruction {reconstruction:.1f}, KL {kl:.1f}, validation ELBO {validation[0] - validation[1]:.1f}"
            )
            bar.update()
            if validation[0] - validation[1] > best:
                best, best_state, best_epoch = validation[0] - validation[1], clone_state(vae), epoch
            elif epoch - max(best_epoch, recipe.epochs // 10) >= recipe.patience:
                break
    vae.load_state_dict(best_state)
    return history


def train_epoch(
    vae: VAE,
    X: np.ndarray,
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    generator: torch.Generator,
    epoch: int,
) -> tuple[float, float]:
    """One pass over the rows in a new order; returns the mean reconstruction and KL terms."""
    device, dtype = vae.scaling.loc.device, vae.scaling.loc.dtype
    order = torch.randperm(len(X), generator=generator, device=device).cpu().numpy()
    totals = torch.zeros(2, dtype=torch.float64, device=device)
    for start in range(0, len(X), recipe.batch_size):
        x = vae.scaling(torch.from_numpy(X[order[start : start + recipe.batch_size]]).to(device, dtype))
        corrupted = x
        if recipe.input_noise:
            corrupted = x + recipe.input_noise * torch.randn(x.shape, generator=generator, device=device, dtype=dtype)
        posterior = vae.encode(corrupted)
        eps = torch.randn(posterior.mu.shape, generator=generator, device=device, dtype=dtype)
        decoded = vae.decode(vae.rsample(posterior, eps))
        step = (epoch - 1) * math.ceil(len(X) / recipe.batch_size) + start // recipe.batch_size + 1
        vae.likelihood.observe(x, decoded, max(1 / step, 0.02))
        reconstruction, kl = vae.likelihood.training_log_prob(x, decoded), kl_divergence(posterior)
        loss = (kl - reconstruction).mean() / x.shape[1]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        totals += torch.stack([reconstruction.detach().sum(), kl.detach().sum()])
    mean = (totals / len(X)).tolist()
    return mean[0], mean[1]


def warmup_cosine(step: int, total: int) -> float:
    """Factor on the learning rate: linear over the first tenth of the steps, then a half cosine to zero."""
    warmup = max(1, total // 10)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def clone_state(vae: VAE) -> dict[str, Tensor]:
    """A copy of weights and buffers."""
    return {name: value.clone() for name, value in vae.state_dict().items()}
