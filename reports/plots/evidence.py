"""Why a sample got its score, to look at: what was seen, what the model expected, and where the nats went.

Arrays come in, a `Figure` comes out. Contributions are what features take from the ELBO, in nats: for a table beyond
what the model predicts of a feature, for an image more than its best pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from vae_anomaly.reports.plots.style import (
    ANOMALOUS,
    HELD_OUT,
    INK,
    NORMAL,
    figure_of,
    name,
    number,
    plain_ticks,
    styled,
)

MOST_FEATURES = 100  # in one figure
WIDE = 20  # spreads from which on the axis of deviations is logarithmic
FAR = 1e4  # and at which it ends
DIVERGING, SEQUENTIAL = "RdBu_r", "cividis"  # both legible to the colour-blind


@styled()
def plot_image_evidence(
    image: np.ndarray,
    expected: np.ndarray,
    contributions: np.ndarray,
    *,
    title: str = "",
) -> Figure:
    r"""An image, what the model expected, their difference, and the nats that each pixel costs.

    Parameters
    ----------
    image, expected
        ``(H, W)`` or ``(H, W, C)``, in the same units; grey, or colour with 3 channels (of others, the mean is shown).
    contributions
        In the shape of ``image``, in nats; channels are added up.
    title
        Above the whole, lines separated by ``\n``.

    Returns
    -------
    Figure
        Four axes, and two with colour bars.
    """
    image, expected, contributions = (
        np.asarray(array, dtype=np.float64).reshape(*np.shape(array)[:2], -1)
        for array in (image, expected, contributions)
    )
    low, high = min(image.min(), expected.min()), max(image.max(), expected.max())
    height, width = image.shape[:2]
    figure = Figure(figsize=(5, 1.3 + 4.1 * min(max(height / width, 0.2), 3)), layout="constrained")
    above(figure, title)
    top_left, top_right, left, right = figure.subplots(2, 2).flat
    for ax, heading, pixels in ((top_left, "input", image), (top_right, "expected", expected)):
        shown = (pixels - low) / (high - low if high > low else 1.0)
        shown = shown if shown.shape[2] == 3 else np.repeat(shown.mean(axis=2, keepdims=True), 3, axis=2)
        ax.imshow(shown)
        ax.set_title(heading)
    residual = (image - expected).mean(axis=2)
    most = float(np.abs(residual).max()) or 1.0
    draw_map(left, residual, DIVERGING, (-most, most), "input \N{MINUS SIGN} expected", "units of the data")
    nats = contributions.sum(axis=2)
    span = (float(nats.min()), float(nats.max()) if nats.max() > nats.min() else float(nats.min()) + 1)
    draw_map(right, nats, SEQUENTIAL, span, "cost", "nats more than the best pixel")
    for ax in (top_left, top_right, left, right):
        ax.set_axis_off()
    return figure


def draw_map(ax: Axes, values: np.ndarray, colours: str, limits: tuple[float, float], heading: str, unit: str) -> None:
    """Values ``(H, W)`` as colours, with a colour bar below."""
    artist = ax.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1])
    ax.set_title(heading)
    figure_of(ax).colorbar(
        artist,
        ax=ax,
        location="bottom",
        pad=0.03,
        label=unit,
        ticks=MaxNLocator(4),
        format=FuncFormatter(lambda value, _: number(value)),
    )


@styled()
def plot_feature_evidence(
    names: Sequence[str],
    observed: np.ndarray,
    expected: np.ndarray,
    spread: np.ndarray,
    contributions: np.ndarray,
    *,
    most: int = 10,
    title: str = "",
) -> Figure:
    r"""The features that cost most, worst first: how far from what was expected, and the nats for it.

    Parameters
    ----------
    names
        Of the D features.
    observed, expected, spread
        ``(D,)`` each, in each feature's own units: what was seen, and the mean and standard deviation of what the model
        expected. Bars show the distance in such standard deviations, the label the values themselves.
    contributions
        ``(D,)``, in nats.
    most
        How many features to show, at most 100.
    title
        Above the whole, lines separated by ``\n``.

    Returns
    -------
    Figure
        Two axes that share their rows.
    """
    worst = np.argsort(-contributions, kind="stable")[: min(most, MOST_FEATURES)]
    deviation = deviations(observed, expected, spread)[worst]
    values = [measured(observed[i], expected[i], spread[i]) for i in worst]
    labels = [
        f"{name(names[i], 36)}\n" + f"{seen}, expected {mean} ± {std}".replace("-", "\N{MINUS SIGN}")
        for i, (seen, mean, std) in zip(worst, values, strict=True)
    ]
    rows = np.arange(len(worst))
    figure = Figure(figsize=(5, 1.3 + 0.42 * len(worst)), layout="constrained")
    which = f"the {len(worst)} worst of {len(names):,} features" if len(worst) < len(names) else "all features"
    above(figure, f"{title}\n{which}")
    left, right = figure.subplots(1, 2, sharey=True)
    left.axvspan(-1, 1, color=HELD_OUT, alpha=0.3, linewidth=0)
    left.axvline(0, color=INK, linewidth=0.8)
    left.barh(rows, deviation, height=0.5, color=NORMAL)
    left.plot(deviation, rows, "o", color=INK, markersize=3)
    left.set_yticks(rows, labels, fontsize=8, parse_math=False)
    left.invert_yaxis()
    left.set_xlabel("spreads from\nexpected")
    largest = float(np.abs(deviation).max())
    if largest > WIDE:
        power = 10 ** math.floor(math.log10(largest))
        ticks = [tick for tick in (-power, 0, power) if deviation.min() <= tick <= deviation.max() or tick == 0]
        left.set_xscale("symlog", linthresh=1)
        left.set_xticks(ticks, [number(tick) for tick in ticks])
        left.minorticks_off()
    else:
        plain_ticks(left.xaxis, 4)
    bars = right.barh(rows, contributions[worst], height=0.5, color=ANOMALOUS)
    right.bar_label(bars, [number(float(f"{value:.3g}")) for value in contributions[worst]], padding=3, fontsize=8)
    right.axvline(0, color=INK, linewidth=0.8)
    right.margins(x=0.3)
    right.set_xticks([])
    right.set_xlabel("nats beyond\nprediction")
    return figure


def above(figure: Figure, title: str) -> None:
    """A title of some lines, each cut where it is too long."""
    lines = [name(line, 68) for line in title.split("\n") if line]
    if lines:
        figure.suptitle("\n".join(lines), fontsize=9, parse_math=False)


def deviations(observed: np.ndarray, expected: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Distances from what was expected in spreads, ``(D,)``, cut off at ten thousand: a spread may be zero."""
    limit = FAR * np.maximum(spread, np.finfo(np.float64).tiny)
    inside: np.ndarray = np.clip(observed - expected, -limit, limit) / limit
    return FAR * inside


def measured(observed: float, expected: float, spread: float) -> tuple[str, str, str]:
    """What was seen, what was expected, and its spread, with the digits that two of the spread's make sense of."""
    decimals = max(0, 1 - math.floor(math.log10(spread))) if spread > 0 else 6
    digits = f",.{decimals}f" if max(abs(observed), abs(expected), spread) < 1e7 and decimals < 10 else ".6g"
    return format(observed, digits), format(expected, digits), format(spread, digits)
