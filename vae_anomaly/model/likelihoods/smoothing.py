r"""The smoothing K of images: what it does to one, its determinant, and the diagonal of :math:`(K^T K)^{-1}`.

Along each axis K is a power of the tridiagonal Toeplitz matrix T with rows w, 1 - 2w, w; pixels beyond the border count
as zero. For an axis of n pixels the eigenvalues of T are

.. math::

    \lambda_k = 1 - 2w \left(1 - \cos \frac{\pi k}{n + 1}\right), \quad k = 1, \dots, n,

and its eigenvectors are :math:`\sqrt{2 / (n + 1)} \, \sin(\pi j k / (n + 1))`, so nothing has to be factorised.

The kernel has weights 1/4, 1/2, 1/4 for images of 28 pixels a side. For others its spread is in proportion to the
shorter side, up to 112 pixels: as many passes as keep w at 1/4 or below, at most 16.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

MAX_PASSES = 16  # reached at 112 pixels a side
CACHE_VALUES = 1 << 17  # of rows that are smoothed at a time, where a CPU does
EIGENVECTOR_VALUES = 1 << 24  # held at a time
LARGEST_INVERSE = 1e290  # in the diagonal of the inverse, which only images of over 300 pixels a side reach


@dataclass(frozen=True)
class Smoothing:
    """K for flat rows that are images of this height, width and channels."""

    image_shape: tuple[int, int, int]

    @cached_property
    def variance(self) -> float:
        """Of the kernel along each axis, in squared pixels."""
        return min(MAX_PASSES, (min(self.image_shape[:2]) / 28) ** 2) / 2

    @cached_property
    def passes(self) -> int:
        """How often T is applied along each axis."""
        return math.ceil(2 * self.variance)

    @cached_property
    def weight(self) -> float:
        """W, of each neighbour in one pass."""
        return self.variance / (2 * self.passes)

    @cached_property
    def log_det(self) -> float:
        """Log |det K|."""
        height, width, channels = self.image_shape
        per_pass = width * self._log_det_of_axis(height) + height * self._log_det_of_axis(width)
        return self.passes * channels * per_pass

    def __call__(self, rows: Tensor) -> Tensor:
        """K times each row, ``(N, D)``."""
        if not rows.requires_grad:
            return self.product(rows)
        smoothed: Tensor = Smoothed.apply(rows, self)  # type: ignore[no-untyped-call]  # as torch declares it
        return smoothed

    def squared_norms(self, a: Tensor, b: Tensor) -> Tensor:
        """The squared norm of K (a - b) for rows ``(N, D)`` each: ``(N,)``."""
        if a.requires_grad or b.requires_grad or a.device.type != "cpu":
            return self(a - b).square().sum(dim=-1)
        n = max(1, CACHE_VALUES // a.shape[1])  # rows at a time; each is computed by itself
        pairs = zip(torch.split(a, n), torch.split(b, n), strict=True)
        return torch.cat([self.product(some - others).square().sum(dim=-1) for some, others in pairs])

    def product(self, rows: Tensor) -> Tensor:
        """The same, no gradient recorded."""
        r = rows.reshape(-1, *self.image_shape)
        for axis in (1, 2) * self.passes:
            n = r.shape[axis] - 1
            smoothed = (1 - 2 * self.weight) * r
            smoothed.narrow(axis, 1, n).add_(r.narrow(axis, 0, n), alpha=self.weight)
            smoothed.narrow(axis, 0, n).add_(r.narrow(axis, 1, n), alpha=self.weight)
            r = smoothed
        return r.reshape(rows.shape)

    def inverse_diagonal(self) -> Tensor:
        """Diagonal of :math:`(K^T K)^{-1}`, ``(D,)`` float64, its values bounded so that they stay finite."""
        height, width, channels = self.image_shape
        of_pixels = torch.outer(self._inverse_diagonal_of_axis(height), self._inverse_diagonal_of_axis(width))
        return of_pixels.clamp(max=LARGEST_INVERSE).flatten().repeat_interleave(channels)

    def _log_det_of_axis(self, n: int) -> float:
        """Log |det T| for n pixels."""
        return sum(math.log(1 - 2 * self.weight * (1 - math.cos(math.pi * k / (n + 1)))) for k in range(1, n + 1))

    def _inverse_diagonal_of_axis(self, n: int) -> Tensor:
        """Diagonal of T to the power of -2 passes, ``(n,)`` float64."""
        k = torch.arange(1, n + 1, dtype=torch.float64) * math.pi / (n + 1)
        eigenvalues = 1 - 2 * self.weight * (1 - torch.cos(k))
        powers = eigenvalues.pow(-2 * self.passes)
        pixels = torch.split(torch.arange(1, n + 1), max(1, EIGENVECTOR_VALUES // n))
        return torch.cat([2 / (n + 1) * torch.sin(torch.outer(some, k)).square() @ powers for some in pixels])


class Smoothed(torch.autograd.Function):
    """K times each row, whose gradient is K times that of the result, since K is symmetric."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, smoothing: Smoothing) -> Tensor:
        ctx.smoothing = smoothing
        return smoothing.product(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.smoothing.product(gradients[0]), None
