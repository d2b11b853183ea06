r"""The normals' own latent means, and small sets drawn from them: log p(x) can be summed.

*Exemplars.* With latents :math:`z_j` that are equally likely,

.. math::

    p(x) = \frac1n \sum_j p(x|z_j), \qquad r_j = \frac{p(x|z_j)}{\sum_k p(x|z_k)}

The prior that maximises the ELBO is the aggregated posterior of the training samples; here each sample's spread in it
is left out. The best posterior on n points is known, the responsibilities r, and no encoder has to guess it. With it
the bound is tight: the terms

.. math::

    E_r[\log p(x|z_j)] = \sum_j r_j \log p(x|z_j), \qquad \mathrm{KL} = \sum_j r_j \log(n \, r_j)

differ by log p(x) exactly. z takes n values here instead of having coordinates, so the KL term has a share for each
exemplar.

*Small sets.* Anomalies among the exemplars vouch for each other, and the more exemplars there are, the more of a kind.
A set of a few exemplars at random rarely holds some. So the prior has one more latent variable, the set s: all
exemplars, :math:`s = 0`, or one of S small sets, whose noise is wider by one factor. A row has to be likely by all
exemplars and by the small sets. With the small set s* of median density, which half of them reach,

.. math::

    p(x) = w \, p_0(x) + \frac{1 - w}{S} \sum_{s > 0} p_s(x), \qquad
    \mathrm{ELBO}(x) = \min \big\{ \log p_0(x), \;
    w \log p_0(x) + (1 - w) (\log p_{s^*}(x) - \log 2) \big\} \le \log p(x) ,

by Jensen's inequality, since the mean of the small sets' densities is at least half their median.

*A row that is an exemplar itself* is left out of every set, so that a training row is scored as a new one is. It is
recognised by its latent mean. Of several equal exemplars one is left out.

References
----------
VAE with a VampPrior (Tomczak & Welling, 2018), https://arxiv.org/abs/1705.07120
Rapid Distance-Based Outlier Detection via Sampling (Sugiyama & Borgwardt, 2013),
https://papers.nips.cc/paper/5127-rapid-distance-based-outlier-detection-via-sampling
Isolation Forest (Liu et al., 2008), https://doi.org/10.1109/ICDM.2008.17, which draws small sets for the same reason
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional

from vae_anomaly.model.likelihoods.base import Likelihood
from vae_anomaly.model.memo import remembered
from vae_anomaly.model.priors.base import Model, Parts, Prior
from vae_anomaly.registry import PRIORS

MAX_EXEMPLARS = 2_048
MORE_EXEMPLARS = 5_000  # where they have at most this number of values together:
EXEMPLAR_VALUES = 1_000_000
N_SETS, SET_SIZE = 100, 16
NEGLIGIBLE = -80.0  # the exponential of less may be a subnormal number, which takes many times as long
LOG_2 = math.log(2)
CACHE_VALUES = 1 << 19  # of log-densities at a time, 4 MiB
SAME_LATENT = 1e-5  # latent means of one row differ by less, however many rows are encoded with it


def most_exemplars(n_parameters: int) -> int:
    """How many a fit takes: 2,048, or up to 5,000 if they have at most a million values together."""
    return max(MAX_EXEMPLARS, min(MORE_EXEMPLARS, EXEMPLAR_VALUES // n_parameters))


class Terms(NamedTuple):
    """The terms of rows in each of S sets, ``(N, S)`` float64 each, in nats."""

    reconstruction: Tensor
    kl: Tensor

    @property
    def log_density(self) -> Tensor:
        """Log p(x) in each set, ``(N, S)`` float64."""
        return self.reconstruction - self.kl


class Sets(NamedTuple):
    """Exemplars in S sets of m.

    Attributes
    ----------
    likelihood, decoded
        The noise, and the parameters of p(x|z) for each exemplar of each set, ``(S * m, P)``.
    members
        Their indices among all exemplars, ``(S, m)`` int64.
    places
        Those of each exemplar in ``members``, flat, as often as the one that is in most places has any: ``(n, k)``
        int64, -1 for none.
    log_prob
        ``likelihood.bind_means(decoded)``.
    """

    likelihood: Likelihood
    decoded: Tensor
    members: Tensor
    places: Tensor
    log_prob: Callable[[Tensor], tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, likelihood: Likelihood, decoded: Tensor, members: Tensor, n: int) -> Self:
        """The sets of these exemplars, of n in all, under this noise."""
        return cls(likelihood, decoded, members, places_of(members.ravel(), n), likelihood.bind_means(decoded))

    def log_p(self, x: Tensor, own: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scaled rows ``(N, D)``, which are the exemplars ``own`` ``(N,)`` or none at -1, under each exemplar.

        Returns
        -------
        tuple of Tensor
            Log p(x|z_i), ``(N, S, m)`` float64, in nats, minus infinity for the row itself, and less what is the same
            for all exemplars; that, ``(N, 1)``; and how many exemplars of each set are not left out, ``(N, S)``.
        """
        log_p, of_rows = self.log_prob(x)
        n_sets, m = self.members.shape
        sizes = torch.full((len(x), n_sets), m, device=x.device)
        if m > 1:
            places = torch.where(own[:, None] >= 0, self.places[own], -1)  # without a wait for a GPU to find some
            left_out, places = places >= 0, places.clamp(min=0)
            sizes.scatter_add_(1, places // m, -left_out.long())
            log_p.scatter_add_(1, places, torch.where(left_out, -math.inf, 0.0).to(log_p))
        return log_p.view(len(x), n_sets, m), of_rows[:, None], sizes

    def terms(self, x: Tensor, own: Tensor) -> Terms:
        """The terms of such rows, computed for as many at a time as a CPU's cache holds."""
        n = rows_at_a_time(self.members.numel()) if x.device.type == "cpu" else len(x)
        parts = []
        for some in zip(torch.split(x, n), torch.split(own, n), strict=True):
            log_p, of_rows, sizes = self.log_p(*some)
            reconstruction, kl = terms_of_pairs(log_p, sizes, self.decoded.dtype)
            parts.append(Terms(reconstruction + of_rows, kl))
        return Terms(*map(torch.cat, zip(*parts, strict=True)))


def places_of(members: Tensor, n: int) -> Tensor:
    """Where each of n exemplars is among these ``(M,)``, ``(n, k)`` int64, -1 for none."""
    order = torch.argsort(members, stable=True)
    numbers = torch.arange(n, device=members.device)
    first, end = (torch.searchsorted(members[order], numbers, right=right)[:, None] for right in (False, True))
    places = first + torch.arange(int((end - first).max()), device=members.device)
    return torch.where(places < end, order[places.clamp(max=len(order) - 1)], -1)


def rows_at_a_time(n_members: int) -> int:
    """A power of two that depends on the model alone, so that a row has the same bits in every slice."""
    return 1 << max(0, (CACHE_VALUES // n_members).bit_length() - 1)


def terms_of_pairs(log_p: Tensor, sizes: Tensor, dtype: torch.dtype) -> Terms:
    """The terms in each set.

    Parameters
    ----------
    log_p
        Log p(x|z_i), ``(N, S, m)`` float64; it is overwritten.
    sizes
        How many exemplars of each set are not left out, ``(N, S)``.
    dtype
        In which exponentials are taken.
    """
    top = log_p.amax(dim=-1)
    below = log_p.sub_(top[..., None]).to(dtype).clamp_(min=NEGLIGIBLE)
    r = below.exp()
    total = r.sum(dim=-1)
    mean = r.mul_(below).sum(dim=-1) / total
    return Terms(top + mean, mean - total.log() + sizes.double().log())


@PRIORS.register("exemplars", needs_gaussian=True)
class Exemplars(Prior):
    """The normals' own latent means, equally likely, in one large set and in small ones.

    Parameters
    ----------
    latents
        ``(n, latent_dim)``.
    decoded
        The parameters of p(x|z_i), ``(n, D)``, or as many as the likelihood's ``exemplar_parameters``: the decoder's
        output for the latents, moved perhaps some way towards the rows that they encode.
    members
        Indices of the exemplars in each small set, ``(S, m)``, in the precision of all buffers. None: there is only the
        large one.
    spread
        By how much the variance is larger in the small sets, ``()``.
    weight
        :math:`w`, of the set of all exemplars, in [0, 1]: ``()``.
    """

    shapes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "latents": ("n", "latent_dim"),
        "decoded": ("n", "n_parameters"),
        "members": ("S", "m"),
        "spread": (),
        "weight": (),
    }
    positive_buffers: ClassVar[frozenset[str]] = frozenset({"spread"})
    leaves_out_own_row: ClassVar[bool] = True
    shares_of: ClassVar[str] = "exemplars"

    @classmethod
    def limits(cls, latent_dim: int, n_parameters: int) -> Mapping[str, int]:
        return {"n": most_exemplars(n_parameters), "S": N_SETS, "m": SET_SIZE}

    @classmethod
    def shapes_of(cls, buffers: Mapping[str, Tensor]) -> Mapping[str, tuple[str, ...]]:
        large = {name: cls.shapes[name] for name in ("latents", "decoded")}
        return large if buffers.keys() <= large.keys() else cls.shapes  # files once had no small sets

    def __init__(
        self,
        latents: Tensor,
        decoded: Tensor,
        members: Tensor | None = None,
        spread: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        super().__init__()
        one = latents.new_ones(())
        self.register_buffer("latents", latents)
        self.register_buffer("decoded", decoded)
        self.register_buffer("members", None if members is None else members.to(latents))
        self.register_buffer("spread", None if members is None else one if spread is None else spread)
        self.register_buffer("weight", None if members is None else one if weight is None else weight)
        self.latents: Tensor
        self.decoded: Tensor
        self.members: Tensor | None
        self.spread: Tensor
        self.weight: Tensor

    def check_values(self) -> None:
        """Raise `ValueError` if sets have other members than the exemplars, or the weight is no share."""
        n, members = len(self.latents), self.members
        if members is None:
            return
        if not ((members == members.floor()) & (members >= 0) & (members < n)).all():
            raise ValueError(f"the members of its sets must be indices of its {n:,} exemplars")
        if not 0 <= self.weight <= 1:
            raise ValueError("the weight of the set of all exemplars must lie in [0, 1]")

    @property
    def values_per_row(self) -> int:
        return len(self.latents) + (0 if self.members is None else self.members.numel())

    def elbo_terms(self, vae: Model, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        return self.terms(*terms_of(vae, self, x))

    def terms(self, large: Terms, small: Terms | None) -> tuple[Tensor, Tensor]:
        """The terms of the ELBO, ``(N,)`` float64 each."""
        reconstruction, kl = torch.zeros(2, len(large.kl), dtype=torch.float64, device=large.kl.device)
        for weight, terms, chosen, more_kl in self.weighted(large, small):
            reconstruction = reconstruction + weight * terms.reconstruction.gather(1, chosen)[:, 0]
            kl = kl + weight * (terms.kl.gather(1, chosen)[:, 0] + more_kl)
        return reconstruction, kl

    def importance_weighted_bound(self, vae: Model, x: Tensor, noise: Tensor) -> Tensor:
        large, small = terms_of(vae, self, x)
        log_p = large.log_density
        if small is not None:
            of_sets = small.log_density + ((1 - self.weight.double()) / small.kl.shape[1]).log()
            log_p = torch.cat([log_p + self.weight.double().log(), of_sets], dim=1)
        return torch.logsumexp(log_p, dim=1)

    def parts(self, vae: Model, x: Tensor, noise: Tensor) -> Parts:
        """Means over the exemplars of the sets that count, weighted by their responsibilities."""
        kl = x.new_zeros(len(x), len(self.latents), dtype=torch.float64)
        reconstruction, mean, square, entropy = x.new_zeros(4, *x.shape, dtype=torch.float64)
        own = self.own_exemplars(vae.encode(x).mu, sorted_keys_of(vae, self))
        both = zip(sets_of(vae, self), self.weighted(*terms_of(vae, self, x)), strict=False)
        for sets, (weight, _, chosen, more_kl) in both:
            assert sets is not None
            p, decoded, weight = sets.likelihood, sets.decoded, weight[:, None]
            log_p, _, sizes = sets.log_p(x, own)
            log_r = torch.log_softmax(log_p, dim=-1).clamp(min=-1e6)  # finite for those that are left out
            r = log_r.exp() * functional.one_hot(chosen[:, 0], len(sets.members))[:, :, None]
            shares = r * (log_r + sizes.double().log()[..., None] + more_kl)
            kl.index_add_(1, sets.members.ravel(), weight * shares.flatten(1))
            r = r.flatten(1)
            reconstruction += weight * p.mean_log_prob_of_features(x, decoded, r)
            own_mean, own_variance, own_entropy = p.mixture_moments(x, decoded, r)
            mean += weight * own_mean
            square += weight * (own_variance + own_mean.square())
            entropy += weight * own_entropy
        return Parts(reconstruction, kl, mean, square - mean.square(), entropy)

    def weighted(self, large: Terms, small: Terms | None) -> list[tuple[Tensor, Terms, Tensor, float]]:
        """What the ELBO is made of.

        Returns
        -------
        list of (weight, terms, chosen, more_kl)
            The large set and the small ones: their weight ``(N,)`` float64, which of them counts for each row
            ``(N, 1)``, and what the choice adds to the KL term, in nats.
        """
        first = torch.zeros_like(large.kl, dtype=torch.int64)
        if small is None:
            return [(first[:, 0] + 1.0, large, first, 0.0)]
        median, chosen = median_of_sets(small)
        weight = torch.where(large.log_density <= median, 1.0, self.weight.double())[:, 0]
        return [(weight, large, first, 0.0), (1 - weight, small, chosen, LOG_2)]

    def small_sets(self, p: Likelihood) -> Sets:
        """The small sets under this noise, which is not widened yet."""
        assert self.members is not None
        members = self.members.long()
        wide, decoded = p.widened(self.decoded[members.ravel()], self.spread)
        return Sets.of(wide, decoded, members, len(self.latents))

    def sorted_keys(self) -> tuple[Tensor, Tensor]:
        """The keys of the exemplars in ascending order, and which exemplar has each, ``(n,)`` each."""
        keys, order = torch.sort(keys_of(self.latents))
        return keys, order

    def own_exemplars(self, mu: Tensor, sorted_keys: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Which exemplar has each latent mean ``(N, latent_dim)``, ``(N,)`` int64; -1 for none.

        Exemplars are looked up by one linear function of their latents, which nearly always tells them apart.
        """
        keys, order = sorted_keys or self.sorted_keys()
        place = torch.searchsorted(keys, keys_of(mu))
        near = order[(place[:, None] + torch.arange(-2, 2, device=mu.device)).clamp(0, len(keys) - 1)]
        away, chosen = (self.latents[near] - mu[:, None]).abs().amax(dim=2).min(dim=1)
        same = away <= SAME_LATENT * (1 + mu.abs().amax(dim=1))
        return torch.where(same, near.gather(1, chosen[:, None])[:, 0], -1)

    def sample(self, noise: Tensor, uniform: Tensor) -> Tensor:
        return self.latents[(uniform * len(self.latents)).long().clamp(max=len(self.latents) - 1)]


def keys_of(latents: Tensor) -> Tensor:
    """By which exemplars are looked up, ``(N,)`` float64 of latents ``(N, latent_dim)``."""
    direction = torch.cos(1.0 + torch.arange(latents.shape[1], dtype=torch.float64, device=latents.device))
    return (latents.double() * direction).sum(dim=1)


@remembered(lasts=True)
def sorted_keys_of(vae: Model, prior: Exemplars) -> tuple[Tensor, Tensor]:
    """``prior.sorted_keys()``."""
    return prior.sorted_keys()


@remembered("likelihood", lasts=True)
def sets_of(vae: Model, prior: Exemplars) -> tuple[Sets, Sets | None]:
    """The large set and the small ones, if there are some, under the model's likelihood."""
    everyone = torch.arange(len(prior.latents), device=prior.latents.device)[None]
    large = Sets.of(vae.likelihood, prior.decoded, everyone, len(prior.latents))
    return large, None if prior.members is None else prior.small_sets(vae.likelihood)


@remembered("likelihood")
def terms_of(vae: Model, prior: Exemplars, x: Tensor) -> tuple[Terms, Terms | None]:
    """The terms of scaled rows ``(N, D)`` in the sets of `sets_of`."""
    own = prior.own_exemplars(vae.encode(x).mu, sorted_keys_of(vae, prior))
    large, small = sets_of(vae, prior)
    return large.terms(x, own), None if small is None else small.terms(x, own)


def median_of_sets(small: Terms) -> tuple[Tensor, Tensor]:
    """What the small sets contribute to the ELBO: median log-density minus log 2, and the set of it, ``(N, 1)``."""
    median, chosen = small.log_density.kthvalue((small.kl.shape[1] + 1) // 2, dim=1, keepdim=True)
    return median - LOG_2, chosen
