r"""A mixture of Gaussians by expectation maximisation, on any device, its work being a few matrix products.

With :math:`\phi(z) = (z_i z_j)_{i \le j}, z, 1` both steps are linear: the log-density of a component is
:math:`\phi(z) \cdot c_k`, and what its parameters are made of is a sum of :math:`\phi` over rows. With responsibilities
:math:`r_{nk} \propto w_k N(z_n; m_k, S_k)`,

.. math::

    N_k = \sum_n r_{nk}, \qquad m_k = \frac1{N_k} \sum_n r_{nk} z_n, \qquad
    S_k = \frac1{N_k} \sum_n r_{nk} z_n z_n^T - m_k m_k^T + \epsilon I, \qquad w_k = N_k / N.

The rows are centred, and everything is in double precision, so that the difference in :math:`S_k` keeps its digits;
:math:`\epsilon` is 0.01, and more where latents are so large that rounding would be.

It starts from clusters: centres by k-means++, of a few candidates the best at each step, then some rounds of k-means.
It ends after 50 steps, or once the mean log-density changes by less than 0.05.

References
----------
k-means++: The Advantages of Careful Seeding (Arthur & Vassilvitskii, 2007), SODA
Scikit-learn: Machine Learning in Python (Pedregosa et al., 2011), https://jmlr.org/papers/v12/pedregosa11a.html, whose
`GaussianMixture` has the same regularisation and the same rule for stopping
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple, Self

import torch
from torch import Tensor

SMALLEST_VARIANCE = 1e-2
ROUNDING = 1e-12  # of the largest squared latent
STEPS = 50
TOLERANCE = 5e-2
CLUSTERING_ROUNDS = 20
CHUNK_VALUES = 1 << 20


class Gaussians(NamedTuple):
    """K Gaussians in L dimensions and their weights, double precision.

    Attributes
    ----------
    log_weights
        ``(K,)``.
    means
        ``(K, L)``.
    whitening
        ``(K, L, L)``: the lower triangular inverse of the root of each covariance.
    """

    log_weights: Tensor
    means: Tensor
    whitening: Tensor

    @classmethod
    def of_moments(cls, moments: Tensor, variance: float) -> Self:
        """Those with these sums of `monomials` over rows, ``(K, T)``, and ``variance`` added in each direction."""
        latent_dim = n_latents(moments.shape[1])
        counts = moments[:, -1] + 10 * torch.finfo(moments.dtype).eps
        normed = moments / counts[:, None]
        means = normed[:, -1 - latent_dim : -1]
        i, j = torch.triu_indices(latent_dim, latent_dim, device=moments.device)
        covariance = moments.new_zeros(len(moments), latent_dim, latent_dim)
        covariance[:, i, j] = covariance[:, j, i] = normed[:, : len(i)]
        covariance -= means[:, :, None] * means[:, None]
        covariance.diagonal(dim1=1, dim2=2).add_(variance)
        identity = torch.eye(latent_dim, dtype=moments.dtype, device=moments.device)
        whitening = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), identity, upper=False)
        return cls((counts / counts.sum()).log(), means, whitening)

    def coefficients(self) -> Tensor:
        """``(K, T)``, whose products with `monomials` are log-densities with the weights included."""
        latent_dim = self.means.shape[1]
        precision = self.whitening.mT @ self.whitening
        linear = (precision @ self.means[..., None])[..., 0]
        log_det = self.whitening.diagonal(dim1=1, dim2=2).log().sum(dim=1)
        constant = (
            self.log_weights + log_det - 0.5 * (latent_dim * math.log(2 * math.pi) + (self.means * linear).sum(1))
        )
        i, j = torch.triu_indices(latent_dim, latent_dim, device=precision.device)
        squares = precision[:, i, j] * torch.where(i == j, -0.5, -1.0)
        return torch.cat([squares, linear, constant[:, None]], dim=1)

    def mean_log_density(self, z: Tensor) -> float:
        """Of rows ``(N, L)``, in nats."""
        coefficients = self.coefficients().T
        parts = [torch.logsumexp(rows @ coefficients, dim=1).sum() for rows in chunks_of_monomials(z, len(self.means))]
        return float(torch.stack(parts).sum() / len(z))

    def shifted(self, offset: Tensor) -> Self:
        """The same around means that are moved by ``(L,)``."""
        return self._replace(means=self.means + offset)


def fit_gaussians(z: Tensor, n_components: int, generator: torch.Generator) -> Gaussians:
    """The mixture that expectation maximisation ends in.

    Parameters
    ----------
    z
        Rows ``(N, L)``, finite, double precision, on any device.
    n_components
        At most N.
    generator
        Chooses the first centres; on the CPU.
    """
    centre = z.mean(dim=0)
    z = z - centre
    variance = max(SMALLEST_VARIANCE, ROUNDING * float(z.square().max()))
    nearest = clusters(z, n_components, generator)
    moments = z.new_zeros(n_components, n_monomials(z.shape[1]))
    start = 0
    for rows in chunks_of_monomials(z, n_components):
        moments.index_add_(0, nearest[start : start + len(rows)], rows)
        start += len(rows)
    gaussians, before = Gaussians.of_moments(moments, variance), -math.inf
    for _ in range(STEPS):
        moments, density = expected_moments(z, gaussians)
        gaussians = Gaussians.of_moments(moments, variance)
        if abs(density - before) < TOLERANCE:
            break
        before = density
    return gaussians.shifted(centre)


def expected_moments(z: Tensor, gaussians: Gaussians) -> tuple[Tensor, float]:
    """Sums of `monomials` of rows ``(N, L)`` by responsibility, ``(K, T)``, and the mean log-density."""
    coefficients = gaussians.coefficients()
    moments, total = torch.zeros_like(coefficients), z.new_zeros(())
    for rows in chunks_of_monomials(z, len(coefficients)):
        log_p = rows @ coefficients.T
        density = torch.logsumexp(log_p, dim=1, keepdim=True)
        moments.addmm_(log_p.sub_(density).exp_().T, rows)
        total += density.sum()
    return moments, float(total / len(z))


def clusters(z: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Which of k clusters by k-means each row ``(N, L)`` is in, ``(N,)``."""
    centres = first_centres(z, k, generator)
    nearest = torch.zeros(len(z), dtype=torch.int64, device=z.device)
    for _ in range(CLUSTERING_ROUNDS):
        # the row's own square is the same for all centres
        now = torch.addmm(0.5 * centres.square().sum(dim=1), z, centres.T, alpha=-1).argmin(dim=1)
        if torch.equal(now, nearest):
            break
        nearest = now
        counts = torch.bincount(nearest, minlength=k)[:, None]
        sums = torch.zeros_like(centres).index_add_(0, nearest, z)
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    return nearest


