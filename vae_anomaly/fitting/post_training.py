"""What is fitted after training, with the networks fixed: the prior, then the likelihood, then the scores' statistics.

With a mixture, and enough held-out rows, the posterior's spread and the likelihood's variance then take turns, each at
its best given the other: the encoder's spread is the one that suits the likelihood of training, and where residuals
count as fewer observations than there are pixels, a code need not be as precise. With exemplars the variance is that
of the highest density, and so is how far each mean lies from what the decoder says towards the row that it stands for.

References
----------
From Variational to Deterministic Autoencoders (Ghosh et al., 2020), https://arxiv.org/abs/1903.12436
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from vae_anomaly.fitting.batches import sample_indices
from vae_anomaly.fitting.normal_statistics import MAX_ROWS, fit_normal_statistics
from vae_anomaly.fitting.optimizer import AdamW
from vae_anomaly.model.likelihoods import Gaussian, squared_distances
from vae_anomaly.model.networks import Posterior
from vae_anomaly.model.priors import MIXTURE_ROWS, NEGLIGIBLE, Exemplars, Mixture, fit_mixture
from vae_anomaly.model.vae import VAE
from vae_anomaly.scoring.blocks import by_block
from vae_anomaly.storage.rows import Rows, RowsInMemory

ENOUGH_ROWS = 100
ENOUGH_FOR_EXEMPLARS = 10  # which have but two numbers to fit
LIKELIHOOD_ROWS = 1_000
LIKELIHOOD_VALUES = 10_000_000
MAX_EXEMPLARS = 2_048
EXEMPLAR_VALUES = 1_000_000  # which the model file holds
MORE_ROWS = 5_000  # instead of either, where they have no more values than that
MAX_VALUES = 50_000_000  # in one array, however large a row is
SPREAD_ROUNDS = 2
SPREAD_STEPS = 100
SPREAD_ROWS = 128
SPREAD_RATE = 0.1
SHARES = tuple(i / 8 for i in range(9))
VARIANCE_STEPS = 20
FAR = 1e20  # beyond the squared distances of scaled rows; in single precision it keeps no weight


def settle(vae: VAE, X: Rows, X_held_out: RowsInMemory, prior: str, noise: Tensor, generator: torch.Generator) -> None:
    """Fit ``vae.prior``, ``vae.likelihood`` and ``vae.normals`` in place.

    Parameters
    ----------
    vae
        Trained.
    X, X_held_out
        Raw rows ``(N, D)``: those trained on, perhaps on disk, and others. The second choose the number of components
        and fit the likelihood, if there are 100 of them (for exemplars 10); otherwise the first do. Exemplars come from
        both.
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
        rows = X[sample_indices(X, X.max_rows_in_memory(MIXTURE_ROWS), generator)]
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        mu, sigma = by_block(vae, rows, lambda x: vae.encode(x)[:2])
        held_out = by_block(vae, judges, lambda x: (vae.encode(x).mu,))[0]
        vae.prior = fit_mixture(mu, held_out, sigma, seed).to(loc.device, loc.dtype)

    def scaled(rows: Rows, most: int) -> Tensor:
        chosen = sample_indices(rows, min(rows.max_rows_in_memory(most), MAX_VALUES // rows.shape[1] + 1), generator)
        x: Tensor = vae.scaling(torch.from_numpy(rows[chosen]).to(loc.device, loc.dtype))
        return x

    x = scaled(judges, more_of_few_features(LIKELIHOOD_ROWS, LIKELIHOOD_VALUES // X.shape[1]))
    with torch.no_grad():
        posterior = vae.prior.posterior(vae.encode(x))
        codes = posterior.mu / posterior.sigma.square().mean(dim=0).sqrt().clamp(min=1e-6)
        vae.likelihood.settle(x, vae.decode(vae.rsample(posterior, noise[0])), codes)
    if isinstance(vae.prior, Mixture) and judges is X_held_out:  # rows trained on let it grow where it should not
        fit_spread(vae, vae.prior, x, generator)
    elif prior == "exemplars":
        most = more_of_few_features(MAX_EXEMPLARS, EXEMPLAR_VALUES // X.shape[1])
        rows, of_training = drawn_of_both(X, X_held_out, most, generator)
        few = len(X_held_out) < ENOUGH_FOR_EXEMPLARS
        fit_exemplars(vae, rows, of_training, None if few else scaled(X_held_out, LIKELIHOOD_ROWS))
    with torch.no_grad():
        vae.normals = fit_normal_statistics(vae, scaled(X, MAX_ROWS), x, noise, generator)


def fit_spread(vae: VAE, prior: Mixture, x: Tensor, generator: torch.Generator) -> None:
    """Fit ``prior.sigma`` and the likelihood's variance to scaled rows ``(M, D)``, in turn.

    The spread is that of the highest mean ELBO, by Adam on its logarithm and fresh latent draws; then the variance
    grows as the squared residual did.

    References
    ----------
    Inference Suboptimality in Variational Autoencoders (Cremer et al., 2018), https://arxiv.org/abs/1801.03558
    """
    x = x[torch.randperm(len(x), generator=generator).to(x.device)]
    with torch.no_grad():
        mu = vae.encode(x).mu
    batches = torch.split(mu, SPREAD_ROWS)

    def randn(rows: Tensor) -> Tensor:
        return torch.randn(rows.shape, generator=generator, dtype=torch.float64).to(rows)

    for _ in range(SPREAD_ROUNDS):
        before = prior.sigma
        log_sigma = before.log().requires_grad_()
        optimizer = AdamW([log_sigma], weight_decay=0.0)
        with torch.no_grad():
            log_probs = [vae.likelihood.given(rows) for rows in torch.split(x, SPREAD_ROWS)]
        for step in range(SPREAD_STEPS):
            mean, log_prob = batches[step % len(batches)], log_probs[step % len(batches)]
            posterior = Posterior(mean, log_sigma.exp().expand_as(mean), 2 * log_sigma.expand_as(mean))
            reconstruction = log_prob(vae.decode(vae.rsample(posterior, randn(mean))))
            loss = (prior.kl(posterior) - reconstruction).mean()
            (log_sigma.grad,) = torch.autograd.grad(loss, log_sigma)
            optimizer.step(SPREAD_RATE * (1 - step / SPREAD_STEPS))
        prior.sigma = log_sigma.detach().exp()
        with torch.no_grad():
            eps = randn(mu)
            vae.likelihood.widen(x, vae.decode(mu + before * eps), vae.decode(mu + prior.sigma * eps))


def fit_exemplars(vae: VAE, rows: np.ndarray, of_training: np.ndarray, held_out: Tensor | None) -> None:
    """Make raw rows ``(n, D)`` the exemplars; with a plain Gaussian, fit its variance and how much they remember.

    Both have the highest mean log-density of the scaled rows ``held_out`` under those exemplars that ``of_training``
    marks, ``(n,)``; without any such rows, that of these exemplars themselves, each under all others.
    """
    loc, p = vae.scaling.loc, vae.likelihood
    results = by_block(vae, rows, lambda x: (vae.encode(x).mu, vae.reconstruct(x)))
    latents, decoded = (torch.from_numpy(result).to(loc) for result in results)
    centres = decoded
    training = torch.from_numpy(np.flatnonzero(of_training)).to(loc.device)
    if type(p) is Gaussian and len(training) > 1:
        exemplars = vae.scaling(torch.from_numpy(rows).to(loc))
        judges = exemplars[training][:LIKELIHOOD_ROWS] if held_out is None else held_out
        best = -math.inf
        for share in SHARES:
            candidates = torch.lerp(decoded, exemplars, share)
            squared = squared_distances(judges, candidates[training]).double()
            if held_out is None:
                squared.fill_diagonal_(FAR)
            variance, density = best_variance(squared, rows.shape[1], p.floor)
            if density > best:
                best, centres = density, candidates
                p.variance.copy_(variance)
    vae.prior = Exemplars(latents, centres)


def best_variance(squared: Tensor, n_features: int, floor: float) -> tuple[Tensor, float]:
    r"""The variance of the highest mean log-density under equally likely Gaussians; that density, but for a constant.

    By expectation maximisation from squared distances ``(M, n)``: :math:`v \leftarrow \frac{1}{MD} \sum_{ij} r_{ij}
    d_{ij}^2`, where :math:`r_{ij}` is how much of row i the Gaussian j is responsible for.
    """
    nearest = squared.amin(dim=1)
    beyond = (squared - nearest[:, None]).clamp_(max=FAR).float()  # a third of the time of double precision

    def responsible(variance: Tensor) -> tuple[Tensor, Tensor]:
        r = torch.mul(beyond, (-0.5 / variance).float()).clamp_(min=NEGLIGIBLE).exp_()
        total = r.sum(dim=1)
        return total.double(), nearest + r.mul_(beyond).sum(dim=1).double() / total

    variance = (nearest.mean() / n_features).clamp(min=floor)
    for _ in range(VARIANCE_STEPS):
        variance = (responsible(variance)[1].mean() / n_features).clamp(min=floor)
    log_p = responsible(variance)[0].log() - 0.5 * nearest / variance
    return variance, float(log_p.mean() - 0.5 * n_features * torch.log(variance))


def drawn_of_both(X: Rows, X_held_out: Rows, most: int, generator: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Up to ``most`` rows at random of two sets, which are not brought together for it, and where the first are."""
    chosen = sample_indices(X, X.max_rows_in_memory(most), generator, more=len(X_held_out))
    rows = np.empty((len(chosen), X.shape[1]), X.dtype)
    first = chosen < len(X)
    rows[first], rows[~first] = X[chosen[first]], X_held_out[chosen[~first] - len(X)]
    return rows, first


def more_of_few_features(most: int, affordable: int) -> int:
    """How many rows to take: ``most``, or as many as are affordable, but no more than 5,000 then."""
    return max(most, min(MORE_ROWS, affordable))
