"""The laws of a prior, for every one that is registered: a new one is tested by being there."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vae_anomaly.fitting.post_training import fit_after_training
from vae_anomaly.model.likelihoods.gaussian import Gaussian
from vae_anomaly.model.networks.base import Encoder, Linear, Posterior
from vae_anomaly.model.priors.base import DensityPrior
from vae_anomaly.model.priors.exemplars import Exemplars
from vae_anomaly.model.scaling import Scaling
from vae_anomaly.model.vae import VAE
from vae_anomaly.model.validity import check_values
from vae_anomaly.registry import PRIORS
from vae_anomaly.storage.rows import RowsInMemory

D, LATENT = 5, 2
every_prior = pytest.mark.parametrize("name", PRIORS)
every_density = pytest.mark.parametrize("name", [name for name in PRIORS if issubclass(PRIORS[name], DensityPrior)])
both_precisions = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


class LinearEncoder(Encoder):
    """The posterior of x = W z + noise, with a spread that is too large."""

    def __init__(self, W: Tensor, variance: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(Linear(D, 4), nn.ReLU())  # whose activations some scores look at
        self.register_buffer("matrix", torch.linalg.solve(W.T @ W + variance * torch.eye(LATENT), W.T))
        self.register_buffer("log_var", math.log(2 * variance) - torch.log(variance + W.square().sum(dim=0)))

    @property
    def hidden_layers(self) -> nn.Sequential:
        return self.layers

    def forward(self, x: Tensor) -> Posterior:
        mu = x @ self.matrix.T
        log_var = self.log_var.expand_as(mu)
        return Posterior(mu, torch.exp(0.5 * log_var), log_var)


@cache
@torch.no_grad()
def fitted(name: str, dtype: torch.dtype) -> tuple[VAE, Tensor]:
    """A linear VAE with a prior of this name fitted to rows of three clusters, and some of these rows."""
    generator = torch.Generator().manual_seed(0)
    W = torch.linalg.qr(torch.randn(D, LATENT, generator=generator))[0] * torch.tensor([1.5, 0.7])
    z = torch.randn(700, LATENT, generator=generator) + 2 * (torch.arange(700) % 3 - 1)[:, None]
    X = z @ W.T + 0.5 * torch.randn(700, D, generator=generator)
    decoder = Linear(LATENT, D)
    decoder.weight.copy_(W)
    decoder.bias.zero_()
    vae = VAE(LinearEncoder(W, 0.25), decoder, Gaussian(), Scaling(torch.zeros(()), torch.ones(()))).double()
    noise = torch.randn(2, 1, LATENT, generator=generator, dtype=torch.float64)
    rows = X.double().numpy()
    training, held_out = RowsInMemory(rows[:500]), RowsInMemory(rows[500:])
    with torch.enable_grad():
        fit_after_training(vae, training, held_out, name, noise, generator)
    if isinstance(vae.prior, Exemplars):  # whose means may have moved from what the decoder says
        own = vae.prior.own_exemplars(vae.encode(X[500:530].double()).mu)  # which it would leave out
        latents = vae.prior.latents[~torch.isin(torch.arange(len(vae.prior.latents)), own)]
        members = torch.arange(12).view(3, 4)  # which have no weight, as they have other noise
        vae.prior = Exemplars(latents, vae.decode(latents), members)
    return vae.to(dtype), X[500:530].to(dtype)


def draws(k: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(k, 1, LATENT, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


@cache
@torch.no_grad()
def log_evidence(name: str) -> Tensor:
    """Log p(x) from latents that the prior itself draws, ``(30,)``."""
    vae, x = fitted(name, torch.float64)
    generator = torch.Generator().manual_seed(2)
    n = 100_000
    z = vae.prior.sample(
        torch.randn(n, LATENT, generator=generator, dtype=torch.float64),
        torch.rand(n, generator=generator, dtype=torch.float64),
    )
    parts = [vae.likelihood.log_prob_of_pairs(x, vae.decode(part)) for part in torch.split(z, 10_000)]
    return torch.logsumexp(torch.cat(parts, dim=1), dim=1) - math.log(n)


@every_prior
@torch.no_grad()
def test_the_elbo_lies_below_the_evidence_and_the_importance_weighted_bound_between(name: str) -> None:
    vae, x = fitted(name, torch.float64)
    noise = draws(1000, torch.float64)
    reconstruction, kl = vae.prior.elbo_terms(vae, x, noise)
    bound = vae.prior.importance_weighted_bound(vae, x, noise)
    log_p = log_evidence(name)
    assert (reconstruction - kl <= bound + 0.02).all()
    assert (bound <= log_p + 0.1).all()
    np.testing.assert_allclose(bound, log_p, atol=0.1)
    assert (kl > 0).all()


@every_prior
@torch.no_grad()
def test_the_bound_by_two_draws_is_at_least_the_elbo_on_average_and_the_evidence_always(name: str) -> None:
    vae, x = fitted(name, torch.float64)
    generator = torch.Generator().manual_seed(3)
    gains = []
    for _ in range(300):
        noise = torch.randn(2, 1, LATENT, generator=generator, dtype=torch.float64)
        reconstruction, kl = vae.prior.elbo_terms(vae, x, noise)
        gains.append(vae.prior.importance_weighted_bound(vae, x, noise) - (reconstruction - kl))
    gain = torch.stack(gains)
    assert (gain.mean(dim=0) >= -4 * gain.std(dim=0) / math.sqrt(len(gain)) - 1e-9).all()
    if isinstance(vae.prior, Exemplars):
        assert (gain >= -1e-9).all()


@every_prior
@torch.no_grad()
def test_more_draws_make_the_importance_weighted_bound_tighter(name: str) -> None:
    vae, x = fitted(name, torch.float64)
    noise = draws(8, torch.float64)
    single = torch.stack([vae.prior.importance_weighted_bound(vae, x, eps[None]) for eps in noise]).mean(dim=0)
    assert (vae.prior.importance_weighted_bound(vae, x, noise) >= single - 1e-9).all()


@every_prior
@both_precisions
@torch.no_grad()
def test_parts_sum_to_the_terms(name: str, dtype: torch.dtype) -> None:
    vae, x = fitted(name, dtype)
    parts = vae.prior.parts(vae, x, draws(3, dtype))
    assert all(part.dtype == torch.float64 for part in parts)
    assert all(part.shape == x.shape for part in parts._replace(kl=parts.mean))
    for shares, term in zip(parts[:2], vae.prior.elbo_terms(vae, x, draws(3, dtype)), strict=True):
        rounding = (1e-12 if dtype == torch.float64 else 1e-6) * (shares.abs().sum(dim=1) + 10)
        assert ((shares.sum(dim=1) - term).abs() <= rounding).all()
    assert (parts.variance > 0).all()


@every_prior
@both_precisions
@torch.no_grad()
def test_rows_depend_on_no_other_row(name: str, dtype: torch.dtype) -> None:
    vae, x = fitted(name, dtype)
    noise = draws(3, dtype)
    for function in (vae.prior.elbo_terms, vae.prior.parts):
        for together, alone in zip(function(vae, x, noise), function(vae, x[7:8], noise), strict=True):
            torch.testing.assert_close(together[7:8], alone, rtol=1e-5, atol=1e-5)


@every_prior
@both_precisions
@torch.no_grad()
def test_buffers_restore_it(name: str, dtype: torch.dtype) -> None:
    vae, x = fitted(name, dtype)
    buffers = dict(vae.prior.state_dict())
    assert buffers.keys() == vae.prior.shapes.keys() >= vae.prior.positive_buffers
    restored = PRIORS[name].from_buffers(buffers, LATENT, D)
    noise, uniform = draws(3, dtype), torch.tensor([0.1, 0.5, 0.9], dtype=dtype)
    for before, after in zip(vae.prior.elbo_terms(vae, x, noise), restored.elbo_terms(vae, x, noise), strict=True):
        assert torch.equal(before, after)
    assert torch.equal(restored.sample(noise[:, 0], uniform), vae.prior.sample(noise[:, 0], uniform))


@every_prior
def test_other_buffers_are_refused(name: str) -> None:
    vae, _ = fitted(name, torch.float64)
    buffers = dict(vae.prior.state_dict())
    wrong = [buffers | {"other": torch.zeros(2)}, {"other": torch.zeros(2)}]
    for key, value in buffers.items():
        wrong.append({other: kept for other, kept in buffers.items() if other != key})
        wrong.append(buffers | {key: value[None]})
        if value.ndim:
            wrong.append(buffers | {key: torch.zeros(())})
        if key != "members" and (value.ndim > 1 or len(buffers) > 1):  # else its length is free
            wrong += [buffers | {key: torch.cat([value, value], dim=axis)} for axis in range(value.ndim)]
    for changed in wrong:
        with pytest.raises(ValueError, match=f"a prior of kind '{name}' has no buffers of shapes"):
            PRIORS[name].from_buffers(changed, LATENT, D)


@every_prior
def test_no_buffer_is_longer_than_a_fit_makes_it(name: str) -> None:
    kind, known = PRIORS[name], {"latent_dim": LATENT, "n_parameters": D}
    limits = kind.limits(LATENT, D)
    assert limits.keys() == {letter for shape in kind.shapes.values() for letter in shape} - known.keys()
    for letter, limit in limits.items():
        for n in (1, limit, limit + 1):
            sizes = known | dict.fromkeys(limits, 1) | {letter: n}
            like = fitted(name, torch.float64)[0].prior.state_dict()
            buffers = {key: like[key].new_zeros([sizes[s] for s in shape]) for key, shape in kind.shapes.items()}
            if n <= limit:
                kind.from_buffers(buffers, LATENT, D)
            else:
                with pytest.raises(ValueError, match=f"has at most {limit:,} for its size {letter}, got {n:,}"):
                    kind.from_buffers(buffers, LATENT, D)


@every_prior
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_what_must_be_positive_is_checked(name: str, value: float) -> None:
    vae, _ = fitted(name, torch.float64)
    check_values(vae)
    for key in vae.prior.positive_buffers:
        buffers = {other: buffer.clone() for other, buffer in vae.prior.state_dict().items()}
        buffers[key].view(-1)[0] = value
        with pytest.raises(ValueError, match=f"its {key} must be above 0"):
            check_values(PRIORS[name].from_buffers(buffers, LATENT, D))


@every_prior
@both_precisions
def test_the_ends_of_the_unit_interval_draw_latents_too(name: str, dtype: torch.dtype) -> None:
    vae, _ = fitted(name, dtype)
    z = vae.prior.sample(torch.zeros(3, LATENT, dtype=dtype), torch.tensor([0.0, 0.5, 1.0], dtype=dtype))
    assert z.shape == (3, LATENT)
    assert torch.isfinite(z).all()


def density_prior(name: str, dtype: torch.dtype = torch.float64) -> DensityPrior:
    prior = fitted(name, dtype)[0].prior
    assert isinstance(prior, DensityPrior)
    return prior


@every_density
def test_a_density_integrates_to_one(name: str) -> None:
    prior = density_prior(name)
    axis = torch.linspace(-25, 35, 601, dtype=torch.float64)
    log_p = torch.cat([prior.log_prob(torch.cartesian_prod(part, axis)) for part in torch.split(axis, 100)])
    assert float(log_p.exp().sum()) * (60 / 600) ** 2 == pytest.approx(1, rel=1e-3)


@every_density
@both_precisions
@pytest.mark.parametrize("far", [1.0, 1e3])
def test_shares_of_latents_sum_to_the_kl(name: str, dtype: torch.dtype, far: float) -> None:
    prior = density_prior(name, dtype)
    mu, log_var = torch.randn(2, 40, LATENT, generator=torch.Generator().manual_seed(0)).to(dtype)
    q = prior.posterior(Posterior(far * mu, torch.exp(0.5 * log_var), log_var))
    shares = prior.kl_of_latents(q)
    assert shares.shape == q.mu.shape
    rounding = (1e-12 if dtype == torch.float64 else 1e-5) * (shares.abs().sum(dim=1) + 1)
    assert ((shares.sum(dim=1) - prior.kl(q)).abs() <= rounding).all()


@every_density
def test_the_kl_is_an_upper_bound(name: str) -> None:
    prior = density_prior(name)
    mu, log_var = torch.randn(2, 6, LATENT, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    q = prior.posterior(Posterior(mu, torch.exp(0.5 * log_var), log_var))
    eps = draws(30_000, torch.float64)
    log_q = -0.5 * (eps.square() + q.log_var + math.log(2 * math.pi)).sum(-1)
    ratios = log_q - prior.log_prob((q.mu + q.sigma * eps).reshape(-1, LATENT)).reshape(log_q.shape)
    assert (prior.kl(q) > ratios.mean(0) - 5 * ratios.std(0) / math.sqrt(len(eps))).all()
