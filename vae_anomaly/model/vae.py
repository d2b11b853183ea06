r"""The variational autoencoder as a module: scaling, encoder, decoder, likelihood and prior.

.. math::

    p(x) = \int p(z) \, p(x|z) \, dz, \qquad q(z|x) = N(\mu(x), \mathrm{diag}(\sigma^2(x))), \qquad
    z = \mu + \sigma \odot \epsilon, \quad \epsilon \sim N(0, I)

References
----------
Auto-Encoding Variational Bayes (Kingma & Welling, 2014), https://arxiv.org/abs/1312.6114
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from vae_anomaly.model.likelihoods.base import Likelihood
from vae_anomaly.model.memo import Memo, remembered
from vae_anomaly.model.networks.base import Encoder, Posterior
from vae_anomaly.model.priors.base import Prior
from vae_anomaly.model.priors.standard_normal import StandardNormal
from vae_anomaly.model.scaling import Scaling, filled

GENERATED_PLACES = 1 << 14  # of maps of latents at a time on a GPU, where launches would take most of the time


class VAE(nn.Module):
    """An encoder q(z|x), a decoder, a likelihood p(x|z), and a prior p(z).

    Parameters
    ----------
    encoder
        Maps scaled rows ``(N, D)`` to a `Posterior` over ``(N, latent_dim)``.
    decoder
        Maps ``(N, latent_dim)`` to the likelihood's parameters, ``(N, D)``; for patches that overlap they are more.
    likelihood
        Reads the decoder's output as a distribution of rows.
    scaling
        Maps raw rows to the units that the networks work in; all methods take and give scaled rows.

    Attributes
    ----------
    prior
        N(0, I) until another is fitted after training.
    normals
        None until the statistics of the normals are fitted that some scores need
        (`vae_anomaly.scoring.normal_statistics`).
    tails
        None until such statistics of images are fitted (`vae_anomaly.scoring.worst_place`), if rows are images.
    memo
        Results that scores of the same rows share (`vae_anomaly.model.memo`); None: nothing is remembered.
    memo_of_all_blocks
        The same of results that concern no row.

    Notes
    -----
    No layer behaves differently in training and in scoring, so ``train()`` and ``eval()`` make no difference.
    """

    def __init__(self, encoder: Encoder, decoder: nn.Module, likelihood: Likelihood, scaling: Scaling) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.scaling = scaling
        self.prior: Prior = StandardNormal()
        self.register_module("normals", None)
        self.register_module("tails", None)
        self.memo: Memo | None = None
        self.memo_of_all_blocks: Memo | None = None

    def as_density(self) -> VAE:
        """The same modules, nothing copied, with a likelihood and a prior that integrate to one."""
        other = copy.copy(self)
        other._modules = dict(self._modules)
        other.likelihood, other.prior = self.likelihood.as_density(), self.prior.as_density()
        return other

    def remembering(self) -> VAE:
        """The same modules, nothing copied, with a memo that is empty."""
        other = copy.copy(self)
        other.memo = Memo()
        return other

    def for_all_blocks(self) -> VAE:
        """The same modules, nothing copied, for one call that changes none: what concerns no row is computed once."""
        other = copy.copy(self)
        other.memo_of_all_blocks = Memo()
        return other

    @remembered()
    def encode(self, x: Tensor) -> Posterior:
        """Posterior of each row; fields ``(N, latent_dim)``. Gaps count as the normals' mean."""
        posterior: Posterior = self.encoder(filled(x))
        return posterior

    def codes(self, x: Tensor) -> Tensor:
        """Latent means of which distances are taken, ``(N, L)``: of a map of latents their mean over the places."""
        mu, n_places = self.encode(x).mu, self.encoder.n_places
        return mu if n_places == 1 else mu.reshape(len(mu), n_places, -1).mean(dim=1)

    @remembered()
    def decode(self, z: Tensor) -> Tensor:
        """The likelihood's parameters, ``(N, D)``."""
        decoded: Tensor = self.decoder(z)
        return decoded.to(z.dtype)

    @remembered()
    def rsample(self, posterior: Posterior, noise: Tensor) -> Tensor:
        """Latents mu + sigma * noise; ``noise`` is standard normal and broadcasts to ``(N, latent_dim)``."""
        return torch.addcmul(posterior.mu, posterior.sigma, noise)

    @remembered("likelihood")
    def bind(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """``likelihood.bind(x)``: log p(x|z) as a function of the decoder's output."""
        return self.likelihood.bind(x)

    def expected_log_prob(self, log_prob: Callable[[Tensor], Tensor], posterior: Posterior, noise: Tensor) -> Tensor:
        """E_q[log p(x|z)] as the mean over K draws, ``(N,)``, in nats.

        Parameters
        ----------
        log_prob
            ``likelihood.bind(x)`` of the rows, or another function of the decoder's output.
        posterior
            Of the rows.
        noise
            Standard normal draws, ``(K, N, latent_dim)`` or ``(K, 1, latent_dim)``.
        """
        return torch.stack([log_prob(self.decode(self.rsample(posterior, eps))) for eps in noise]).mean(dim=0)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Expected rows given the posterior means, ``(N, D)``."""
        return self.generate(self.encode(x).mu)

    def generate(self, z: Tensor) -> Tensor:
        """Expected rows given latents, ``(N, D)``; of maps of latents few at a time, since patches are many numbers."""
        n, n_places = max(1, len(z)), self.encoder.n_places
        if n_places > 1:  # a power of two, as blocks of rows are, so that a row has the same bits in every part
            n = 1 if z.device.type == "cpu" else 1 << max(0, (GENERATED_PLACES // n_places).bit_length() - 1)
        return torch.cat([self.likelihood.mean(self.decode(part)) for part in torch.split(z, n)])


def reset_parameters(module: nn.Module, generator: torch.Generator) -> None:
    """Draw every weight from the given generator: uniform in ±1/sqrt(fan-in), as PyTorch does by default."""
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                fan_in = layer.weight[0].numel()
                for parameter in (layer.weight, layer.bias):
                    if parameter is not None:
                        uniform = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
                        parameter.copy_((2 * uniform - 1) / math.sqrt(fan_in))
