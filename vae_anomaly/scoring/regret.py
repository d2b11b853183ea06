r"""The ELBO before and after the posterior of each row is optimised for that row alone.

The encoder gives every row a posterior :math:`q(z|x)` in one pass, as good as it learned to. The best Gaussian for one
row may do better; by how much is what the encoder never learned about such rows:

.. math::

    \max_{\mu, \log\sigma^2} \mathrm{ELBO}(x; \mu, \log\sigma^2) - \mathrm{ELBO}(x; \mu(x), \log\sigma^2(x)) \ge 0

The search starts at the encoder's mean and log-variance and takes ten steps of `Adam`. The best of all values seen
counts, the first among them, so the difference is never negative. The networks stay as they are, and p(z) is N(0, I),
the prior that the encoder was trained with. The draws are rescaled to unit second moment in each latent dimension: few
draws would otherwise let every row gain by a variance that suits those draws.

References
----------
Likelihood Regret: An Out-of-Distribution Detection Score For Variational Auto-encoder (Xiao et al., 2020),
https://arxiv.org/abs/2003.02977
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_anomaly.model.networks.base import Posterior
from vae_anomaly.model.priors.standard_normal import kl_divergence
from vae_anomaly.model.vae import VAE

STEPS = 10
LEARNING_RATE = 0.2


class Adam:
    r"""Adam for an ascent, its rate falling linearly to zero; every row is optimised on its own.

    With the gradient :math:`g_t`, t = 1, 2, ..., T:

    .. math::

        m_t = 0.9\, m_{t-1} + 0.1\, g_t, \quad
        v_t = 0.999\, v_{t-1} + 0.001\, g_t^2, \quad
        \Delta_t = \eta \Big(1 - \frac{t - 1}{T}\Big) \frac{m_t / (1 - 0.9^t)}{\sqrt{v_t / (1 - 0.999^t)} + 10^{-8}}

    ``torch.optim.Adam(maximize=True)`` takes the same steps, but imports PyTorch's compiler first.

    Parameters
    ----------
    parameters
        What is optimised, ``(N, P)``, double precision: there no square of a finite gradient overflows.

    References
    ----------
    Adam: A Method for Stochastic Optimization (Kingma & Ba, 2015), https://arxiv.org/abs/1412.6980
    """

    def __init__(self, parameters: Tensor) -> None:
        self.mean = torch.zeros_like(parameters)
        self.mean_square = torch.zeros_like(parameters)
        self.taken = 0

    def change(self, gradient: Tensor) -> Tensor:
        """What the next step adds to the parameters, ``(N, P)``."""
        rate = LEARNING_RATE * (1 - self.taken / STEPS)
        self.taken += 1
        self.mean = torch.lerp(gradient, self.mean, 0.9)
        self.mean_square = torch.lerp(gradient.square(), self.mean_square, 0.999)
        direction = self.mean / (1 - 0.9**self.taken)
        scale = (self.mean_square / (1 - 0.999**self.taken)).sqrt() + 1e-8
        return rate * direction / scale


def elbo_before_and_after(vae: VAE, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The ELBO under the encoder's posterior and the best one found.

    Parameters
    ----------
    vae
        Fitted; nothing of it is changed.
    x
        Scaled rows ``(N, D)``.
    noise
        Latent draws ``(K, 1, L)``.

    Returns
    -------
    tuple of Tensor
        Each ``(N,)``, double precision, in nats; the second is at least the first.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        x, noise = x.clone(), noise.clone()  # of tensors made in inference mode, only copies can enter a graph
        noise = noise / noise.square().mean(dim=0).clamp(min=1e-12).sqrt()
        log_prob = vae.likelihood.bind(x)

        def elbo(parameters: Tensor) -> Tensor:
            mu, log_var = parameters.to(x.dtype).chunk(2, dim=-1)
            posterior = Posterior(mu, torch.exp(0.5 * log_var), log_var)
            return vae.expected_log_prob(log_prob, posterior, noise) - kl_divergence(posterior)

        mu, _, log_var = vae.encode(x)
        parameters = torch.cat([mu, log_var], dim=-1).detach().double()
        optimizer, values = Adam(parameters), []
        for _ in range(STEPS):
            value = elbo(parameters.requires_grad_())
            values.append(value.detach().double())
            (gradient,) = torch.autograd.grad(value.sum(), parameters)
            parameters = parameters.detach() + optimizer.change(gradient)
        values.append(elbo(parameters).detach().double())
    seen = torch.stack(values)
    seen = seen.masked_fill(seen.isnan(), -math.inf)
    return seen[0], seen.amax(dim=0)
