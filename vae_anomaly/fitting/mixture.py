r"""A mixture prior fitted to latent means, then the posterior's spread and the likelihood's variance in turn.

1. Of mixtures of 1, 5, 20, 50, 100 and 200 Gaussians, each fitted to latent means :math:`\mu(x)` of training rows by
   expectation maximisation, the one of the highest mean log-density of held-out latent means.
2. The likelihood's own fit, with the root mean square of the encoder's spreads as the spread of q(z|x).
3. If there are enough held-out rows, twice: the spread of the highest mean ELBO of those rows,

   .. math::

       \sigma^* = \arg\max_\sigma \; \mathrm{mean}_i \left[ E_{z \sim N(\mu_i, \mathrm{diag}(\sigma^2))}
       \log p(x_i|z) - \mathrm{KL}(N(\mu_i, \mathrm{diag}(\sigma^2)) \,\|\, p(z)) \right],

   by AdamW on its logarithm with fresh draws of z at each step; then the likelihood's variance, scaled as the mean
   squared residual changed between draws with the old and the new spread.

The encoder's spread suits the likelihood of training. Where residuals count as fewer observations than there are
pixels, a code need not be as precise, so the best spread is larger. Training rows would make it too large, because the
networks know their latent means too well.

References
----------
From Variational to Deterministic Autoencoders (Ghosh et al., 2020), https://arxiv.org/abs/1903.12436
Inference Suboptimality in Variational Autoencoders (Cremer et al., 2018), https://arxiv.org/abs/1801.03558
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from vae_anomaly.fitting.gaussian_mixture import fit_gaussians
from vae_anomaly.fitting.optimizer import AdamW
from vae_anomaly.fitting.prior_fit import FittingRows, PriorFit
from vae_anomaly.model.priors.mixture import MAX_COMPONENTS, Mixture
from vae_anomaly.model.vae import VAE
from vae_anomaly.registry import PRIOR_FITS
from vae_anomaly.scoring.blocks import by_block

COMPONENTS = (1, 5, 20, 50, 100, MAX_COMPONENTS)
ROWS_PER_COMPONENT = 64
MIXTURE_ROWS = 20_000
SPREAD_ROUNDS = 2
SPREAD_STEPS = 100
SPREAD_ROWS = 128  # a step
SPREAD_RATE = 0.1


@PRIOR_FITS.register("mixture")
class MixtureFit(PriorFit):
    """Gaussians fitted to the latent means of training rows; held-out rows decide how many."""

    def before_likelihood(self, vae: VAE, rows: FittingRows) -> None:
        training = rows.sample(rows.training, MIXTURE_ROWS)
        seed = int(torch.randint(2**31 - 1, (), generator=rows.generator))
        mu, sigma = by_block(vae, training, lambda x: vae.encode(x)[:2])
        held_out = by_block(vae, rows.preferred, lambda x: (vae.encode(x).mu,))[0]
        loc = vae.scaling.loc
        vae.prior = self.prior = fit_mixture(mu, held_out, sigma, seed, loc.device).to(loc.dtype)

    def after_likelihood(self, vae: VAE, rows: FittingRows, x: Tensor) -> None:
        if rows.has_enough_held_out:
            fit_spread(vae, self.prior, x, rows.generator)


def fit_mixture(
    mu: np.ndarray, mu_held_out: np.ndarray, sigma: np.ndarray, seed: int, device: torch.device | str = "cpu"
) -> Mixture:
    """The mixture with the number of components that makes held-out latent means likeliest.

    Parameters
    ----------
    mu, mu_held_out
        Latent means ``(N, latent_dim)``; the first 20,000 of ``mu`` are used. More components are tried as long as
        they raise the mean log-density of ``mu_held_out`` and each has 64 rows.
    sigma
        Posterior standard deviations ``(N, latent_dim)``.
    seed
        Of the initialisation.
    device
        Where to fit, and where the mixture is then.

    Raises
    ------
    ValueError
        If the latent means are not finite.
    """
    z, z_held_out = (torch.from_numpy(part.astype(np.float64)).to(device) for part in (mu[:MIXTURE_ROWS], mu_held_out))
    if not (z.isfinite().all() and z_held_out.isfinite().all()):
        raise ValueError("the latent means are not finite")
    generator, best, best_density = torch.Generator().manual_seed(seed), None, -math.inf
    for n in COMPONENTS:
        if n > 1 and n * ROWS_PER_COMPONENT > len(z):
            break
        gaussians = fit_gaussians(z, n, generator)
        density = gaussians.mean_log_density(z_held_out)
        if density <= best_density:
            break
        best, best_density = gaussians, density
    assert best is not None, "one component has a finite density"
    spread = np.sqrt(np.mean(np.square(sigma, dtype=np.float64), axis=0))
    return Mixture(*best, torch.from_numpy(spread).to(device))


def fit_spread(vae: VAE, prior: Mixture, x: Tensor, generator: torch.Generator) -> None:
    """Fit ``prior.sigma`` and the likelihood's variance to scaled rows ``(M, D)``, in turn."""
    x = x[torch.randperm(len(x), generator=generator).to(x.device)]
    with torch.no_grad():
        mu = vae.encode(x).mu
        batches = torch.split(mu, SPREAD_ROWS)
        components = [prior.components(mean) for mean in batches]

    def randn(rows: Tensor) -> Tensor:
        return torch.randn(rows.shape, generator=generator, dtype=torch.float64).to(rows)

    for _ in range(SPREAD_ROUNDS):
        before = prior.sigma
        log_sigma = before.log().requires_grad_()
        optimizer = AdamW([log_sigma], weight_decay=0.0)
        with torch.no_grad():
            log_probs = [vae.likelihood.bind(rows) for rows in torch.split(x, SPREAD_ROWS)]
        for step in range(SPREAD_STEPS):
            batch, sigma = step % len(batches), log_sigma.exp()
            mean, log_prob = batches[batch], log_probs[batch]
            reconstruction = log_prob(vae.decode(torch.addcmul(mean, sigma, randn(mean))))
            loss = (prior.kl_of_one_spread(components[batch], sigma) - reconstruction).mean()
            (log_sigma.grad,) = torch.autograd.grad(loss, log_sigma)
            optimizer.step(SPREAD_RATE * (1 - step / SPREAD_STEPS))
        prior.sigma = log_sigma.detach().exp()
        with torch.no_grad():
            eps = randn(mu)
            vae.likelihood.rescale_noise(x, vae.decode(mu + before * eps), vae.decode(mu + prior.sigma * eps))
