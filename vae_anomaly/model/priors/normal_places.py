r"""The standard normal for each place of a map of latents, its KL term weighted as the likelihood weighs the place.

.. math::

    \mathrm{KL} = \sum_i w_i \, \mathrm{KL}(q_i(z_i|x) \,\|\, N(0, I)), \qquad
    w_i = \frac1q \sum_{d \in i} \frac{1}{c_d},

with :math:`c_d` the number of places that cover pixel d, and q the pixels of a patch. A place whose pixels are looked
at :math:`c` times counts :math:`1 / c` in the likelihood (`vae_anomaly.model.likelihoods.patches_gaussian`), and so it
does here: where all pixels are covered alike, the ELBO is the sum of the places' own ELBOs divided by c. It bounds a
composite log-likelihood. With one place the weight is one, and this is the standard normal.

References
----------
An overview of composite likelihood methods (Varin, Reid & Firth, 2011), Statistica Sinica 21
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from vae_anomaly.model.networks.base import Posterior
from vae_anomaly.model.priors.base import DensityPrior
from vae_anomaly.model.priors.standard_normal import StandardNormal
from vae_anomaly.registry import PRIORS


@PRIORS.register("normal_places", brought_by="patches", stands_for="normal")
class NormalPlaces(DensityPrior):
    """N(0, I) at every place, each place weighted by how often its pixels are covered.

    Parameters
    ----------
    weights : Tensor
        ``(n_places,)``, positive.
    """

    shapes: ClassVar[Mapping[str, tuple[str, ...]]] = {"weights": ("n_places",)}
    positive_buffers: ClassVar[frozenset[str]] = frozenset({"weights"})

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights)
        self.weights: Tensor

    @classmethod
    def limits(cls, latent_dim: int, n_parameters: int) -> Mapping[str, int]:
        return {"n_places": latent_dim}

    def as_density(self) -> StandardNormal:
        return StandardNormal()

    def weighted(self, of_latents: Tensor) -> Tensor:
        """Numbers of latents ``(N, latent_dim)``, each multiplied by the weight of its place."""
        places = of_latents.reshape(*of_latents.shape[:-1], len(self.weights), -1)
        return (places * self.weights[:, None]).flatten(-2)

    def log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * self.weighted(z.square() + math.log(2 * math.pi)).sum(dim=-1)

    def kl(self, posterior: Posterior) -> Tensor:
        return self.kl_of_latents(posterior).sum(dim=-1)

    def kl_of_latents(self, posterior: Posterior) -> Tensor:
        mu, sigma, log_var = posterior
        return self.weighted(0.5 * (mu.square() + sigma.square() - log_var - 1))

    def log_posterior(self, noise: Tensor, posterior: Posterior) -> Tensor:
        return -0.5 * self.weighted(noise.square() + posterior.log_var + math.log(2 * math.pi)).sum(dim=-1)

    def sample(self, noise: Tensor, uniform: Tensor) -> Tensor:
        return noise
