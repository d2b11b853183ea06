"""A fitted mixture: as many components as held-out rows ask for, and the spread of the highest ELBO."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch

from helpers import Make
from vae_anomaly import VAEDetector
from vae_anomaly.fitting.mixture import COMPONENTS, ROWS_PER_COMPONENT, fit_mixture, fit_spread
from vae_anomaly.model.networks.base import Posterior
from vae_anomaly.model.priors.mixture import Mixture
from vae_anomaly.model.vae import VAE

LinearVAE = Callable[[torch.Tensor], VAE]
NearAPlane = Callable[..., tuple[torch.Tensor, torch.Tensor]]


def clusters(n: int, k: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)) + 12 * np.array([[i % 3, i // 3] for i in range(k)])[rng.integers(0, k, n)]


def test_held_out_rows_choose_the_number_of_components() -> None:
    n = 5 * ROWS_PER_COMPONENT * 4
    spread = np.full((n, 2), 0.1)
    one = fit_mixture(clusters(n, 1, 0), clusters(300, 1, 1), spread, seed=0)
    several = fit_mixture(clusters(n, 5, 0), clusters(300, 5, 1), spread, seed=0)
    assert len(one.means) == COMPONENTS[0]
    assert len(several.means) == COMPONENTS[1]
    np.testing.assert_allclose(several.sigma, [0.1, 0.1])
    few = fit_mixture(clusters(100, 5, 0), clusters(300, 5, 1), spread[:100], seed=0)
    assert len(few.means) == 1


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_or_equal_latent_means_make_a_prior(n: int) -> None:
    prior = fit_mixture(np.zeros((n, 3)), np.zeros((1, 3)), np.ones((n, 3)), seed=0)
    assert torch.isfinite(prior.kl(prior.posterior(Posterior(*torch.ones(3, 6, 3).double())))).all()


def test_the_spread_is_that_of_the_highest_elbo(linear_vae: LinearVAE, rows_near_a_plane: NearAPlane) -> None:
    x, basis = rows_near_a_plane(3000, noise=0.4)
    vae = linear_vae(basis)
    scale = torch.tensor([3.0, 0.5]).double()
    prior = Mixture(
        torch.zeros(1).double(),
        torch.zeros(1, 2).double(),
        torch.diag(1 / scale)[None],
        torch.full((2,), 0.01).double(),
    )
    vae.prior = prior
    vae.likelihood.fit_after_training(x, vae.decode(vae.encode(x).mu), x)
    before = {name: weight.clone() for name, weight in vae.named_parameters()}
    fit_spread(vae, prior, x, torch.Generator().manual_seed(1))
    v = vae.likelihood.variance
    # of q = N(mu, s^2), p(z) = N(0, scale^2) and a decoder that keeps lengths: 1/s^2 = 1/scale^2 + 1/v
    np.testing.assert_allclose(prior.sigma, (scale**-2 + 1 / v).rsqrt(), rtol=0.1)
    residual = (x - x @ basis @ basis.T).square().sum(dim=1).mean() + prior.sigma.square().sum()
    assert v.item() == pytest.approx(residual.item() / 8, rel=0.05)
    assert all(torch.equal(weight, before[name]) for name, weight in vae.named_parameters())


def root_mean_square_spread(detector: VAEDetector, X: np.ndarray) -> torch.Tensor:
    x = detector.vae_.scaling(torch.from_numpy(X).reshape(len(X), -1).float())
    return detector.vae_.encode(x).sigma.square().mean(dim=0).sqrt()


def test_a_fitted_spread_makes_the_bound_tighter(image_detector: VAEDetector, make_images: Make) -> None:
    vae = copy.deepcopy(image_detector.vae_)
    held_out, x = (
        vae.scaling(torch.from_numpy(make_images(200, seed=seed)).reshape(200, -1).float()) for seed in (6, 5)
    )
    prior = vae.prior
    assert isinstance(prior, Mixture)
    with torch.no_grad():
        # of 54 rows there were too few held out to fit one
        np.testing.assert_allclose(prior.sigma, root_mean_square_spread(image_detector, make_images()), rtol=0.05)
    fit_spread(vae, prior, held_out, torch.Generator().manual_seed(0))
    with torch.no_grad():
        encoded = vae.encode(x)
        own = encoded.sigma.square().mean(dim=0).sqrt()

        def mean_elbo(sigma: torch.Tensor) -> float:
            q = Posterior(encoded.mu, sigma.expand_as(encoded.mu), 2 * sigma.log().expand_as(encoded.mu))
            generator = torch.Generator().manual_seed(0)
            draws = torch.randn(20, *q.mu.shape, generator=generator)
            log_p = torch.stack([vae.likelihood.log_prob(x, vae.decode(vae.rsample(q, eps))) for eps in draws])
            return float(log_p.mean() - prior.kl(q).mean())

        assert mean_elbo(prior.sigma) > mean_elbo(own) + 1
