r"""Priors :math:`p(z)`, and the bound on log p(x) that each allows.

Training uses the standard normal. What the trained encoder makes of the normals looks like no standard normal once
they come in kinds, so afterwards a better prior can be fitted to it: the decoder then stays, and so does the bound.

A prior gives

- ``log_prob(z) -> (N,)``: its log-density, in nats;
- ``posterior(encoded) -> Posterior``: the variational posterior that goes with it;
- ``kl(posterior) -> (N,)``: KL(q || p), or an upper bound on it, so that the ELBO stays a lower bound;
- ``kl_of_latents(posterior) -> (N, latent_dim)``: each latent's share of it.

References
----------
From Variational to Deterministic Autoencoders (Ghosh et al., 2020), https://arxiv.org/abs/1903.12436
VAE with a VampPrior (Tomczak & Welling, 2018), https://arxiv.org/abs/1705.07120
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from torch import Tensor, nn

from vae_anomaly.model.affine import affine
from vae_anomaly.model.networks import Posterior
from vae_anomaly.registry import PRIORS

COMPONENTS = (1, 5, 20, 50, 200)
ROWS_A_COMPONENT = 64
MIXTURE_ROWS = 20_000
NEGLIGIBLE = -80.0  # the exponential of less may be no normal number, and those take many times as long


def kl_divergence(posterior: Posterior) -> Tensor:
    """KL(q(z|x) || N(0, I)) in closed form, ``(N,)``, in nats."""
    mu, sigma, log_var = posterior
    return 0.5 * (mu.square() + sigma.square() - log_var - 1).sum(dim=-1)


class Prior(nn.Module):
    """The contract above. Law: ``kl_of_latents`` sums to ``kl``."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density, ``(N,)``, in nats."""
        raise NotImplementedError

    def posterior(self, encoded: Posterior) -> Posterior:
        """The variational posterior that goes with this prior."""
        return encoded

    def kl(self, posterior: Posterior) -> Tensor:
        """KL(q || p) or an upper bound on it, ``(N,)``, in nats."""
        raise NotImplementedError

    def kl_of_latents(self, posterior: Posterior) -> Tensor:
        """Each latent's share of ``kl``, ``(N, latent_dim)``, in nats."""
        raise NotImplementedError

    def sample(self, noise: Tensor, uniform: Tensor) -> Tensor:
        """Latents ``(N, latent_dim)`` from standard normal ``(N, latent_dim)`` and uniform ``(N,)`` numbers."""
        raise NotImplementedError


@PRIORS.register("normal")
class StandardNormal(Prior):
    """N(0, I): what every VAE is trained with."""

    def log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * (z.square() + math.log(2 * math.pi)).sum(dim=-1)

    def kl(self, posterior: Posterior) -> Tensor:
        return kl_divergence(posterior)

    def kl_of_latents(self, posterior: Posterior) -> Tensor:
        mu, sigma, log_var = posterior
        return 0.5 * (mu.square() + sigma.square() - log_var - 1)

    def sample(self, noise: Tensor, uniform: Tensor) -> Tensor:
        return noise


@PRIORS.register("mixture")
class Mixture(Prior):
    r"""Gaussians fitted to the latent means of the normals, with one posterior spread for all samples.

    The encoder's own spread is large for simple inputs, whatever they are, and so rewards them; one spread for all
    takes its place in :math:`q(z|x)`, which any distribution may be: at first the normals' root mean square, then the
    one of their highest ELBO. The KL to a mixture has no closed form; the bound is

    .. math::

        \mathrm{KL}(q \,\|\, \textstyle\sum_k w_k p_k) \le -\log \sum_k w_k \exp(-\mathrm{KL}(q \,\|\, p_k)).

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

    References
    ----------
    Approximating the Kullback Leibler divergence between Gaussian mixture models (Hershey & Olsen, 2007),
    https://doi.org/10.1109/ICASSP.2007.366913
    """

    def __init__(self, log_weights: Tensor, means: Tensor, whitening: Tensor, sigma: Tensor) -> None:
        super().__init__()
        self.register_buffer("log_weights", log_weights)
        self.register_buffer("means", means)
        self.register_buffer("whitening", whitening)
        self.register_buffer("sigma", sigma)
        self.log_weights: Tensor
        self.means: Tensor
        self.whitening: Tensor
        self.sigma: Tensor

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


