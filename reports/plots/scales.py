"""Axes for scores with heavy tails: linear where the normals are, logarithmic beyond.

One anomaly's score may lie a thousand times as far from the normals as these lie from each other. On a linear axis the
normals would be one bar, and a logarithmic axis has no place for negative scores, which an ELBO gives. So a value v is
drawn at arcsinh((v - m) / s), where m is the normals' median and s their spread, from the 5 % to the 95 % quantile:
about linear while |v - m| < s, about logarithmic beyond, and defined for every number. An axis ends where only 0.2 %
of a sample lie beyond.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from vae_anomaly.reports.plots.style import number_format, plain_ticks

MAX_LINEAR = 8  # spreads of the normals that a linear axis holds
CUT = 0.002  # share of a sample that may lie beyond either end


@dataclass(frozen=True)
class Scale:
    """An axis from ``low`` to ``high``; ``width`` is the normals' spread around ``centre``, None for a linear axis."""

    low: float
    high: float
    centre: float = 0.0
    width: float | None = None

    def forward(self, values: np.ndarray) -> np.ndarray:
        """Values to positions."""
        return values if self.width is None else np.arcsinh((values - self.centre) / self.width)

    def inverse(self, positions: np.ndarray) -> np.ndarray:
        """Positions to values."""
        return positions if self.width is None else self.centre + self.width * np.sinh(positions)

    def grid(self, n: int) -> np.ndarray:
        """Values ``(n,)`` evenly spaced on the axis, from end to end."""
        low, high = self.forward(np.array([self.low, self.high])).tolist()
        return self.inverse(np.linspace(low, high, n))

    def apply(self, ax: Axes, which: Literal["x", "y"]) -> None:
        """Give one of the axes this scale, its limits and ticks."""
        axis = ax.xaxis if which == "x" else ax.yaxis
        if self.width is None:
            plain_ticks(axis)
        else:
            set_scale = ax.set_xscale if which == "x" else ax.set_yscale
            set_scale("function", functions=(self.forward, self.inverse))
            axis.set_major_locator(FixedLocator(self.ticks()))
            axis.set_major_formatter(number_format())
            axis.set_minor_locator(NullLocator())
        (ax.set_xlim if which == "x" else ax.set_ylim)(self.low, self.high)

    def ticks(self) -> list[float]:
        """Round values, about evenly spaced on the axis."""
        values = self.grid(6)
        steps = np.diff(values)
        digits = np.floor(np.log10(np.minimum(np.append(steps, np.inf), np.append(np.inf, steps))))
        rounded = {round(value / 10**digit) * 10**digit for value, digit in zip(values, digits, strict=True)}
        return [float(value) for value in sorted(rounded) if self.low <= value <= self.high]


def scale_of(normal: np.ndarray, others: Sequence[np.ndarray] = (), always: float | None = None) -> Scale:
    """A scale that separates the normals and holds all samples, except for at most 0.2 % at either end.

    Parameters
    ----------
    normal
        Values ``(N,)`` of the normals, whose spread decides.
    others
        Further samples to show, each ``(M,)``.
    always
        A value that must be on the axis.
    """
    ends = np.concatenate([np.quantile(part, [CUT, 1 - CUT]) for part in (normal, *others) if len(part)])
    ends = ends if always is None else np.append(ends, always)
    low, high = float(ends.min()), float(ends.max())
    centre, (left, right) = float(np.median(normal)), np.quantile(normal, [0.05, 0.95])
    width = float(right - left)
    if high - low > MAX_LINEAR * width > 1e-12 * (high - low):
        left, right = np.arcsinh((np.array([low, high]) - centre) / width)
        margin = 0.02 * (right - left)
        low, high = (centre + width * np.sinh(np.array([left - margin, right + margin]))).tolist()
        return Scale(low, high, centre, width)
    margin = 0.02 * (high - low) or max(0.5, 1e-6 * abs(high))
    return Scale(low - margin, high + margin)
