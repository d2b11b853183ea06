"""Exemplars as a prior: the terms are the evidence of each set, small sets, and a row left out of its own score."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vae_anomaly.model.likelihoods.base import Likelihood
from vae_anomaly.model.likelihoods.gaussian import Gaussian
from vae_anomaly.model.likelihoods.mixed import Mixed
from vae_anomaly.model.networks.base import Encoder, Posterior
from vae_anomaly.model.priors.exemplars import Exemplars, places_of, terms_of_pairs
from vae_anomaly.model.scaling import Scaling
from vae_anomaly.model.vae import VAE
from vae_anomaly.model.validity import check_values

N_EXEMPLARS, D = 12, 2
NO_NOISE = torch.zeros(1, 1, D)


class Identity(Encoder):
    """Every row is its own latent."""

    @property
    def hidden_layers(self) -> nn.Sequential:
        return nn.Sequential()

    def forward(self, x: Tensor) -> Posterior:
        return Posterior(x, torch.ones_like(x), torch.zeros_like(x))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def model(weight: float = 0.25, likelihood: Likelihood | None = None) -> VAE:
    """Twelve exemplars at their own rows, in five small sets of four."""
    vae = VAE(Identity(), nn.Identity(), likelihood or Gaussian(), Scaling(torch.zeros(()), torch.ones(())))
    rows = random(N_EXEMPLARS, D)
    drawn = [torch.randperm(N_EXEMPLARS, generator=torch.Generator().manual_seed(seed)) for seed in range(5)]
    members = torch.stack([order[:4] for order in drawn])
    vae.prior = Exemplars(rows, rows, members, torch.tensor(3.0).double(), torch.tensor(weight).double())
    vae = vae.double()
    vae.likelihood.variance.fill_(0.3)
    return vae


def elbo(vae: VAE, x: Tensor) -> Tensor:
    reconstruction, kl = vae.prior.elbo_terms(vae, x, NO_NOISE)
    return reconstruction - kl


def log_density(x: Tensor, centres: Tensor, variance: float) -> Tensor:
    """Log-density of rows ``(N, D)`` under equally likely Gaussians, by the textbook."""
    squared = (x[:, None] - centres).square().sum(dim=-1)
    log_p = -0.5 * squared / variance - 0.5 * D * math.log(2 * math.pi * variance)
    return torch.logsumexp(log_p, dim=1) - math.log(len(centres))


def test_terms_of_exemplars_are_the_evidence() -> None:
    log_p = random(8, 3, 5) * 30
    reconstruction, kl = terms_of_pairs(log_p.clone(), torch.tensor(5), log_p.dtype)
    np.testing.assert_allclose(reconstruction - kl, torch.logsumexp(log_p, dim=-1) - math.log(5))
    assert (kl >= 0).all()
    assert (kl <= math.log(5) + 1e-12).all()
    far = torch.full((1, 1, 5), -1e30).double()
    assert all(torch.isfinite(term).all() for term in terms_of_pairs(far, torch.tensor(5), far.dtype))


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_a_row_is_as_likely_as_by_all_exemplars_and_by_the_median_of_small_sets(weight: float) -> None:
    vae, x = model(weight), random(40, D, seed=1) * 2
    of_all = log_density(x, vae.prior.latents, 0.3)
    of_sets = torch.stack([log_density(x, vae.prior.latents[rows], 0.9) for rows in vae.prior.members.long()])
    of_sets = of_sets.sort(dim=0).values[2] - math.log(2)
    expected = torch.minimum(of_all, weight * of_all + (1 - weight) * of_sets)
    np.testing.assert_allclose(elbo(vae, x), expected, rtol=1e-10)
    assert (of_all < of_sets).any()
    assert (of_all > of_sets).any()


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_small_sets_make_a_density_and_a_bound_on_it(weight: float) -> None:
    vae = model(weight)
    axis = torch.linspace(-9, 9, 181, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    log_p = vae.prior.importance_weighted_bound(vae, grid, NO_NOISE)
    assert float(log_p.exp().sum()) * 0.1**2 == pytest.approx(1, rel=1e-6)
    assert (elbo(vae, grid) <= log_p + 1e-9).all()


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("likelihood", [Gaussian, lambda: Mixed(D, ())], ids=["gaussian", "mixed"])
def test_parts_sum_to_the_terms_with_small_sets_too(weight: float, likelihood: type[Likelihood]) -> None:
    vae = model(weight, likelihood())
    for x in (random(30, D, seed=1) * 2, vae.prior.latents):
        parts = vae.prior.parts(vae, x, NO_NOISE)
        for shares, term in zip(parts[:2], vae.prior.elbo_terms(vae, x, NO_NOISE), strict=True):
            np.testing.assert_allclose(shares.sum(dim=1), term, rtol=1e-9, atol=1e-9)
        assert (parts.variance > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_an_exemplar_is_scored_as_a_new_row_would_be_without_it(dtype: torch.dtype) -> None:
    vae = model().to(dtype)
    scores = elbo(vae, vae.prior.latents)
    for i in range(N_EXEMPLARS):
        others = torch.arange(N_EXEMPLARS) != i
        x = vae.prior.latents[i : i + 1].double()
        of_all = log_density(x, vae.prior.latents[others].double(), 0.3)
        sets = [rows[rows != i] for rows in vae.prior.members.long()]
        of_sets = torch.stack([log_density(x, vae.prior.latents[rows].double(), 0.9) for rows in sets])
        of_sets = of_sets.sort(dim=0).values[2] - math.log(2)
        expected = torch.minimum(of_all, 0.25 * of_all + 0.75 * of_sets)
        np.testing.assert_allclose(scores[i], expected[0], rtol=1e-5)


def test_one_of_several_equal_exemplars_is_left_out() -> None:
    rows = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [5.0, 5.0]]).double()
    vae = model()
    vae.prior = Exemplars(rows, rows)
    expected = log_density(rows[:1], rows[1:], 0.3)
    np.testing.assert_allclose(elbo(vae, rows[:3]), expected.expand(3))


def test_an_exemplar_is_left_out_at_all_its_places() -> None:
    members = torch.randint(0, 7, (40,), generator=torch.Generator().manual_seed(0))
    members[members == 3] = 4
    for exemplar, places in enumerate(places_of(members, 7)):
        assert places[places >= 0].tolist() == torch.nonzero(members == exemplar).ravel().tolist()
    assert places_of(torch.arange(5), 5).tolist() == [[0], [1], [2], [3], [4]]


def test_rows_that_are_nearly_an_exemplar_are_not_left_out() -> None:
    vae = model()
    moved = vae.prior.latents + 1e-3
    assert (vae.prior.own_exemplars(moved) == -1).all()
    rounded = vae.prior.latents * (1 + 1e-7)  # by another size of block, or on another device
    assert vae.prior.own_exemplars(rounded).tolist() == list(range(N_EXEMPLARS))


def test_each_exemplar_is_drawn_as_often() -> None:
    exemplars = Exemplars(torch.arange(4.0)[:, None], torch.zeros(4, 2))
    assert exemplars.sample(torch.zeros(4, 1), torch.tensor([0.0, 0.3, 0.99, 1.0])).ravel().tolist() == [0, 1, 3, 3]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("members", torch.full((5, 4), 12.0), "must be indices of its 12 exemplars"),
        ("members", torch.full((5, 4), -1.0), "must be indices of its 12 exemplars"),
        ("members", torch.full((5, 4), 0.5), "must be indices of its 12 exemplars"),
        ("members", torch.full((5, 4), math.nan), "must be indices of its 12 exemplars"),
        ("weight", torch.tensor(1.5), "must lie in"),
        ("weight", torch.tensor(-0.5), "must lie in"),
        ("weight", torch.tensor(math.nan), "must lie in"),
    ],
)
def test_buffers_that_would_fail_later_are_refused(name: str, value: Tensor, message: str) -> None:
    buffers = dict(model().prior.state_dict())
    with pytest.raises(ValueError, match=message):
        check_values(Exemplars.from_buffers(buffers | {name: value}, D, D))


def test_files_from_before_small_sets_score_as_they_did() -> None:
    vae, x = model(), random(9, D, seed=1)
    rows = vae.prior.latents
    vae.prior = Exemplars.from_buffers({"latents": rows, "decoded": rows}, D, D)
    check_values(vae)
    assert vae.prior.state_dict().keys() == {"latents", "decoded"}
    np.testing.assert_allclose(elbo(vae, x), log_density(x, rows, 0.3))