@PRIORS.register("exemplars", needs_gaussian=True)
class Exemplars(Prior):
    r"""The normals' own latent means, equally likely: :math:`p(x) = \frac1n \sum_i p(x|z_i)` can be summed.

    The prior that maximises the ELBO is the aggregated posterior of the training samples; this is it with the
    spread of each left out. The best posterior on so few points is known,
    :math:`r_i = p(x|z_i) / \sum_j p(x|z_j)`, and no encoder has to guess it: the bound is tight.

    Parameters
    ----------
    latents
        ``(n, latent_dim)``.
    decoded
        The means of :math:`p(x|z_i)`, ``(n, D)``: what the decoder makes of them, perhaps moved some way from there
        towards the rows that they encode.
    """

    def __init__(self, latents: Tensor, decoded: Tensor) -> None:
        super().__init__()
        self.register_buffer("latents", latents)
        self.register_buffer("decoded", decoded)
        self.latents: Tensor
        self.decoded: Tensor

    def elbo_terms(self, log_p: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction term and KL term, ``(N,)`` float64 each, from log p(x|z_i), ``(N, n)`` float64."""
        top = log_p.amax(dim=1)
        below = (log_p - top[:, None]).to(self.latents.dtype).clamp_(min=NEGLIGIBLE)
        r = below.exp()
        total = r.sum(dim=1)
        mean = r.mul_(below).sum(dim=1) / total
        return top + mean, mean - total.log() + math.log(log_p.shape[1])

    def responsibilities(self, log_p: Tensor) -> tuple[Tensor, Tensor]:
        """Each exemplar's r_i, and its share r_i log(n r_i) of the KL term in nats, ``(N, n)`` each."""
        log_r = torch.log_softmax(log_p, dim=1).double()
        r = log_r.exp()
        return r, r * (log_r + math.log(log_p.shape[1]))

    def sample(self, noise: Tensor, uniform: Tensor) -> Tensor:
        return self.latents[(uniform * len(self.latents)).long().clamp(max=len(self.latents) - 1)]


def fit_mixture(mu: np.ndarray, mu_held_out: np.ndarray, sigma: np.ndarray, seed: int) -> Mixture:
    """A mixture of as many components as the held-out latent means like best.

    Parameters
    ----------
    mu, mu_held_out
        Latent means ``(N, latent_dim)``; of the first, the first 20,000 are used. More components are tried
        while they raise the mean log-density of the second, and while each has 64 rows.
    sigma
        Posterior standard deviations ``(N, latent_dim)``.
    seed
        Of the initialisation.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture  # a third of a second, which scoring does without

    mu = mu[:MIXTURE_ROWS].astype(np.float64)
    spread = np.sqrt(np.mean(np.square(sigma, dtype=np.float64), axis=0))
    best, best_score = None, -math.inf
    for n in COMPONENTS:
        if n > 1 and n * ROWS_A_COMPONENT > len(mu):
            break
        mixture = GaussianMixture(n, reg_covar=1e-2, max_iter=50, tol=5e-2, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(mu if len(mu) > 1 else np.repeat(mu, 2, axis=0))
        score = mixture.score(mu_held_out.astype(np.float64))
        if score <= best_score:
            break
        best, best_score = mixture, score
    if best is None:
        raise ValueError("the latent means are not finite")
    whitening = np.ascontiguousarray(best.precisions_cholesky_.swapaxes(1, 2))
    tensors = (np.log(best.weights_), best.means_, whitening, spread)
    return Mixture(*(torch.from_numpy(np.asarray(tensor)) for tensor in tensors))


def prior_of(kind: str, buffers: dict[str, Tensor], latent_dim: int, n_features: int) -> Prior:
    """The prior with these buffers, which are checked since they may come from anywhere.

    Raises
    ------
    ValueError
        If their names or shapes do not fit a prior of this kind.
    """
    shapes = {name: tuple(buffer.shape) for name, buffer in buffers.items()}
    if kind == "normal" and not buffers:
        return StandardNormal()
    n = (shapes.get("latents") or shapes.get("means") or (0,))[0]
    if kind == "exemplars" and shapes == {"latents": (n, latent_dim), "decoded": (n, n_features)}:
        return Exemplars(**buffers)
    square = (n, latent_dim, latent_dim)
    if kind == "mixture" and shapes == {
        "log_weights": (n,),
        "means": square[:2],
        "whitening": square,
        "sigma": square[2:],
    }:
        return Mixture(**buffers)
    raise ValueError(f"a prior of kind {kind!r} has no buffers of shapes {shapes}")
