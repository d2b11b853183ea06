r"""Scaling of raw rows. It is a part of the model, so that training, scoring and files cannot differ in it.

Its results are *units*, what the networks see; of a table with categories there are more units than columns
(`vae_anomaly.model.table_scaling`). A gap, NaN, stays one.

Long tails are drawn in by a map that is the identity between two ends and logarithmic beyond them:

.. math::

    f(x) = \begin{cases} l - s_l \log(1 + (l - x) / s_l) & x < l \\ x & l \le x \le h \\
    h + s_h \log(1 + (x - h) / s_h) & x > h \end{cases}

It rises, its slope has no jump, and it has an inverse in closed form. With l at minus infinity and h near zero it is a
logarithm; with both ends near the bulk of a column, a single huge value no longer decides the spread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

CLIP = 1e6


class Scaling(nn.Module):
    """The map raw -> (raw - loc) / scale, its results clipped to ±1e6 so that no score overflows.

    Parameters
    ----------
    loc, scale : Tensor
        Shape ``(D,)`` for a pair of each feature, ``()`` for one pair in all.
    """

    positive_buffers: ClassVar[frozenset[str]] = frozenset({"scale"})
    aligns: ClassVar[bool] = False  # whether images are moved first, and the inverse gives moved ones

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("loc", loc)
        self.register_buffer("scale", scale)
        self.loc: Tensor
        self.scale: Tensor

    def forward(self, raw: Tensor) -> Tensor:
        """Scaled rows ``(N, D)``."""
        return (raw - self.loc).div_(self.scale).clamp_(-CLIP, CLIP)

    def inverse(self, x: Tensor) -> Tensor:
        """Scaled rows in the units of the data, ``(N, D)``."""
        return x * self.scale + self.loc

    def check_values(self) -> None:
        """Refuse numbers in buffers that no fit gives, beside those that `positive_buffers` are about.

        Raises
        ------
        ValueError
            If there are some.
        """

    def to_features(self, shares: Tensor) -> Tensor:
        """Shares of units ``(N, W)`` added up to those of features, ``(N, D)``."""
        return shares

    def spread(self, mean: Tensor, variance: Tensor) -> Tensor:
        """The standard deviation in the units of the data, from mean and variance of scaled rows: ``(N, D)``."""
        return variance.sqrt() * self.scale.double()


class TailScaling(Scaling):
    """A `Scaling` that first draws in the tails of each feature.

    Parameters
    ----------
    loc, scale : Tensor
        ``(D,)``, of what the map leaves.
    low, high : Tensor
        ``(D,)``: the ends between which the map is the identity; beyond all values where there is none.
    low_scale, high_scale : Tensor
        ``(D,)``, positive: the distances over which it turns logarithmic.
    """

    positive_buffers: ClassVar[frozenset[str]] = frozenset({"scale", "low_scale", "high_scale"})
    names: ClassVar[tuple[str, ...]] = ("loc", "scale", "low", "high", "low_scale", "high_scale")

    def __init__(
        self, loc: Tensor, scale: Tensor, low: Tensor, high: Tensor, low_scale: Tensor, high_scale: Tensor
    ) -> None:
        super().__init__(loc, scale)
        self.low: Tensor
        self.high: Tensor
        self.low_scale: Tensor
        self.high_scale: Tensor
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        self.register_buffer("low_scale", low_scale)
        self.register_buffer("high_scale", high_scale)

    def forward(self, raw: Tensor) -> Tensor:
        return super().forward(self.drawn_in(raw))

    def drawn_in(self, raw: Tensor) -> Tensor:
        """The map, ``(N, D)``; to the bit the identity between the ends."""
        above, below = (raw - self.high).clamp(min=0), (self.low - raw).clamp(min=0)
        high = torch.where(above > 0, self.high + self.high_scale * torch.log1p(above / self.high_scale), raw)
        return torch.where(below > 0, self.low - self.low_scale * torch.log1p(below / self.low_scale), high)

    def inverse(self, x: Tensor) -> Tensor:
        drawn_in = super().inverse(x)
        above, below = (drawn_in - self.high).clamp(min=0), (self.low - drawn_in).clamp(min=0)
        high = torch.where(above > 0, self.high + self.high_scale * torch.expm1(above / self.high_scale), drawn_in)
        return torch.where(below > 0, self.low - self.low_scale * torch.expm1(below / self.low_scale), high)

    def spread(self, mean: Tensor, variance: Tensor) -> Tensor:
        """By the inverse's slope at the mean."""
        drawn_in = super().inverse(mean.double())
        above, below = (drawn_in - self.high).clamp(min=0), (self.low - drawn_in).clamp(min=0)
        slope = torch.exp(above / self.high_scale.double() + below / self.low_scale.double())
        return super().spread(mean, variance) * slope


def scaling_of(buffers: Mapping[str, Tensor]) -> Scaling:
    """The scaling of numbers that has these buffers.

    Raises
    ------
    TypeError
        If there is none.
    """
    return (TailScaling if buffers.keys() == set(TailScaling.names) else Scaling)(**buffers)


def filled(x: Tensor) -> Tensor:
    """Scaled rows with zero, the mean of the normals, in place of gaps; what has none keeps its bits."""
    return torch.nan_to_num(x, nan=0.0)
