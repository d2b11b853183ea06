"""Scaling of raw rows. It is a part of the model, so that training, scoring and files cannot differ in it."""

from __future__ import annotations

from typing import ClassVar

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
