"""What is fitted after training, with the networks fixed: the prior, then the likelihood, then the scores' statistics.

References
----------
From Variational to Deterministic Autoencoders (Ghosh et al., 2020), https://arxiv.org/abs/1903.12436
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vae_anomaly.normals import MAX_ROWS, fit_normals
from vae_anomaly.priors import MAX_EXEMPLARS, MIXTURE_ROWS, Exemplars, fit_mixture
from vae_anomaly.rows import Rows, RowsOnDisk
from vae_anomaly.scores import by_block
from vae_anomaly.shuffling import drawn
from vae_anomaly.vae import VAE

ENOUGH_ROWS = 100
LIKELIHOOD_ROWS = 1000
MAX_VALUES = 50_000_000  # in one array, however large a row is


def settle(vae: VAE, X: Rows, X_held_out: np.ndarray, prior: str, noise: Tensor, generator: torch.Generator) -> None:
    """Fit ``vae.prior``, ``vae.likelihood`` and ``vae.normals`` in place.

    Parameters
    ----------
    vae
        Trained.
    X, X_held_out
        Raw rows ``(N, D)``: those trained on, perhaps on disk, and others. The second choose the number of components
        and fit the likelihood, if there are 100 of them; otherwise the first do. Exemplars come from both.
    prior
        "normal", "mixture" or "exemplars".
    noise
        Latent draws ``(K, 1, latent_dim)``.
    generator
        Chooses rows, on the CPU.
    """
    judges: Rows = X_held_out if len(X_held_out) >= ENOUGH_ROWS else X
    loc = vae.scaling.loc
    if prior == "mixture":
        rows = X[drawn(X, at_most(X, MIXTURE_ROWS), generator)]
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        mu, sigma = by_block(vae, rows, lambda x: vae.encode(x)[:2])
        held_out = by_block(vae, judges, lambda x: (vae.encode(x).mu,))[0]
        vae.prior = fit_mixture(mu, held_out, sigma, seed).to(loc.device, loc.dtype)
    elif prior == "exemplars":
        rows = drawn_of_both(X, X_held_out, MAX_EXEMPLARS, generator)
        results = by_block(vae, rows, lambda x: (vae.encode(x).mu, vae.reconstruct(x)))
        vae.prior = Exemplars(*(torch.from_numpy(result).to(loc.device) for result in results))

    def scaled(rows: Rows, most: int) -> Tensor:
        chosen = drawn(rows, min(at_most(rows, most), MAX_VALUES // rows.shape[1] + 1), generator)
        x: Tensor = vae.scaling(torch.from_numpy(rows[chosen]).to(loc.device, loc.dtype))
        return x

    with torch.no_grad():
        x = scaled(judges, LIKELIHOOD_ROWS)
        posterior = vae.prior.posterior(vae.encode(x))
        codes = posterior.mu / posterior.sigma.square().mean(dim=0).sqrt().clamp(min=1e-6)
        vae.likelihood.settle(x, vae.decode(vae.rsample(posterior, noise[0])), codes)
    vae.normals = fit_normals(vae, scaled(X, MAX_ROWS), x, noise, generator)


def drawn_of_both(X: Rows, X_held_out: np.ndarray, most: int, generator: torch.Generator) -> np.ndarray:
    """Up to ``most`` rows at random of the two sets, which are not brought together for it."""
    chosen = drawn(X, at_most(X, most), generator, more=len(X_held_out))
    rows = np.empty((len(chosen), X.shape[1]), X.dtype)
    first = chosen < len(X)
    rows[first], rows[~first] = X[chosen[first]], X_held_out[chosen[~first] - len(X)]
    return rows


def at_most(X: Rows, most: int) -> int:
    """How many rows to take into memory at once: fewer where large ones come from disk."""
    return X.most_held(most) if isinstance(X, RowsOnDisk) else most
