r"""Evidence: the terms of a row's ELBO, feature by feature and latent by latent.

.. math::

    \mathrm{ELBO}(x) = \sum_d E_q[\log p(x|z)]_d - \sum_j \mathrm{KL}_j

Both terms are sums already: of what each feature costs under the likelihood, and each latent under the prior. What
belongs to no single one (a determinant, the choice of a mixture's component) is spread evenly. Nothing is approximated
and no gradient is taken, so the shares add up to the terms. The prior computes them
(`vae_anomaly.model.priors.base.Prior.parts`); here they get the units of the data.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from vae_anomaly.model.vae import VAE


class Explanation(NamedTuple):
    """Where the ELBO of each of N samples comes from; all fields float64, images as flat rows of D features.

    Attributes
    ----------
    reconstruction
        ``(N, D)``: each feature's share of the reconstruction term, in nats. Rows sum to that of ``elbo_terms``.
    kl
        ``(N, L)``: each latent's share of the KL term, in nats. Rows sum to that of ``elbo_terms``; with a mixture
        prior a share can be negative. With exemplars as prior the latent variable takes n values instead of having L
        coordinates: then ``(N, n)``, the share r log(n r) of each exemplar by its responsibility r.
    expected
        ``(N, D)``: what the model expects of this sample, in the units of the data: the likelihood's mean, averaged
        over the fixed draws or, by responsibility, over the exemplars.
    spread
        ``(N, D)``: the standard deviation that the model expects around it, in the units of the data: the likelihood's
        variance plus that of its mean over draws or exemplars. Under correlated noise a single pixel may be far off if
        its neighbours are off the other way, so the spread is many times the residuals that images have.
    excess
        ``(N, D)``: nats that the feature costs beyond its entropy, which is what the likelihood itself predicts. Zero
        on average for a sample that p(x|z) drew; the higher, the more suspicious. Under correlated noise, whose
        variance counts fewer observations than there are pixels, it is below zero for most pixels, and the differences
        between them matter.
    """

    reconstruction: np.ndarray
    kl: np.ndarray
    expected: np.ndarray
    spread: np.ndarray
    excess: np.ndarray


def explain(vae: VAE, x: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
    """The fields of an `Explanation` of scaled rows ``(N, D)``, in its order; ``noise`` as for `elbo_terms`."""
    parts = vae.prior.parts(vae, x, noise)
    scaling = vae.scaling
    reconstruction = scaling.to_features(parts.reconstruction)
    excess = scaling.to_features(-parts.reconstruction - parts.entropy)
    spread = scaling.spread(parts.mean, parts.variance)
    return reconstruction, parts.kl, scaling.inverse(parts.mean), spread, excess


def posterior_mean(vae: VAE, x: Tensor, noise: Tensor) -> tuple[Tensor]:
    """Means of q(z|x), ``(n, latent_dim)``."""
    return (vae.encode(x).mu,)


def reconstruction(vae: VAE, x: Tensor, noise: Tensor) -> tuple[Tensor]:
    """Means of p(x|z) at the posterior means, ``(n, D)``, in the units of the data."""
    return (vae.scaling.inverse(vae.reconstruct(x)),)
