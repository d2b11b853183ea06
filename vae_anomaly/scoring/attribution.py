r"""Evidence: the terms of a row's ELBO, feature by feature and latent by latent.

.. math::

    \mathrm{ELBO}(x) = \sum_d E_q[\log p(x|z)]_d - \sum_j \mathrm{KL}_j

Both terms are sums already, of what each feature costs under the likelihood and each latent under the prior; what
belongs to no single one (a determinant, the choice of a mixture's component) is spread evenly. Nothing is
approximated, and no gradient is taken: shares add up to the terms.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vae_anomaly.model.elbo import log_prob_of_exemplars
from vae_anomaly.model.likelihoods import Gaussian, weighted_moments
from vae_anomaly.model.priors import Exemplars
from vae_anomaly.model.vae import VAE


class Explanation(NamedTuple):
    """Where each of N samples' ELBO comes from; all fields float64, images as flat rows of D features.

    Attributes
    ----------
    reconstruction
        ``(N, D)``: each feature's share of the reconstruction term, nats. Rows sum to that of ``elbo_terms``.
    kl
        ``(N, L)``: each latent's share of the KL term, nats. Rows sum to that of ``elbo_terms``; with a mixture prior
        a share can be negative. With exemplars as prior the latent variable takes n values instead of having L
        coordinates: then ``(N, n)``, the share r log(n r) of each exemplar by its responsibility r.
    expected
        ``(N, D)``: what the model expects of this sample, in the units of the data: the likelihood's mean, averaged
        over the fixed draws or by the exemplars' responsibilities.
    spread
        ``(N, D)``: the standard deviation that the model expects around it, in the units of the data: the likelihood's
        variance plus that of its mean over draws or exemplars. Under correlated noise a single pixel may stray far
        with its neighbours against it, so that there the spread is many times the residuals that images have.
    excess
        ``(N, D)``: nats that the feature costs beyond what the likelihood itself predicts, which is its entropy: zero
        on average for a sample that p(x|z) drew; the higher, the more suspicious. Under correlated noise, whose
        variance is one for fewer pixels than there are, it is below zero for most, and differences between pixels tell.
    """

    reconstruction: np.ndarray
    kl: np.ndarray
    expected: np.ndarray
    spread: np.ndarray
    excess: np.ndarray


class Parts(NamedTuple):
    """Shares of both terms in nats, and mean, variance and entropy of each feature in scaled units; float64 tensors."""

    reconstruction: Tensor
    kl: Tensor
    mean: Tensor
    variance: Tensor
    entropy: Tensor


def explain(vae: VAE, x: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
    """The fields of an `Explanation` for scaled rows ``(N, D)``, in its order; ``noise`` as for `elbo_terms`."""
    prior = vae.prior
    parts = parts_by_exemplar(vae, prior, x) if isinstance(prior, Exemplars) else parts_by_draw(vae, x, noise)
    spread = parts.variance.sqrt() * vae.scaling.scale.double()
    excess = -parts.reconstruction - parts.entropy
    return parts.reconstruction, parts.kl, vae.scaling.inverse(parts.mean), spread, excess


def parts_by_draw(vae: VAE, x: Tensor, noise: Tensor) -> Parts:
    """Means over the draws."""
    p = vae.likelihood
    posterior = vae.prior.posterior(vae.encode(x))
    decoded = [vae.decode(vae.rsample(posterior, eps)) for eps in noise]

    def average(function: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        return reduce(torch.add, (function(x, d).double() for d in decoded)) / len(decoded)

    mean = average(lambda x, d: p.mean(d))
    return Parts(
        average(p.log_prob_of_features),
        vae.prior.kl_of_latents(posterior).double(),
        mean,
        average(p.variance_of_features) + average(lambda x, d: (p.mean(d) - mean).square()),
        average(p.entropy_of_features),
    )


def parts_by_exemplar(vae: VAE, prior: Exemplars, x: Tensor) -> Parts:
    """Means over the exemplars, by their responsibilities."""
    r, kl = prior.responsibilities(log_prob_of_exemplars(vae, prior, x))
    p = vae.likelihood
    assert isinstance(p, Gaussian)  # or the line above had raised
    mean, variance = weighted_moments(prior.decoded, r)
    return Parts(
        p.mean_log_prob_of_features(x, prior.decoded, r),
        kl,
        mean,
        variance + p.variance_of_features(x, mean),
        p.entropy_of_features(x, mean).double(),
    )
