"""Columns of several kinds: sums over levels and integrals over numbers are one, and gaps are integrated out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vae_anomaly.model.likelihoods.mixed import Mixed
from vae_anomaly.model.priors.exemplars import terms_of_pairs

N_NUMERIC, SIZES = 1, (3, 2)
GRID = torch.linspace(-30, 30, 6_001, dtype=torch.float64)
STEP = float(GRID[1] - GRID[0])


def mixed() -> Mixed:
    p = Mixed(N_NUMERIC, SIZES).double()
    p.variance.fill_(0.7)
    return p


def decoder_output(n: int, *, own_variance: bool = False, seed: int = 0) -> Tensor:
    """Parameters of n distributions; those of exemplars have log-variances too."""
    width = N_NUMERIC + sum(SIZES) + N_NUMERIC * own_variance
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def units(number: Tensor, first: int | None, second: int | None) -> Tensor:
    """Rows with these numbers ``(n,)`` and the same level of each category, None for a gap."""
    x = torch.zeros(len(number), N_NUMERIC + sum(SIZES), dtype=torch.float64)
    x[:, 0] = number
    for start, level in ((1, first), (4, second)):
        if level is not None:
            x[:, start + level] = 1
    return x


def everything(density_of) -> float:
    """Integral over the number, sum over all pairs of levels."""
    return sum(
        float(density_of(units(GRID, first, second)).sum()) * STEP
        for first in range(SIZES[0])
        for second in range(SIZES[1])
    )


GAP = torch.tensor([math.nan], dtype=torch.float64)
HERE = torch.tensor([0.4], dtype=torch.float64)


def check_gaps_are_integrated_out(density_of) -> None:
    """A row with a gap has the density of all rows that fill it."""
    of_number = float(density_of(units(GRID, 1, 0)).sum()) * STEP
    assert float(density_of(units(GAP, 1, 0))) == pytest.approx(of_number, rel=1e-6)
    of_levels = sum(float(density_of(units(HERE, level, 0))) for level in range(SIZES[0]))
    assert float(density_of(units(HERE, None, 0))) == pytest.approx(of_levels, rel=1e-9)
    assert float(density_of(units(GAP, None, None))) == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("own_variance", [False, True])
def test_a_row_given_its_latent_is_a_distribution(own_variance: bool) -> None:
    p, decoded = mixed(), decoder_output(1, own_variance=own_variance)

    def density(x: Tensor) -> Tensor:
        return p.log_prob(x, decoded).exp()

    assert everything(density) == pytest.approx(1, rel=1e-6)
    check_gaps_are_integrated_out(density)


@pytest.mark.parametrize("own_variance", [False, True])
def test_a_mixture_of_exemplars_is_a_distribution(own_variance: bool) -> None:
    p, decoded = mixed(), decoder_output(5, own_variance=own_variance)

    def density(x: Tensor) -> Tensor:
        log_p = p.log_prob_of_pairs(x, decoded)[:, None]
        reconstruction, kl = terms_of_pairs(log_p.clone(), torch.tensor(5), log_p.dtype)
        return (reconstruction - kl)[:, 0].exp()

    assert everything(density) == pytest.approx(1, rel=1e-5)
    check_gaps_are_integrated_out(density)


def rows_with_gaps() -> Tensor:
    number = torch.tensor([0.1, math.nan, -2.0, 1e3], dtype=torch.float64)
    rows = [units(number[i : i + 1], *levels) for i, levels in enumerate([(0, 1), (2, None), (None, 0), (None, None)])]
    return torch.cat(rows)


@pytest.mark.parametrize("own_variance", [False, True])
def test_pairs_and_parts_agree_with_one_row_and_one_exemplar_at_a_time(own_variance: bool) -> None:
    p, x, decoded = mixed(), rows_with_gaps(), decoder_output(5, own_variance=own_variance)
    one_by_one = torch.stack([p.log_prob(x, mean.expand(len(x), -1)) for mean in decoded], dim=1)
    pairs = p.log_prob_of_pairs(x, decoded)
    np.testing.assert_allclose(pairs, one_by_one, rtol=1e-9)
    r = torch.softmax(pairs, dim=1)
    reconstruction, kl = (term[:, 0] for term in terms_of_pairs(pairs[:, None].clone(), torch.tensor(5), pairs.dtype))
    np.testing.assert_allclose(p.mean_log_prob_of_features(x, decoded, r).sum(dim=1), reconstruction, rtol=1e-9)
    np.testing.assert_allclose(torch.xlogy(r, 5 * r).sum(dim=1), kl, atol=1e-9)


@pytest.mark.parametrize("own_variance", [False, True])
@pytest.mark.parametrize("spread", [1.0, 4.0])
def test_wider_noise_is_a_distribution_too(own_variance: bool, spread: float) -> None:
    p, decoded = mixed(), decoder_output(1, own_variance=own_variance)
    wide, parameters = p.widened(decoded, torch.tensor(spread).double())

    def density(x: Tensor) -> Tensor:
        return wide.log_prob(x, parameters).exp()

    assert everything(density) == pytest.approx(1, rel=1e-4)
    check_gaps_are_integrated_out(density)
    x = units(HERE, 0, 1)
    before, after = (q.variance_of_features(x, d)[:, 0] for q, d in ((p, decoded), (wide, parameters)))
    np.testing.assert_allclose(after, spread * before)


def test_moments_over_exemplars_are_those_of_their_mixture() -> None:
    p, x, decoded = mixed(), units(HERE, 0, 1), decoder_output(3, own_variance=True)
    weights = torch.tensor([[0.5, 0.2, 0.3]], dtype=torch.float64)
    mean, variance, _ = p.mixture_moments(x, decoded, weights)
    means, variances = decoded[:, 0], decoded[:, -1].exp()
    expected = weights @ means
    assert float(mean[0, 0]) == pytest.approx(float(expected))
    assert float(variance[0, 0]) == pytest.approx(float(weights @ (means.square() + variances) - expected**2))
    for start, size in ((1, 3), (4, 2)):
        probabilities = torch.softmax(decoded[:, start : start + size], dim=1)
        np.testing.assert_allclose(mean[:, start : start + size], weights @ probabilities)
        assert float(mean[0, start : start + size].sum()) == pytest.approx(1)


def test_a_gap_costs_nothing_and_has_no_entropy() -> None:
    p, x, decoded = mixed(), units(GAP, None, None), decoder_output(1)
    assert not p.log_prob_of_features(x, decoded).any()
    assert not p.entropy_of_features(x, decoded).any()


def test_its_variance_leaves_gaps_out() -> None:
    p, decoded = mixed(), torch.zeros(3, 6, dtype=torch.float64)
    x = torch.cat([units(torch.tensor([3.0, -3.0], dtype=torch.float64), 0, 0), units(GAP, 0, 0)])
    p.learn(x, decoded, 1.0)
    assert p.variance.tolist() == [9.0]
