"""Named scores, ``(vae, x, noise) -> (N,)`` in nats: higher is more normal.

A score is a function of its row alone. The latent draws are one fixed set of vectors, stored with the model and
shared by all rows; and rows go through the networks in blocks of one constant size, since the rounding of a
matrix product may depend on how many rows it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from vae_anomaly.objectives import elbo_terms, importance_weighted_bound, kl_divergence
from vae_anomaly.vae import VAE

BLOCK_ROWS = 512

Score: TypeAlias = Callable[[VAE, Tensor, Tensor], Tensor]


def elbo(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """Reconstruction term minus KL term: a lower bound on log p(x) (https://arxiv.org/abs/1312.6114).

    Subtracted in double precision, so that it equals the difference of the terms as anyone computes it.
    """
    reconstruction, kl = elbo_terms(vae, x, noise)
    return reconstruction.double() - kl.double()


def reconstruction(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """The ELBO's first term alone, E_q[log p(x|z)]."""
    return elbo_terms(vae, x, noise)[0]


def negative_kl(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """The ELBO's second term alone, with the sign that makes higher more normal."""
    return -kl_divergence(vae.encode(x))


SCORES: dict[str, Score] = {
    "elbo": elbo,
    "reconstruction": reconstruction,
    "kl": negative_kl,
    "importance_weighted": importance_weighted_bound,
}


def antithetic_noise(n_draws: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    """Latent draws ``(n_draws, 1, latent_dim)`` in pairs of opposite sign, which cancel every odd error term."""
    half = torch.randn((n_draws + 1) // 2, 1, latent_dim, generator=generator, dtype=torch.float64)
    return torch.cat([half, -half])[:n_draws]


def blocks(X: np.ndarray, dtype: torch.dtype, device: torch.device, block_rows: int) -> Iterator[tuple[slice, Tensor]]:
    """Rows ``(N, D)`` as tensors of exactly ``block_rows`` rows, the last one filled up with zeros."""
    buffer = np.zeros((block_rows, X.shape[1]), X.dtype)
    for start in range(0, len(X), block_rows):
        rows = slice(start, min(start + block_rows, len(X)))
        n = rows.stop - rows.start
        buffer[:n] = X[rows]
        buffer[n:] = 0
        yield rows, torch.from_numpy(buffer).to(device, dtype)


@torch.inference_mode()
def by_block(
    vae: VAE,
    X: np.ndarray,
    function: Callable[[Tensor], tuple[Tensor, ...]],
    block_rows: int = BLOCK_ROWS,
) -> tuple[np.ndarray, ...]:
    """Apply ``function``, scaled rows to per-row tensors, to all of ``X`` and gather its results.

    ``vae`` gives the scaling, the precision and the device. Only with the default ``block_rows`` does a row's result
    not depend on how many there are.
    """
    dtype, device = vae.scaling.loc.dtype, vae.scaling.loc.device
    gathered: list[list[np.ndarray]] = []
    for rows, block in blocks(X, dtype, device, block_rows):
        results = function(vae.scaling(block))
        gathered.append([result[: rows.stop - rows.start].cpu().numpy() for result in results])
    return tuple(np.concatenate(parts) for parts in zip(*gathered, strict=True))
