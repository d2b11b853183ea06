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
from vae_anomaly.scores import by_block
from vae_anomaly.vae import VAE

ENOUGH_ROWS = 100
LIKELIHOOD_ROWS = 1000
MAX_VALUES = 50_000_000  # in one array, however large a row is


def settle(
    vae: VAE, X: np.ndarray, X_held_out: np.ndarray, prior: str, noise: Tensor, generator: torch.Generator
) -> None:
    """Fit ``vae.prior``, ``vae.likelihood`` and ``vae.normals`` in place.

    Parameters
    ----------
    vae
        Trained.
    X, X_held_out
        Raw rows ``(N, D)``: those trained on, and others. The second choose the number of components and fit the
        likelihood, if there are 100 of them; otherwise the first do. Exemplars come from both.
    prior
        "normal", "mixture" or "exemplars".
    noise
        Latent draws ``(K, 1, latent_dim)``.
    generator
        Chooses rows, on the CPU.
    """
    known = np.concatenate([X, X_held_out]) if prior == "exemplars" else X
    if len(X_held_out) < ENOUGH_ROWS:
        X_held_out = X
    loc = vae.scaling.loc
    if prior == "mixture":
        rows = X[torch.randperm(len(X), generator=generator)[:MIXTURE_ROWS].numpy()]
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        mu, sigma = by_block(vae, rows, lambda x: vae.encode(x)[:2])
        held_out = by_block(vae, X_held_out, lambda x: (vae.encode(x).mu,))[0]
        vae.prior = fit_mixture(mu, held_out, sigma, seed).to(loc.device, loc.dtype)
    elif prior == "exemplars":
        rows = known[torch.randperm(len(known), generator=generator)[:MAX_EXEMPLARS].numpy()]
        results = by_block(vae, rows, lambda x: (vae.encode(x).mu, vae.reconstruct(x)))
        vae.prior = Exemplars(*(torch.from_numpy(result).to(loc.device) for result in results))

    def scaled(rows: np.ndarray, most: int) -> Tensor:
        chosen = torch.randperm(len(rows), generator=generator)[: min(most, MAX_VALUES // rows.shape[1] + 1)]
        x: Tensor = vae.scaling(torch.from_numpy(rows[chosen.numpy()]).to(loc.device, loc.dtype))
        return x

    with torch.no_grad():
        x = scaled(X_held_out, LIKELIHOOD_ROWS)
        posterior = vae.prior.posterior(vae.encode(x))
        codes = posterior.mu / posterior.sigma.square().mean(dim=0).sqrt().clamp(min=1e-6)
        vae.likelihood.settle(x, vae.decode(vae.rsample(posterior, noise[0])), codes)
    vae.normals = fit_normals(vae, scaled(X, MAX_ROWS), x, noise, generator)
