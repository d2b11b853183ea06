"""What a model remembers: the same tensors for the same arguments, nothing where gradients flow, nothing by itself."""

from __future__ import annotations

import torch

from random_models import random_vae
from vae_anomaly.model.elbo import elbo_terms
from vae_anomaly.model.priors.exemplars import sets_of, sorted_keys_of

X = torch.rand(4, 6, dtype=torch.float64)
NOISE = torch.randn(2, 1, 3, dtype=torch.float64)


@torch.no_grad()
def test_a_model_that_remembers_gives_the_tensor_that_it_computed() -> None:
    vae = random_vae((6,)).remembering()
    assert vae.encode(X) is vae.encode(X)
    assert elbo_terms(vae, X, NOISE) is elbo_terms(vae, X, NOISE)
    assert vae.decode(NOISE[0]) is vae.decode(NOISE[0])  # two views of the same numbers


@torch.no_grad()
def test_other_tensors_have_results_of_their_own() -> None:
    plain = random_vae((6,))
    vae = plain.remembering()
    assert vae.encode(X) is not vae.encode(X.clone())
    assert vae.encode(X) is not vae.remembering().encode(X)
    for rows in (X[:2], X[2:], X[:, [5, 4, 3, 2, 1, 0]], X.flip(0)):
        for mine, expected in zip(vae.encode(rows), plain.encode(rows), strict=True):
            torch.testing.assert_close(mine, expected, rtol=0, atol=0)


@torch.no_grad()
def test_what_is_freed_is_not_taken_for_what_comes_to_lie_there() -> None:
    plain = random_vae((6,))
    vae = plain.remembering()
    for value in range(50):
        rows = torch.full((4, 6), float(value), dtype=torch.float64)
        torch.testing.assert_close(vae.encode(rows).mu, plain.encode(rows).mu, rtol=0, atol=0)


@torch.no_grad()
def test_another_likelihood_shares_the_posterior_alone() -> None:
    vae = random_vae((3, 2, 1), likelihood="correlated_gaussian").remembering()
    twin = vae.as_density()
    assert twin.encode(X) is vae.encode(X)
    assert (elbo_terms(twin, X, NOISE)[0] != elbo_terms(vae, X, NOISE)[0]).all()


@torch.no_grad()
def test_what_concerns_no_row_is_computed_once_for_all_blocks() -> None:
    vae = random_vae((6,), prior="exemplars")
    assert sets_of(vae, vae.prior) is not sets_of(vae, vae.prior)
    vae = vae.for_all_blocks()
    assert sets_of(vae.remembering(), vae.prior) is sets_of(vae.remembering(), vae.prior)
    assert sets_of(vae, vae.prior) is not sets_of(vae.for_all_blocks(), vae.prior)
    assert sorted_keys_of(vae.remembering(), vae.prior) is sorted_keys_of(vae, vae.prior)
    assert vae.encode(X) is not vae.encode(X)


def test_nothing_is_remembered_by_itself_or_where_gradients_are_recorded() -> None:
    vae = random_vae((6,))
    with torch.no_grad():
        assert vae.encode(X) is not vae.encode(X)
    assert vae.remembering().encode(X).mu.requires_grad
    remembering = vae.remembering()
    assert remembering.encode(X) is not remembering.encode(X)
