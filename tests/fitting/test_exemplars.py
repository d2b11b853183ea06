"""Fitted exemplars: which rows they are, and the variance and means of the highest density."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from helpers import TABLE_SCORES, Make
from vae_anomaly import VAEDetector
from vae_anomaly.fitting.exemplars import best_variance, fit_exemplars
from vae_anomaly.fitting.fit import FEW_ROWS
from vae_anomaly.fitting.prior_fit import FittingRows
from vae_anomaly.model.priors.exemplars import MAX_EXEMPLARS, MORE_EXEMPLARS
from vae_anomaly.model.vae import VAE
from vae_anomaly.registry import SCORES

LinearVAE = Callable[[torch.Tensor], VAE]
NearAPlane = Callable[..., tuple[torch.Tensor, torch.Tensor]]


def test_exemplars_are_all_rows_but_those_that_calibrate(make_table: Make) -> None:
    X = make_table(FEW_ROWS)
    detector = VAEDetector(epochs=1).fit(X)
    prior = detector.vae_.prior
    assert len(prior.latents) == 0.9 * FEW_ROWS
    known = detector.transform(X)
    matches = (torch.from_numpy(known)[:, None] == prior.latents).all(dim=-1)
    assert matches.any(dim=0).all()
    calibrates = ~matches.any(dim=1).numpy()
    np.testing.assert_array_equal(np.sort(detector.score_samples(X[calibrates])), np.sort(detector.calibration_scores_))


def test_of_few_rows_all_are_exemplars_and_all_calibrate(make_table: Make) -> None:
    X = make_table(200)
    detector = VAEDetector(epochs=1).fit(X)
    assert len(detector.vae_.prior.latents) == 200
    assert (detector.vae_.prior.own_exemplars(torch.from_numpy(detector.transform(X))) >= 0).all()
    np.testing.assert_array_equal(detector.calibration_scores_, detector.score_samples(X))
    alone = set(TABLE_SCORES) - set(SCORES.where(leaves_out_own_row=True))
    assert {len(detector.held_out_scores_[name]) for name in alone} == {20}


def test_exemplars_are_bounded_in_number(make_table: Make) -> None:
    detector = VAEDetector(epochs=1).fit(make_table(MORE_EXEMPLARS + 1000))
    assert len(detector.vae_.prior.latents) == MORE_EXEMPLARS
    detector = VAEDetector(epochs=1).fit(make_table(MAX_EXEMPLARS + 500, 600))
    assert len(detector.vae_.prior.latents) == MAX_EXEMPLARS


@pytest.mark.parametrize("held_out", [True, False])
def test_exemplars_remember_what_the_decoder_misses_and_smooth_what_is_noise(
    linear_vae: LinearVAE, rows_near_a_plane: NearAPlane, held_out: bool
) -> None:
    x, basis = rows_near_a_plane(800, noise=0.3)
    rows, others = x[:700].numpy(), x[700:] if held_out else None
    of_training = np.arange(700) < 650

    def share(basis: torch.Tensor) -> float:
        vae = linear_vae(basis)
        fit_exemplars(vae, rows, of_training, others, FittingRows(None, None, vae.scaling, torch.Generator()))
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
    variance, density = best_variance(squared, 5)

    def log_density(v: torch.Tensor) -> float:
        return float((torch.logsumexp(-0.5 * squared / v, dim=1) - 2.5 * torch.log(v)).mean())

    assert density == pytest.approx(log_density(variance))
    assert density > max(log_density(0.8 * variance), log_density(1.25 * variance))
    r = torch.softmax(-0.5 * squared / variance, dim=1)  # a step of expectation maximisation stays where it is
    assert (r * squared).sum(dim=1).mean() / 5 == pytest.approx(float(variance), rel=1e-5)
    assert best_variance(torch.zeros(3, 2).double(), 5)[0].item() == pytest.approx(1e-6)
    beyond_single_precision = torch.tensor([[1e80, 2e80]], dtype=torch.float64)
    assert best_variance(beyond_single_precision, 5)[0].item() == pytest.approx(2e79)
