r"""What is fitted after training, with the networks fixed: the prior, the likelihood, the statistics of the scores.

Training maximises the ELBO with p(z) = N(0, I) and the likelihood's ``training_log_prob``. The decoder that it leaves
gives a bound on log p(x) for any prior and any variance of the noise, so both can be fitted again, to rows that no
weight was fitted to:

1. a mixture prior, :math:`\arg\max_p \mathrm{mean}_i \log p(\mu(x_i))` over latent means (`fitting.mixture`);
2. the likelihood: for a Gaussian, :math:`v^* = \arg\max_v \mathrm{mean}_i \log N(x_i; \hat x(z_i), v I)` with one draw
   :math:`z_i \sim q(z|x_i)` for each row; for others see their ``fit_after_training``;
3. for a mixture, the spread of q(z|x) and the variance in turn, each the best for the mean ELBO given the other;
   for exemplars, the variance and the means of the highest mean log p(x) (`fitting.exemplars`);
4. spreads and neighbours of the normals, which further scores compare a row with.

Steps 2 and 3 take held-out rows if there are 100 of them (exemplars in step 3: ten), else training rows; without them a
mixture keeps the spread that it has, and its ELBO may be hundreds of nats lower than it could be. Of maps of latents
five held-out images are enough, 16 fit the likelihood, and 128 the rest: each has hundreds of patches.

References
----------
From Variational to Deterministic Autoencoders (Ghosh et al., 2020), https://arxiv.org/abs/1903.12436
"""

from __future__ import annotations

import torch
from torch import Tensor

from vae_anomaly.fitting.normal_statistics import MAX_ROWS, fit_normal_statistics
from vae_anomaly.fitting.prior_fit import (
    ENOUGH_MAPS,
    ENOUGH_ROWS,
    LIKELIHOOD_ROWS,
    FittingRows,
    PriorFit,
    row_budget,
)
from vae_anomaly.model.vae import VAE
from vae_anomaly.registry import PRIOR_FITS
from vae_anomaly.storage.rows import Rows, RowsInMemory

LIKELIHOOD_VALUES = 10_000_000
MAP_ROWS, MAP_ROWS_FOR_LIKELIHOOD = 128, 16  # of maps of latents, each of which has hundreds of patches


def fit_after_training(
    vae: VAE,
    X: Rows,
    X_held_out: RowsInMemory,
    prior_fit: str,
    noise: Tensor,
    generator: torch.Generator,
    others: RowsInMemory | None = None,
    *,
    may_be_anomalies: bool = False,
) -> None:
    """Fit ``vae.prior``, ``vae.likelihood`` and ``vae.normals`` in place.

    Parameters
    ----------
    vae
        Trained.
    X, X_held_out
        Raw rows ``(N, D)``: those trained on, perhaps on disk, and others.
    prior_fit
        A key of `vae_anomaly.registry.PRIOR_FITS`.
    noise
        Latent draws ``(K, 1, latent_dim)``.
    generator
        Chooses rows, on the CPU.
    others
        Further rows ``(K, D)`` for a prior of exemplars.
    may_be_anomalies
        Whether some rows are expected to be anomalies.
    """
    enough = ENOUGH_ROWS if vae.encoder.n_places == 1 else ENOUGH_MAPS
    rows = FittingRows(X, X_held_out, vae.scaling, generator, others, may_be_anomalies, enough)
    fit: PriorFit = PRIOR_FITS[prior_fit]()
    fit.before_likelihood(vae, rows)
    if vae.encoder.n_places == 1:
        n = n_for_likelihood = row_budget(LIKELIHOOD_ROWS, LIKELIHOOD_VALUES, rows.n_features)
        n_normals = MAX_ROWS
    else:
        n, n_for_likelihood, n_normals = MAP_ROWS, MAP_ROWS_FOR_LIKELIHOOD, MAP_ROWS
    x = rows.scaled_sample(rows.preferred, n)
    fit_likelihood(vae, x[:n_for_likelihood], noise[0])
    fit.after_likelihood(vae, rows, x)
    with torch.no_grad():
        vae.normals = fit_normal_statistics(vae, rows.scaled_sample(X, n_normals), x, noise, generator)


@torch.no_grad()
def fit_likelihood(vae: VAE, x: Tensor, noise: Tensor) -> None:
    """Fit ``vae.likelihood`` to scaled rows ``(M, D)``, each with one draw of its latents by ``noise``."""
    posterior = vae.prior.posterior(vae.encode(x))
    codes = posterior.mu / posterior.sigma.square().mean(dim=0).sqrt().clamp(min=1e-6)
    vae.likelihood.fit_after_training(x, vae.decode(vae.rsample(posterior, noise)), codes)
