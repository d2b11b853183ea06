r"""Exemplars of tables with columns of several kinds: a kernel for each column (`model.likelihoods.mixed`).

Each of n rows is an exemplar. With a share s, its means are :math:`(1 - s) \, \hat x_i + s \, x_i`, from the decoder's
output and the row itself, and its probabilities of levels

.. math::

    p_i(l) = (1 - s) \, \hat p_i(l) + s \big( (1 - \varepsilon_c) \, [l = l_i] + \varepsilon_c f_l \big).

For each share, the variances and :math:`\varepsilon` come from expectation maximisation of

.. math::

    \mathrm{mean}_j \, \log \frac{1}{n - 1} \sum_{i \ne j} p(x_j | z_i)

over up to 1,000 of the exemplars j, each left out of its own sum. The variance of a unit and the epsilon of a category
have a prior: the average over all of them, with the weight of five rows. The share is the one of the highest density
among those j that no weight was fitted to, and one, the rows themselves, where there are fewer than ten of those.

Small sets are drawn as in `fitting.exemplars`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vae_anomaly.fitting.exemplars import ENOUGH_ROWS, with_small_sets
from vae_anomaly.fitting.prior_fit import LIKELIHOOD_ROWS, FittingRows, PriorFit
from vae_anomaly.model.likelihoods.mixed import AVERAGE_ROWS, Mixed
from vae_anomaly.model.priors.exemplars import most_exemplars
from vae_anomaly.model.table_scaling import TableScaling
from vae_anomaly.model.vae import VAE
from vae_anomaly.registry import PRIOR_FITS
from vae_anomaly.scoring.blocks import by_block

SHARES = (1.0, 0.75, 0.5)
STEPS = 15
SMALLEST_KERNEL = 1e-2  # a tenth of a deviation: rows that come in pairs, or values of a few, would have no width
SMALLEST_OF_CYCLE = 1e-1  # a day of the week that no row has is then as odd as a level that none has, and no odder
SMALLEST_EPSILON, LARGEST_EPSILON = 1e-4, 0.9


@PRIOR_FITS.register("exemplars of tables")
class TableExemplarsFit(PriorFit):
    """Rows as exemplars, with a kernel for each kind of column."""

    @torch.no_grad()
    def after_likelihood(self, vae: VAE, rows: FittingRows, x: Tensor) -> None:
        p = vae.likelihood
        assert isinstance(p, Mixed)  # which asks for this fit in the registry
        raw, of_training = rows.exemplars(most_exemplars(p.exemplar_parameters))
        results = by_block(vae, raw, lambda units: (vae.encode(units).mu, vae.decode(vae.encode(units).mu), units))
        latents, decoded, units = (torch.from_numpy(result).to(vae.scaling.loc) for result in results)
        assert isinstance(vae.scaling, TableScaling)  # as of every table that has this likelihood
        kernels = Kernels.around(p, units.double(), decoded.double(), vae.scaling.linear_units)
        held_out = torch.from_numpy(np.flatnonzero(~of_training))
        shares = SHARES if len(held_out) >= ENOUGH_ROWS else SHARES[:1]
        fits = [kernels.with_share(share) for share in shares]
        best = max(fits, key=lambda fit: fit.density(held_out)) if len(fits) > 1 else fits[0]
        vae.prior = with_small_sets(p, latents, best.parameters().to(latents), units, rows)


@dataclass
class Kernels:
    """Exemplars with their kernels, all double precision.

    Parameters
    ----------
    p
        The likelihood.
    x, decoded
        Units ``(n, W)`` of the rows, and the decoder's output for them.
    frequency
        Marginal probability of each level, ``(W - P,)``.
    observed
        One where a row has a value, ``(n, W)``.
    share
        Of the row in its exemplar.
    variance, epsilon
        Of numeric units ``(P,)`` and of categories ``(G,)``.
    smallest
        The least variance of each numeric unit, ``(P,)``.
    """

    p: Mixed
    x: Tensor
    decoded: Tensor
    frequency: Tensor
    observed: Tensor
    share: float
    variance: Tensor
    epsilon: Tensor
    smallest: Tensor

    @classmethod
    def around(cls, p: Mixed, x: Tensor, decoded: Tensor, linear_units: Sequence[int]) -> Kernels:
        """Kernels whose widths are not fitted yet; numeric units that are not linear are of a date's cycles."""
        levels = x[:, p.n_numeric :]
        counts = levels.sum(dim=0) + 0.5
        group = torch.tensor(p.group_of_level, device=x.device, dtype=torch.long)
        totals = counts.new_zeros(p.n_groups).index_add_(0, group, counts)
        start = counts.new_full((p.n_numeric,), 0.3), counts.new_full((p.n_groups,), 0.1)
        smallest = counts.new_full((p.n_numeric,), SMALLEST_OF_CYCLE)
        smallest[list(linear_units)] = SMALLEST_KERNEL
        return cls(p, x, decoded, counts / totals[group], p.observed(x), 1.0, *start, smallest)

    def with_share(self, share: float) -> Kernels:
        """The same with this share, and the widths that suit it."""
        fitted = replace(self, share=share)
        if len(self.x) > 1:
            rows = torch.arange(min(len(self.x), LIKELIHOOD_ROWS), device=self.x.device)
            for _ in range(STEPS):
                fitted.step(rows)
        return fitted

    @property
    def group(self) -> Tensor:
        """The category of each level unit, ``(W - P,)``."""
        return torch.tensor(self.p.group_of_level, device=self.x.device, dtype=torch.long)

    def level_parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Each exemplar's probability of each level, and its parts from a match and from the frequency, ``(n, W - P)``.

        Where the exemplar has a gap, the probability is the frequency.
        """
        n = self.p.n_numeric
        epsilon = self.epsilon[self.group]
        match = self.share * (1 - epsilon) * self.x[:, n:]
        even = self.share * epsilon * self.frequency.expand_as(match)
        network = (1 - self.share) * self.p.log_softmax(self.decoded[:, n : self.p.n_units]).exp()
        there = self.observed[:, n:] > 0
        return torch.where(there, network + match + even, self.frequency), match, even

    def parameters(self) -> Tensor:
        """What `Exemplars` keeps: means, logits and log-variances, ``(n, W + P)``."""
        n = self.p.n_numeric
        there = self.observed[:, :n] > 0
        means = torch.where(there, torch.lerp(self.decoded[:, :n], torch.nan_to_num(self.x[:, :n]), self.share), 0.0)
        log_variance = torch.where(there, self.variance.log(), 0.0)
        return torch.cat([means, self.level_parts()[0].log(), log_variance], dim=1)

    def log_prob_left_out(self, rows: Tensor) -> Tensor:
        """Log-density of exemplars ``rows`` ``(m,)`` under each, minus infinity under themselves: ``(m, n)``."""
        log_p = self.p.log_prob_of_pairs(self.x[rows], self.parameters())
        log_p[torch.arange(len(rows), device=rows.device), rows] = -math.inf
        return log_p

    def density(self, rows: Tensor) -> float:
        """Mean log-density of exemplars ``rows`` ``(m,)`` under all others, up to a constant."""
        rows = rows.to(self.x.device)[:LIKELIHOOD_ROWS]
        return float(torch.logsumexp(self.log_prob_left_out(rows), dim=1).mean())

    def step(self, rows: Tensor) -> None:
        """One step of expectation maximisation, for exemplars ``rows`` ``(m,)``."""
        n = self.p.n_numeric
        r = torch.softmax(self.log_prob_left_out(rows), dim=1)
        x = self.x[rows]
        probability, match, even = self.level_parts()
        if n:
            there = self.observed[:, :n]
            means = self.parameters()[:, :n]
            here, values = self.observed[rows][:, :n], torch.nan_to_num(x[:, :n])
            weights = here * (r @ there)
            squared = values.square() * weights - 2 * values * here * (r @ (there * means))
            squared = squared + here * (r @ (there * means.square()))
            self.variance = shrunk(squared.sum(dim=0), weights.sum(dim=0)).clamp(min=self.smallest)
        if self.p.n_groups:
            there = self.observed[:, n:]
            of_match, of_even = ((x[:, n:] * (r @ (there * part / probability))).sum(dim=0) for part in (match, even))
            groups = of_even.new_zeros(2, self.p.n_groups).index_add_(1, self.group, torch.stack([of_even, of_match]))
            self.epsilon = shrunk(groups[0], groups.sum(dim=0)).clamp(SMALLEST_EPSILON, LARGEST_EPSILON)


def shrunk(sums: Tensor, weights: Tensor) -> Tensor:
    """Means ``(k,)`` from sums and weights, moved towards that of all together."""
    average = sums.sum() / weights.sum().clamp(min=1e-12)
    return (sums.clamp(min=0) + AVERAGE_ROWS * average) / (weights + AVERAGE_ROWS)