def first_centres(z: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """K of the rows ``(N, L)``, each far from the others: ``(k, L)``.

    A row is drawn with a probability in proportion to its squared distance from those that are chosen. Of 2 + log k
    such rows the one is taken that leaves the smallest sum of these.
    """
    tries = 2 + int(math.log(k))
    uniform = torch.rand(k, tries, generator=generator, dtype=z.dtype).to(z.device)
    chosen = z[(uniform[0, :1] * len(z)).long()]
    squared = (z - chosen).square().sum(dim=1)
    centres, norms = [chosen], z.square().sum(dim=1)
    for draws in uniform[1:]:
        cumulated = squared.cumsum(dim=0)
        places = torch.searchsorted(cumulated, draws * cumulated[-1]).clamp(max=len(z) - 1)
        candidates = z[places]
        distances = torch.addmm(norms + norms[places][:, None], candidates, z.T, alpha=-2).clamp_(min=0)
        left = torch.minimum(distances, squared)
        best = left.sum(dim=1).argmin(dim=0, keepdim=True)
        squared = left[best][0]
        centres.append(candidates[best])
    return torch.cat(centres)


def chunks_of_monomials(z: Tensor, n_components: int) -> Iterator[Tensor]:
    """`monomials` of rows ``(N, L)``, as many rows at a time as hold a million values."""
    width = max(n_components, n_monomials(z.shape[1]))
    return map(monomials, torch.split(z, max(1, CHUNK_VALUES // width)))


def monomials(z: Tensor) -> Tensor:
    """Products of two latents, the latents, and one: ``(N, L)`` to ``(N, T)``."""
    i, j = torch.triu_indices(z.shape[1], z.shape[1], device=z.device)
    return torch.cat([z[:, i] * z[:, j], z, torch.ones_like(z[:, :1])], dim=1)


def n_monomials(latent_dim: int) -> int:
    """T, for L latents."""
    return (latent_dim + 1) * (latent_dim + 2) // 2


def n_latents(n_monomials: int) -> int:
    """L, for T monomials."""
    return (math.isqrt(8 * n_monomials + 1) - 3) // 2
