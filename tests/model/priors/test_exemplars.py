"""Exemplars as a prior: the terms are the evidence, exactly."""

from __future__ import annotations

import math

import numpy as np
import torch

from vae_anomaly.model.priors.exemplars import Exemplars


def test_shares_of_exemplars_sum_to_the_kl() -> None:
    log_p = torch.randn(8, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    prior = Exemplars(torch.zeros(5, 2).double(), torch.zeros(5, 3).double())
    r, shares = prior.responsibilities(log_p)
    np.testing.assert_allclose(r.sum(dim=1), 1)
    np.testing.assert_allclose(shares.sum(dim=1), prior.terms_of_pairs(log_p)[1])
    np.testing.assert_allclose(shares, r * torch.log(5 * r))


def test_terms_of_exemplars_are_the_evidence() -> None:
    log_p = torch.randn(8, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 30
    reconstruction, kl = Exemplars(torch.zeros(5, 2), torch.zeros(5, 3)).terms_of_pairs(log_p)
    np.testing.assert_allclose(reconstruction - kl, torch.logsumexp(log_p, dim=1) - math.log(5))
    assert (kl >= 0).all()
    assert (kl <= math.log(5) + 1e-12).all()
    far = torch.full((1, 5), -1e30)
    assert all(
        torch.isfinite(term).all() for term in Exemplars(torch.zeros(5, 2), torch.zeros(5, 3)).terms_of_pairs(far)
    )


def test_each_exemplar_is_drawn_as_often() -> None:
    exemplars = Exemplars(torch.arange(4.0)[:, None], torch.zeros(4, 2))
    assert exemplars.sample(torch.zeros(4, 1), torch.tensor([0.0, 0.3, 0.99, 1.0])).ravel().tolist() == [0, 1, 3, 3]
