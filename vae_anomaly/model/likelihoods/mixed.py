r"""Columns of several kinds: Gaussian numbers and categorical levels, and nothing for gaps.

Of the units x of a row (`vae_anomaly.columns`), with the decoder's output m for numeric units j and a for the level
units of each category c,

.. math::

    \log p(x|z) = \sum_{j \text{ observed}} \log N(x_j; m_j, v_j)
    + \sum_{c \text{ observed}} \sum_{l \in c} x_l \, \log \frac{e^{a_l}}{\sum_{k \in c} e^{a_k}}.

A gap adds no term: it is integrated out, since units are independent given z. Training learns one variance for all
numeric units; afterwards each has its own.

*Exemplars.* A row :math:`x_i` stands for a p(x|z_i) with a kernel for each kind of column: for numbers the Gaussian
around its value, for categories, with the marginal frequency f,

.. math::

    p(l) = (1 - \varepsilon_c) \, [l = l_i] + \varepsilon_c \, f_l ,

and where it has a gap the marginal itself: N(0, 1) in scaled units, or f. Means and logits may also move from these
towards what the decoder says. Variances, :math:`\varepsilon` and the share of the decoder are those of the highest
mean log-density of rows that are left out (`vae_anomaly.fitting.mixed_exemplars`).

The decoder's output has W numbers. An exemplar has as many and then the log-variance of each numeric unit, since that
differs where it has a gap.

References
----------
Multivariate Binary Discrimination by the Kernel Method (Aitchison & Aitken, 1976),
https://doi.org/10.1093/biomet/63.3.413, whose kernel spreads epsilon evenly
Handling Incomplete Heterogeneous Data using VAEs (Nazabal et al., 2020), https://arxiv.org/abs/1807.03653
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Self

import torch
from torch import Tensor

from vae_anomaly.columns import Columns
from vae_anomaly.model.affine import affine, affine_of_filled, filled_up
from vae_anomaly.model.constants import constant
from vae_anomaly.model.likelihoods.base import Likelihood
from vae_anomaly.registry import LIKELIHOODS

SMALLEST_VARIANCE = 1e-4
AVERAGE_ROWS = 5.0  # of a unit's variance: as much weight as so many rows has that of all units together


@LIKELIHOODS.register(
    "mixed",
    gaussian=True,
    brought_by="columns of several kinds",
    stands_for="gaussian",
    prior_fits={"exemplars": "exemplars of tables"},
)
class Mixed(Likelihood):
    """Gaussian numbers and categorical levels; gaps are left out.

    Parameters
    ----------
    n_numeric
        Numeric units P, which come first.
    groups
        How many units each category has.
    """

    positive_buffers: ClassVar[frozenset[str]] = frozenset({"variance"})

    def __init__(self, n_numeric: int, groups: tuple[int, ...]) -> None:
        super().__init__()
        self.n_numeric, self.n_groups, self.n_units = n_numeric, len(groups), n_numeric + sum(groups)
        self.groups = groups
        self.group_of_level = tuple(group for group, size in enumerate(groups) for _ in range(size))
        self.register_buffer("variance", torch.ones(max(1, n_numeric)))
        self.variance: Tensor

    @classmethod
    def for_samples(cls, image_shape: tuple[int, ...] | None, columns: Columns | None = None) -> Self:
        assert columns is not None  # such a table brings it
        return cls(len(columns.numeric), tuple(size for _, size in columns.groups))

    @property
    def exemplar_parameters(self) -> int:
        return self.n_units + self.n_numeric

    def log_prob_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        numbers, levels, log_variance = self.split(decoded)
        x_numbers, x_levels = x[:, : self.n_numeric], x[:, self.n_numeric :]
        squared = torch.nan_to_num(x_numbers - numbers).square() * torch.exp(-log_variance)
        log_p = -0.5 * (squared + log_variance + math.log(2 * math.pi))
        log_p = log_p.masked_fill(torch.isnan(x_numbers), 0.0)
        return torch.cat([log_p, x_levels * self.log_softmax(levels)], dim=1)

    def split(self, decoded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Means ``(N, P)``, logits ``(N, W - P)``, and log-variances, ``(P,)`` or, of exemplars, ``(N, P)``."""
        numbers, levels = decoded[:, : self.n_numeric], decoded[:, self.n_numeric : self.n_units]
        own = decoded[:, self.n_units :]
        return numbers, levels, own if own.shape[1] else self.variance[: self.n_numeric].to(decoded).log()

    def log_softmax(self, logits: Tensor) -> Tensor:
        """Log-probabilities of levels ``(N, W - P)``, normalised in each category."""
        if not self.n_groups:
            return logits
        group = constant(self.group_of_level, logits.device).expand(len(logits), -1)
        start = logits.new_full((len(logits), self.n_groups), -math.inf)
        top = start.scatter_reduce(1, group, logits.detach(), "amax")
        below = logits - top.gather(1, group)
        total = torch.zeros_like(top).scatter_add(1, group, below.exp())
        return below - total.log().gather(1, group)

    def mean(self, decoded: Tensor) -> Tensor:
        """Means of numeric units and probabilities of levels, ``(N, W)``."""
        numbers, levels, _ = self.split(decoded)
        return torch.cat([numbers, self.log_softmax(levels).exp()], dim=1)

    def variance_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        numbers, levels, log_variance = self.split(decoded)
        p = self.log_softmax(levels).exp().double()
        return torch.cat([log_variance.double().exp().expand_as(numbers), p * (1 - p)], dim=1)

    def entropy_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        numbers, levels, log_variance = self.split(decoded)
        log_p = self.log_softmax(levels)
        entropy = 0.5 * (1 + math.log(2 * math.pi) + log_variance).expand_as(numbers)
        return self.observed(x) * torch.cat([entropy, -log_p.exp() * log_p], dim=1)

    def observed(self, x: Tensor) -> Tensor:
        """One for each unit of a column that the row has a value of, zero at gaps: ``(N, W)``."""
        there = ~torch.isnan(x[:, : self.n_numeric])
        levels = x[:, self.n_numeric :]
        if not self.n_groups:
            return there.to(x)
        group = constant(self.group_of_level, x.device).expand(len(x), -1)
        of_groups = levels.new_zeros(len(x), self.n_groups).scatter_add(1, group, levels)
        return torch.cat([there.to(x), of_groups.gather(1, group)], dim=1)

    def bind_means(self, decoded: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        filled = filled_up(self.coefficients(decoded.double()))

        def in_parts(x: Tensor) -> tuple[Tensor, Tensor]:
            of_pairs = affine_of_filled(self.statistics(x.double()), *filled)[:, : len(decoded)]
            return of_pairs, of_pairs.new_zeros(len(x))

        return in_parts

    def statistics(self, x: Tensor) -> Tensor:
        """What the log-density is linear in: squares, values and presence of numbers, and levels: ``(N, 2 P + W)``."""
        numbers, levels = x[:, : self.n_numeric], x[:, self.n_numeric :]
        there = ~torch.isnan(numbers)
        numbers = torch.nan_to_num(numbers)
        return torch.cat([numbers.square(), numbers, there.to(x), levels], dim=1)

    def coefficients(self, decoded: Tensor) -> Tensor:
        """By which `statistics` are multiplied for each of n decoded means, ``(n, 2 P + W)``."""
        numbers, levels, log_variance = self.split(decoded)
        log_variance = log_variance.expand_as(numbers)
        inverse = torch.exp(-log_variance)
        constant = -0.5 * (numbers.square() * inverse + log_variance + math.log(2 * math.pi))
        return torch.cat([-0.5 * inverse, numbers * inverse, constant, self.log_softmax(levels)], dim=1)

    def mean_log_prob_of_features(self, x: Tensor, decoded: Tensor, weights: Tensor) -> Tensor:
        coefficients = affine(weights.double(), self.coefficients(decoded.double()).T.contiguous())
        terms = self.statistics(x.double()) * coefficients
        sizes = [self.n_numeric] * 3 + [self.n_units - self.n_numeric]
        squares, values, presence, levels = torch.split(terms, sizes, dim=1)
        return torch.cat([squares + values + presence, levels], dim=1)

    def mixture_moments(self, x: Tensor, decoded: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weights = weights.double()
        means = self.mean(decoded).double()
        _, _, log_variance = self.split(decoded.double())
        log_variance = log_variance.expand(len(decoded), self.n_numeric)
        mean = affine(weights, means.T.contiguous())
        numbers, p = mean[:, : self.n_numeric], mean[:, self.n_numeric :]
        second = means[:, : self.n_numeric].square() + log_variance.exp()
        variance = (affine(weights, second.T.contiguous()) - numbers.square()).clamp(min=0)
        entropy = 0.5 * (1 + math.log(2 * math.pi) + affine(weights, log_variance.T.contiguous()))
        entropy = torch.cat([entropy, -p * p.clamp(min=1e-300).log()], dim=1) * self.observed(x).double()
        return mean, torch.cat([variance, p * (1 - p)], dim=1), entropy

    def widened(self, decoded: Tensor, spread: Tensor) -> tuple[Self, Tensor]:
        """The same for categories: their probabilities to the power of 1 / spread, normalised."""
        wide = type(self)(self.n_numeric, self.groups).to(decoded)
        wide.variance = self.variance * spread
        sizes = [self.n_numeric, self.n_units - self.n_numeric, decoded.shape[1] - self.n_units]
        numbers, levels, own = torch.split(decoded, sizes, dim=1)
        return wide, torch.cat([numbers, levels / spread, own + spread.log()], dim=1)

    def learn(self, x: Tensor, decoded: Tensor, weight: float | Tensor) -> Tensor:
        squared, there = self.squared_residuals(x, decoded.detach())
        mean = squared.sum() / there.sum().clamp(min=1)
        self.variance.lerp_(mean.clamp(min=SMALLEST_VARIANCE).expand_as(self.variance), weight)
        return self.log_prob(x, decoded)

    def squared_residuals(self, x: Tensor, decoded: Tensor) -> tuple[Tensor, Tensor]:
        """Of numeric units, ``(N, P)``, zero at gaps; and where there is a value, ``(N, P)`` bool."""
        residual = x[:, : self.n_numeric] - decoded[:, : self.n_numeric]
        return torch.nan_to_num(residual).square(), ~torch.isnan(residual)

    @torch.no_grad()
    def fit_after_training(self, x: Tensor, decoded: Tensor, codes: Tensor) -> None:
        if self.n_numeric:
            squared, there = (values.sum(dim=0) for values in self.squared_residuals(x, decoded))
            average = squared.sum() / there.sum().clamp(min=1)
            variance = (squared + AVERAGE_ROWS * average) / (there + AVERAGE_ROWS)
            self.variance.copy_(variance.clamp(min=SMALLEST_VARIANCE))

    @torch.no_grad()
    def rescale_noise(self, x: Tensor, before: Tensor, after: Tensor) -> None:
        old, new = (self.squared_residuals(x, decoded)[0].mean() for decoded in (before, after))
        self.variance.mul_((new / old).nan_to_num(1.0)).clamp_(min=SMALLEST_VARIANCE)
