"""Scaling of raw rows: part of the model, so that training, scoring and files cannot disagree about it."""

from __future__ import annotations

from torch import Tensor, nn

CLIP = 1e6


class Scaling(nn.Module):
    """The map x -> (x - loc) / scale, with results clipped to ±1e6 so that no score overflows.

    Parameters
    ----------
    loc, scale : Tensor
        Shape ``(D,)`` for one pair a feature, ``()`` for one pair in all.
    """

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("loc", loc)
        self.register_buffer("scale", scale)
        self.loc: Tensor
        self.scale: Tensor

    def forward(self, raw: Tensor) -> Tensor:
        return (raw - self.loc).div_(self.scale).clamp_(-CLIP, CLIP)

    def inverse(self, x: Tensor) -> Tensor:
        """Scaled rows back in the data's own units."""
        return x * self.scale + self.loc
