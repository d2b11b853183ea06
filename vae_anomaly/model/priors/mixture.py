r"""A mixture of Gaussians in the latent space, with one posterior spread for all samples.

.. math::

    p(z) = \sum_k w_k N(z; m_k, S_k), \qquad S_k = L_k L_k^T, \qquad q(z|x) = N(\mu(x), \mathrm{diag}(\sigma^2))

The encoder's own spread is large for simple inputs, normal or not, which raises their ELBO. So one spread for all takes
its place in q(z|x), which may be any distribution: at first the root mean square of the normals' spreads, then the one
of their highest ELBO.

The KL to a mixture has no closed form. With :math:`\mathrm{KL}(q \,\|\, p_k)` to each component it is bounded by

.. math::

    \mathrm{KL}(q \,\|\, \textstyle\sum_k w_k p_k) \le -\log \sum_k w_k \exp(-\mathrm{KL}(q \,\|\, p_k)).

A component's density is evaluated after whitening: :math:`y = L_k^{-1} (z - m_k)` is standard normal under it, and
:math:`\log N(z; m_k, S_k) = \sum_j \log (L_k^{-1})_{jj} - \tfrac12 (y_j^2 + \log 2\pi)`.

References
----------
Approximating the Kullback Leibler divergence between Gaussian mixture models (Hershey & Olsen, 2007),
https://doi.org/10.1109/ICASSP.2007.366913
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from vae_anomaly.model.affine import affine
from vae_anomaly.model.networks.base import Posterior
from vae_anomaly.model.priors.base import DensityPrior
from vae_anomaly.registry import PRIORS

MAX_COMPONENTS = 200


@PRIORS.register("mixture")
class Mixture(DensityPrior):
    """Gaussians fitted to the latent means of the normals, with one posterior spread for all samples.

    Parameters
    ----------
    log_weights
        ``(K,)``.
    means
        ``(K, latent_dim)``.
    whitening
        ``(K, latent_dim, latent_dim)``: the lower triangular L^-1 of each component's covariance L L^T.
    sigma
        ``(latent_dim,)``: the posterior's standard deviations.
    """

    shapes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "log_weights": ("K",),
        "means": ("K", "latent_dim"),
        "whitening": ("K", "latent_dim", "latent_dim"),
        "sigma": ("latent_dim",),
    }
    positive_buffers: ClassVar[frozenset[str]] = frozenset({"sigma"})

    @classmethod
    def limits(cls, latent_dim: int, n_parameters: int) -> Mapping[str, int]:
        return {"K": MAX_COMPONENTS}

    def __init__(self, log_weights: Tensor, means: Tensor, whitening: Tensor, sigma: Tensor) -> None:
        super().__init__()
        # in rows, as a file gives them back: products of another layout may be rounded otherwise
        self.register_buffer("log_weights", log_weights.contiguous())
        self.register_buffer("means", means.contiguous())
        self.register_buffer("whitening", whitening.contiguous())
        self.register_buffer("sigma", sigma.contiguous())
        self.log_weights: Tensor
        self.means: Tensor
        self.whitening: Tensor
        self.sigma: Tensor

    @property
    def values_per_row(self) -> int:
        return self.means.numel()

    def components(self, z: Tensor) -> Tensor:
        """Log w_k N(z; m_k, S_k), ``(N, K)``."""
        whitened = affine(z - self.means[:, None], self.whitening).transpose(0, 1)
        log_det = self.whitening.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
        log_p = log_det - 0.5 * (whitened.square() + math.log(2 * math.pi)).sum(dim=-1)
        return self.log_weights + log_p

    def log_prob(self, z: Tensor) -> Tensor:
        return torch.logsumexp(self.components(z), dim=1)

    def posterior(self, encoded: Posterior) -> Posterior:
        sigma = self.sigma.expand_as(encoded.mu)
        return Posterior(encoded.mu, sigma, 2 * sigma.log())

    def kl(self, posterior: Posterior) -> Tensor:
        entropy = 0.5 * (posterior.log_var + math.log(2 * math.pi) + 1).sum(dim=-1)
        return -entropy - torch.logsumexp(self.expected_components(posterior), dim=1)

    def expected_components(self, posterior: Posterior) -> Tensor:
        """Log w_k + E_q[log N(z; m_k, S_k)], ``(N, K)``."""
        precision = self.whitening.square().sum(dim=-2)  # its diagonal, (K, latent_dim)
        spread = 0.5 * (posterior.sigma.square()[:, None] * precision).sum(dim=-1)
        return self.components(posterior.mu) - spread

    def kl_of_one_spread(self, components: Tensor, sigma: Tensor) -> Tensor:
        """`kl` ``(N,)`` of rows that share a spread ``(latent_dim,)``, from `components` ``(N, K)`` of their means."""
        entropy = (sigma.log() + 0.5 * (math.log(2 * math.pi) + 1)).sum()
        spread = 0.5 * (self.whitening.square().sum(dim=-2) * sigma.square()).sum(dim=-1)
        return -entropy - torch.logsumexp(components - spread, dim=1)

    def kl_of_latents(self, posterior: Posterior) -> Tensor:
        r"""Each latent's share of the bound, ``(N, latent_dim)``, in nats.

        With :math:`\rho_k \propto w_k \exp E_q \log p_k` the bound is
        :math:`\sum_k \rho_k (\log(\rho_k / w_k) - E_q \log p_k) - H(q)`. A component's density is the product over j of
        that of z_j given the latents before it, whose deviation is the whitened latent's row j; the choice of
        components belongs to no single latent and is spread evenly.
        """
        log_rho = torch.log_softmax(self.expected_components(posterior), dim=1)
        rho = log_rho.exp()
        choice = (rho * (log_rho - self.log_weights)).sum(dim=1) / posterior.mu.shape[1]
        squared = affine(posterior.mu - self.means[:, None], self.whitening).square()
        squared = squared + affine(posterior.sigma.square(), self.whitening.square())
        log_scale = self.whitening.diagonal(dim1=-2, dim2=-1).log()[:, None]
        log_p = log_scale - 0.5 * (squared + math.log(2 * math.pi))  # (K, N, latent_dim)
        entropy = 0.5 * (posterior.log_var + math.log(2 * math.pi) + 1)
        return choice[:, None] - (rho.T[..., None] * log_p).sum(dim=0) - entropy

    def sample(self, noise: Tensor, uniform: Tensor) -> Tensor:
        k = torch.searchsorted(self.log_weights.exp().cumsum(0), uniform).clamp(max=len(self.means) - 1)
        scattered = torch.linalg.solve_triangular(self.whitening[k], noise[..., None], upper=False)
        z: Tensor = self.means[k] + scattered[..., 0]
        return z
