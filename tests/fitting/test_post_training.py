"""What is fitted after training comes from the rows it should, and never from those that calibrate."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch

from vae_anomaly import VAEDetector
from vae_anomaly.fitting.post_training import MAX_EXEMPLARS, MORE_ROWS, best_variance, fit_exemplars, fit_spread
from vae_anomaly.model.likelihoods import Gaussian
from vae_anomaly.model.networks import Posterior
from vae_anomaly.model.priors import Mixture
from vae_anomaly.model.scaling import Scaling
from vae_anomaly.model.vae import VAE

Make = Callable[..., np.ndarray]


def test_exemplars_are_all_rows_but_those_that_calibrate(make_table: Make) -> None:
    X = make_table(50)
    detector = VAEDetector(epochs=1).fit(X)
    prior = detector.vae_.prior
    assert len(prior.latents) == 45
    known = detector.transform(X)
    matches = (torch.from_numpy(known)[:, None] == prior.latents).all(dim=-1)
    assert matches.any(dim=0).all()
    calibrates = ~matches.any(dim=1).numpy()
    np.testing.assert_array_equal(np.sort(detector.score_samples(X[calibrates])), np.sort(detector.calibration_scores_))


def test_exemplars_are_bounded_in_number(make_table: Make) -> None:
    detector = VAEDetector(epochs=1).fit(make_table(MORE_ROWS + 1000))
    assert len(detector.vae_.prior.latents) == MORE_ROWS
    detector = VAEDetector(epochs=1).fit(make_table(MAX_EXEMPLARS + 500, 600))
    assert len(detector.vae_.prior.latents) == MAX_EXEMPLARS


@pytest.mark.parametrize(("n", "held_out_decides"), [(2000, True), (90, False)])
def test_variance_is_that_of_held_out_rows_where_there_are_enough(
    make_table: Make, n: int, held_out_decides: bool
) -> None:
    training, held_out = make_table(n)[: n - n // 10], 5 * make_table(n)[n - n // 10 :]
    X = np.concatenate([training, held_out])

    class Detector(VAEDetector):
        def _split(self, rows, generator):  # the last tenth stops the training, the one before calibrates
            tenth = len(rows) // 10
            return rows[: -2 * tenth], rows[-tenth:], rows[-2 * tenth : -tenth]

    variance = float(Detector(epochs=1).fit(X).vae_.likelihood.variance)
    assert (variance > 5) == held_out_decides


class Projection(torch.nn.Module):
    """Encodes rows by an orthonormal basis ``(D, L)``, with a small spread; its transpose decodes."""

    def __init__(self, basis: torch.Tensor) -> None:
        super().__init__()
        self.basis = basis

    def forward(self, x: torch.Tensor) -> Posterior:
        mu = x @ self.basis
        return Posterior(mu, torch.full_like(mu, 0.01), torch.full_like(mu, 2 * np.log(0.01)))


class Injection(Projection):
    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z @ self.basis.T


def linear_vae(basis: torch.Tensor) -> VAE:
    scaling = Scaling(torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64))
    return VAE(Projection(basis), Injection(basis), Gaussian().double(), scaling)


def rows_near_a_plane(n: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(8, 2, generator=generator, dtype=torch.float64)).Q
    z = torch.randn(n, 2, generator=generator, dtype=torch.float64) * torch.tensor([3.0, 0.5])
    return z @ basis.T + noise * torch.randn(n, 8, generator=generator, dtype=torch.float64), basis


def test_the_spread_is_that_of_the_highest_elbo() -> None:
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
    vae.likelihood.settle(x, vae.decode(vae.encode(x).mu), x)
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


@pytest.mark.parametrize("held_out", [True, False])
def test_exemplars_remember_what_the_decoder_misses_and_smooth_what_is_noise(held_out: bool) -> None:
    x, basis = rows_near_a_plane(800, noise=0.3)
    rows, others = x[:700].numpy(), x[700:] if held_out else None
    of_training = np.arange(700) < 650

    def share(basis: torch.Tensor) -> float:
        vae = linear_vae(basis)
        fit_exemplars(vae, rows, of_training, others)
        residual = x[:700] - vae.reconstruct(x[:700])
        moved = vae.prior.decoded - vae.reconstruct(x[:700])
        shares = (moved * residual).sum(dim=1) / residual.square().sum(dim=1)
        np.testing.assert_allclose(moved, shares.mean() * residual, atol=1e-9)
        return float(shares.mean())

    assert share(basis) <= 0.125  # noise alone is left
    assert share(basis[:, 1:]) > 0.5  # the direction of the largest variance is left out


def test_the_variance_of_exemplars_has_the_highest_density() -> None:
    generator = torch.Generator().manual_seed(0)
    squared = torch.randn(40, 30, 5, generator=generator, dtype=torch.float64).square().sum(dim=2)
    variance, density = best_variance(squared, 5, floor=1e-6)

    def log_density(v: torch.Tensor) -> float:
        return float((torch.logsumexp(-0.5 * squared / v, dim=1) - 2.5 * torch.log(v)).mean())

    assert density == pytest.approx(log_density(variance))
    assert density > max(log_density(0.8 * variance), log_density(1.25 * variance))
    assert best_variance(torch.zeros(3, 2).double(), 5, floor=1e-6)[0].item() == pytest.approx(1e-6)
    beyond_single_precision = torch.tensor([[1e80, 2e80]], dtype=torch.float64)
    assert best_variance(beyond_single_precision, 5, floor=1e-6)[0].item() == pytest.approx(2e79)


@pytest.mark.parametrize("n", [3, 4])
def test_few_or_equal_rows_settle(n: int) -> None:
    for X in (np.zeros((n, 4)), np.eye(n, 4), np.zeros((n, 8, 8)), np.eye(8)[None].repeat(n, 0)):
        assert np.isfinite(VAEDetector(epochs=1).fit(X).score_samples(X)).all()
