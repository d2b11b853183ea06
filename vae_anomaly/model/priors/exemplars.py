r"""The normals' own latent means, equally likely: log p(x) can be summed.

.. math::

    p(x) = \frac1n \sum_i p(x|z_i), \qquad r_i = \frac{p(x|z_i)}{\sum_j p(x|z_j)}

The prior that maximises the ELBO is the aggregated posterior of the training samples; here each sample's spread in it
is left out. The best posterior on n points is known, the responsibilities r, and no encoder has to guess it. With it
the bound is tight: the terms

.. math::

    E_r[\log p(x|z_i)] = \sum_i r_i \log p(x|z_i), \qquad \mathrm{KL} = \sum_i r_i \log(n \, r_i)

differ by log p(x) exactly. z takes n values here instead of having coordinates, so the KL term has a share for each
exemplar.

References
----------
VAE with a VampPrior (Tomczak & Welling, 2018), https://arxiv.org/abs/1705.07120
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from vae_anomaly.model.priors.base import Model, Parts, Prior
from vae_anomaly.registry import PRIORS

MAX_EXEMPLARS = 2_048
MORE_EXEMPLARS = 5_000  # where they have at most this number of values together:
EXEMPLAR_VALUES = 1_000_000
NEGLIGIBLE = -80.0  # the exponential of less may be a subnormal number, which takes many times as long


def most_exemplars(n_parameters: int) -> int:
    """How many a fit takes: 2,048, or up to 5,000 if they have at most a million values together."""
    return max(MAX_EXEMPLARS, min(MORE_EXEMPLARS, EXEMPLAR_VALUES // n_parameters))


@PRIORS.register("exemplars", needs_gaussian=True)
class Exemplars(Prior):
    """The normals' own latent means, equally likely.

    Parameters
    ----------
    latents
        ``(n, latent_dim)``.
    decoded
        The parameters of p(x|z_i), ``(n, D)``, or as many as the likelihood's ``exemplar_parameters``: the decoder's
        output for the latents, moved perhaps some way towards the rows that they encode.
    """

    shapes: ClassVar[Mapping[str, tuple[str, ...]]] = {"latents": ("n", "latent_dim"), "decoded": ("n", "n_parameters")}
    shares_of: ClassVar[str] = "exemplars"

    @classmethod
    def limits(cls, latent_dim: int, n_parameters: int) -> Mapping[str, int]:
        return {"n": most_exemplars(n_parameters)}

    def __init__(self, latents: Tensor, decoded: Tensor) -> None:
        super().__init__()
        self.register_buffer("latents", latents)
        self.register_buffer("decoded", decoded)
        self.latents: Tensor
        self.decoded: Tensor

    @property
    def values_per_row(self) -> int:
        return len(self.latents)

    def elbo_terms(self, vae: Model, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        return self.terms_of_pairs(vae.likelihood.log_prob_of_pairs(x, self.decoded))

    def importance_weighted_bound(self, vae: Model, x: Tensor, noise: Tensor) -> Tensor:
        log_p = vae.likelihood.log_prob_of_pairs(x, self.decoded)
        return torch.logsumexp(log_p, dim=1) - math.log(log_p.shape[1])

    def parts(self, vae: Model, x: Tensor, noise: Tensor) -> Parts:
        """Means over the exemplars, weighted by their responsibilities."""
        p = vae.likelihood
        r, kl = self.responsibilities(p.log_prob_of_pairs(x, self.decoded))
        return Parts(p.mean_log_prob_of_features(x, self.decoded, r), kl, *p.mixture_moments(x, self.decoded, r))

    def terms_of_pairs(self, log_p: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction term and KL term, ``(N,)`` float64 each, from log p(x|z_i), ``(N, n)`` float64."""
        top = log_p.amax(dim=1)
        below = (log_p - top[:, None]).to(self.latents.dtype).clamp_(min=NEGLIGIBLE)
        r = below.exp()
        total = r.sum(dim=1)
        mean = r.mul_(below).sum(dim=1) / total
        return top + mean, mean - total.log() + math.log(log_p.shape[1])

    def responsibilities(self, log_p: Tensor) -> tuple[Tensor, Tensor]:
        """Each exemplar's r_i, and its share r_i log(n r_i) of the KL term in nats, ``(N, n)`` float64 each."""
        log_r = torch.log_softmax(log_p, dim=1).double()
        r = log_r.exp()
        return r, r * (log_r + math.log(log_p.shape[1]))

    def sample(self, noise: Tensor, uniform: Tensor) -> Tensor:
        return self.latents[(uniform * len(self.latents)).long().clamp(max=len(self.latents) - 1)]
