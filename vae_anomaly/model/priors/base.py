r"""The contract of a prior :math:`p(z)`: it computes the bound on log p(x) that it allows.

.. math::

    \log p(x) \ge \mathrm{ELBO}(x) = E_{q(z|x)}[\log p(x|z)] - \mathrm{KL}(q(z|x) \,\|\, p(z))

The networks are trained with the standard normal. Normals of several kinds make clusters in the latent space, which is
not standard normal then, so another prior can be fitted to it afterwards: any p(z) gives a bound on its own p(x), and
the decoder stays as it is.

Laws, in nats:

1. Reconstruction term minus KL term, of ``elbo_terms``, is at most log p(x), up to the error of the draws.
2. ``importance_weighted_bound`` is at least the mean of its values for each draw alone; so its mean over the draws is
   at least the ELBO, while its value for given draws need not be, where the KL term is exact.
3. The shares in ``parts`` sum to the terms.
4. ``from_buffers`` restores from ``state_dict`` what was saved, and refuses all but the names and shapes in ``shapes``,
   whose own sizes are at most ``limits``: the largest that a fit writes.
5. For a `DensityPrior`, ``log_prob`` integrates to one, ``kl`` is KL(q || p) or an upper bound on it, and
   ``kl_of_latents`` sums to ``kl``.

The fact ``needs_gaussian`` of its entry in the registry says that it needs a Gaussian likelihood; ``brought_by`` and
``stands_for`` are as for likelihoods. How it is fitted is registered under the same name in
`vae_anomaly.registry.PRIOR_FITS`.

References
----------
Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519
From Variational to Deterministic Autoencoders (Ghosh et al., 2020), https://arxiv.org/abs/1903.12436
VAE with a VampPrior (Tomczak & Welling, 2018), https://arxiv.org/abs/1705.07120
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import reduce
from typing import ClassVar, NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn

from vae_anomaly.model.likelihoods.base import Likelihood
from vae_anomaly.model.networks.base import Posterior
from vae_anomaly.model.validity import check_shapes
from vae_anomaly.registry import PRIORS


class Model(Protocol):
    """What a prior needs of the model that it belongs to, which is `vae_anomaly.model.vae.VAE`."""

    likelihood: Likelihood

    def encode(self, x: Tensor) -> Posterior: ...

    def decode(self, z: Tensor) -> Tensor: ...

    def bind(self, x: Tensor) -> Callable[[Tensor], Tensor]: ...

    def rsample(self, posterior: Posterior, noise: Tensor) -> Tensor: ...

    def expected_log_prob(
        self, log_prob: Callable[[Tensor], Tensor], posterior: Posterior, noise: Tensor
    ) -> Tensor: ...


class Parts(NamedTuple):
    """Where a row's ELBO comes from; all fields float64.

    Attributes
    ----------
    reconstruction
        Each feature's share of the reconstruction term, ``(N, D)``, in nats.
    kl
        Shares of the KL term, ``(N, L)``, in nats; what they belong to is the prior's ``shares_of``.
    mean, variance, entropy
        Of each feature under the model, ``(N, D)``, in scaled units.
    """

    reconstruction: Tensor
    kl: Tensor
    mean: Tensor
    variance: Tensor
    entropy: Tensor


class Prior(nn.Module):
    """A distribution of latents, with the bound on log p(x) that it allows; the module's docstring has its laws."""

    shapes: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Its buffers, and their shapes in the sizes ``latent_dim``, ``n_parameters`` and others that it names itself."""
    positive_buffers: ClassVar[frozenset[str]] = frozenset()
    leaves_out_own_row: ClassVar[bool] = False
    """Whether a row that the prior was fitted to is scored as a new one is."""
    shares_of: ClassVar[str] = "latents"
    """What the shares of the KL term belong to, in the plural."""

    @classmethod
    def limits(cls, latent_dim: int, n_parameters: int) -> Mapping[str, int]:
        """The largest value of each size that ``shapes`` names itself, for models of these sizes."""
        return {}

    @classmethod
    def shapes_of(cls, buffers: Mapping[str, Tensor]) -> Mapping[str, tuple[str, ...]]:
        """Which of ``shapes`` buffers of these names must have; all, unless files may lack some."""
        return cls.shapes

    def check_values(self) -> None:
        """Raise `ValueError` if values are not such as a fit writes, beside those that must be positive."""

    @property
    def values_per_row(self) -> int:
        """How many numbers it holds for each row while it computes the terms, beside what the networks hold."""
        return 0

    @classmethod
    def from_buffers(cls, buffers: Mapping[str, Tensor], latent_dim: int, n_parameters: int) -> Self:
        """The prior with these buffers, which are checked since they may come from any file.

        ``n_parameters`` is how many numbers describe p(x|z) to the likelihood.

        Raises
        ------
        ValueError
            If their names or shapes are not those of such a prior, or larger than a fit makes them.
        """
        what, limits = f"a prior of kind {PRIORS.name_of(cls)!r}", cls.limits(latent_dim, n_parameters)
        check_shapes(buffers, cls.shapes_of(buffers), what, limits, latent_dim=latent_dim, n_parameters=n_parameters)
        return cls(**buffers)

    def as_density(self) -> Prior:
        """The prior that goes with a likelihood's ``as_density``: itself, unless it weighs latents."""
        return self

    def posterior(self, encoded: Posterior) -> Posterior:
        """The Gaussian q(z|x) that goes with this prior, from the encoder's; the likelihood is fitted with it."""
        return encoded

    def elbo_terms(self, vae: Model, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction term and KL term, ``(N,)`` each, in nats.

        Parameters
        ----------
        vae
            The model that this prior belongs to.
        x
            Scaled rows ``(N, D)``.
        noise
            Standard normal draws, ``(K, N, latent_dim)``, or ``(K, 1, latent_dim)`` where all rows share them.
        """
        raise NotImplementedError

    def importance_weighted_bound(self, vae: Model, x: Tensor, noise: Tensor) -> Tensor:
        """On average a bound on log p(x), tighter with more draws, or log p(x) itself: ``(N,)``, in nats."""
        raise NotImplementedError

    def parts(self, vae: Model, x: Tensor, noise: Tensor) -> Parts:
        """The terms of the ELBO, feature by feature and share by share."""
        raise NotImplementedError

    def sample(self, noise: Tensor, uniform: Tensor) -> Tensor:
        """Latents ``(N, latent_dim)`` from standard normal ``(N, latent_dim)`` and uniform ``(N,)`` numbers."""
        raise NotImplementedError


class DensityPrior(Prior):
    r"""A prior with a density, whose variational posterior is a diagonal Gaussian.

    Draws :math:`z_k \sim q(z|x)` estimate the reconstruction term, the KL term is computed from q alone, and the
    importance-weighted bound is

    .. math::

        \log \frac1K \sum_k \frac{p(x|z_k) \, p(z_k)}{q(z_k|x)}.
    """

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density, ``(N,)``, in nats."""
        raise NotImplementedError

    def kl(self, posterior: Posterior) -> Tensor:
        """KL(q || p) or an upper bound on it, ``(N,)``, in nats."""
        raise NotImplementedError

    def kl_of_latents(self, posterior: Posterior) -> Tensor:
        """Each latent's share of ``kl``, ``(N, latent_dim)``, in nats."""
        raise NotImplementedError

    def log_posterior(self, noise: Tensor, posterior: Posterior) -> Tensor:
        """Log q(z|x) at the latents of this noise, ``(N,)``, in nats."""
        return -0.5 * (noise.square() + posterior.log_var + math.log(2 * math.pi)).sum(dim=-1)

    def elbo_terms(self, vae: Model, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        posterior = self.posterior(vae.encode(x))
        return vae.expected_log_prob(vae.bind(x), posterior, noise), self.kl(posterior)

    def importance_weighted_bound(self, vae: Model, x: Tensor, noise: Tensor) -> Tensor:
        posterior = self.posterior(vae.encode(x))
        latents = [vae.rsample(posterior, eps) for eps in noise]
        log_q = [self.log_posterior(eps, posterior) for eps in noise]
        log_w = torch.stack([self.log_prob(z) for z in latents]) - torch.stack(log_q)
        log_w = log_w + torch.stack(list(map(vae.bind(x), map(vae.decode, latents))))
        return torch.logsumexp(log_w, dim=0) - math.log(len(noise))

    def parts(self, vae: Model, x: Tensor, noise: Tensor) -> Parts:
        """Means over the draws; the variance is the likelihood's plus that of its mean over the draws."""
        p = vae.likelihood
        posterior = self.posterior(vae.encode(x))
        decoded = [vae.decode(vae.rsample(posterior, eps)) for eps in noise]
        mean = average([p.mean(d) for d in decoded])
        return Parts(
            average([p.log_prob_of_features(x, d) for d in decoded]),
            self.kl_of_latents(posterior).double(),
            mean,
            average([p.variance_of_features(x, d) for d in decoded])
            + average([(p.mean(d) - mean).square() for d in decoded]),
            average([p.entropy_of_features(x, d) for d in decoded]),
        )


def average(tensors: list[Tensor]) -> Tensor:
    """Their mean, in double precision."""
    return reduce(torch.add, (tensor.double() for tensor in tensors)) / len(tensors)
