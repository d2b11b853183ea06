"""Why a sample got its score: what was observed, what the model expected, and how many nats each part costs.

Contributions are what features or pixels take from the ELBO, in nats. In a table they count from what the model
predicts for the feature; in an image they count from the image's best pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vae_anomaly.reports.plots.samples import displayable, shades
from vae_anomaly.reports.plots.style import (
    ANOMALOUS,
    DIVERGING,
    HELD_OUT,
    INK,
    NORMAL,
    SEQUENTIAL,
    figure_of,
    number,
    number_format,
    plain_ticks,
    safe_name,
    styled,
)
from vae_anomaly.tables.words import FeatureInWords, feature_in_words

MAX_FEATURES = 100  # in one figure
MAX_LINEAR = 20  # spreads that a linear axis of deviations shows; beyond, it is logarithmic
MAX_DEVIATION = 1e4  # spreads at which that axis ends


@styled()
def plot_image_evidence(
    image: np.ndarray,
    expected: np.ndarray,
    contributions: np.ndarray,
    *,
    heat: tuple[np.ndarray, float] | None = None,
    title: str = "",
) -> Figure:
    r"""An image, what the model expected, their difference, and how odd each place is or what each pixel costs.

    Parameters
    ----------
    image, expected
        ``(H, W)`` or ``(H, W, C)``, in the same units: colour if there are 3 channels, else the mean of the channels.
    contributions
        In the shape of ``image``, in nats; channels are added up.
    heat
        How odd each place is, ``(H, W)`` in nats, and the end of its scale, which is the same for all images of a
        model; shown in place of ``contributions``.
    title
        Above the figure, lines separated by ``\n``.

    Returns
    -------
    Figure
        Four axes with pictures, and two with colour bars.
    """
    image, expected, contributions = (
        np.asarray(array, dtype=np.float64).reshape(*np.shape(array)[:2], -1)
        for array in (image, expected, contributions)
    )
    low, high = min(image.min(), expected.min()), max(image.max(), expected.max())
    height, width = image.shape[:2]
    figure = Figure(figsize=(5, 1.3 + 4.1 * min(max(height / width, 0.2), 3)), layout="constrained")
    add_title(figure, title)
    top_left, top_right, left, right = figure.subplots(2, 2).flat
    for ax, heading, pixels in ((top_left, "input", image), (top_right, "expected", expected)):
        shown = displayable(shades(pixels, (low, high)))
        ax.imshow(np.broadcast_to(shown, (height, width, 3)))
        ax.set_title(heading)
    residual = (image - expected).mean(axis=2)
    most = float(np.abs(residual).max()) or 1.0
    draw_map(left, residual, DIVERGING, (-most, most), "input \N{MINUS SIGN} expected", "units of the data")
    nats = contributions.sum(axis=2)
    span = (float(nats.min()), float(nats.max()) if nats.max() > nats.min() else float(nats.min()) + 1)
    if heat is None:
        draw_map(right, nats, SEQUENTIAL, span, "cost", "nats more than the best pixel")
    else:
        draw_map(right, heat[0], SEQUENTIAL, (0, heat[1]), "heat", "nats, by the worst place of normals")
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
        format=number_format(),
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
    words: Sequence[FeatureInWords] | None = None,
) -> Figure:
    r"""The features that cost most, worst first: how far they are from what was expected, and how many nats that costs.

    Parameters
    ----------
    names
        Names of the D features.
    observed, expected, spread
        ``(D,)`` each, in each feature's own units: the observed value, and the mean and standard deviation that the
        model expected. Bars show the distance in these standard deviations, labels show the values.
    contributions
        ``(D,)``, in nats.
    most
        How many features to show, at most 100.
    title
        Above the figure, lines separated by ``\n``.
    words
        The D features in words, where not all are numbers; categories and gaps have no bar of a distance.

    Returns
    -------
    Figure
        Two axes that share their rows.
    """
    worst = np.argsort(-contributions, kind="stable")[: min(most, MAX_FEATURES)]
    words = words or [feature_in_words(None, *values) for values in zip(observed, expected, spread, strict=True)]
    has_distance = ~np.isnan(observed) & ~np.array([word.is_level for word in words])
    deviation = np.where(has_distance, deviations(np.nan_to_num(observed), expected, spread), 0.0)[worst]
    labels = [f"{safe_name(names[i], 36)}\n{label_of(words[i])}" for i in worst]
    rows = np.arange(len(worst))
    figure = Figure(figsize=(5, 1.3 + 0.42 * len(worst)), layout="constrained")
    which = f"the {len(worst)} worst of {len(names):,} features" if len(worst) < len(names) else "all features"
    add_title(figure, f"{title}\n{which}")
    left, right = figure.subplots(1, 2, sharey=True)
    draw_deviations(left, rows, deviation)
    left.set_yticks(rows, labels, fontsize=8, parse_math=False)
    left.invert_yaxis()
    draw_costs(right, rows, contributions[worst])
    return figure


def label_of(words: FeatureInWords) -> str:
    """A feature's values below its name."""
    text = f"{words.observed}, expected {words.expectation}"
    return safe_name(text, 80) if words.is_level else text.replace("-", "\N{MINUS SIGN}")


def draw_deviations(ax: Axes, rows: np.ndarray, deviation: np.ndarray) -> None:
    """Distances from what was expected as bars, behind them a band of one spread to either side."""
    ax.axvspan(-1, 1, color=HELD_OUT, alpha=0.3, linewidth=0)
    ax.axvline(0, color=INK, linewidth=0.8)
    ax.barh(rows, deviation, height=0.5, color=NORMAL)
    ax.plot(deviation, rows, "o", color=INK, markersize=3)
    ax.set_xlabel("spreads from\nexpected")
    largest = float(np.abs(deviation).max())
    if largest > MAX_LINEAR:
        power = 10 ** math.floor(math.log10(largest))
        ticks = [tick for tick in (-power, 0, power) if deviation.min() <= tick <= deviation.max() or tick == 0]
        ax.set_xscale("symlog", linthresh=1)
        ax.set_xticks(ticks, [number(tick) for tick in ticks])
        ax.minorticks_off()
    else:
        plain_ticks(ax.xaxis, 4)


def draw_costs(ax: Axes, rows: np.ndarray, nats: np.ndarray) -> None:
    """What each feature costs, as bars with the number beside them."""
    bars = ax.barh(rows, nats, height=0.5, color=ANOMALOUS)
    ax.bar_label(bars, [number(float(f"{value:.3g}")) for value in nats], padding=3, fontsize=8)
    ax.axvline(0, color=INK, linewidth=0.8)
    ax.margins(x=0.3)
    ax.set_xticks([])
    ax.set_xlabel("nats beyond\nprediction")


def add_title(figure: Figure, title: str) -> None:
    """A title of several lines; long ones are shortened."""
    lines = [safe_name(line, 68) for line in title.split("\n") if line]
    if lines:
        figure.suptitle("\n".join(lines), fontsize=9, parse_math=False)


def deviations(observed: np.ndarray, expected: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Distances from what was expected, in spreads, ``(D,)``, clipped at ten thousand since a spread may be zero."""
    limit = MAX_DEVIATION * np.maximum(spread, np.finfo(np.float64).tiny)
    inside: np.ndarray = np.clip(observed - expected, -limit, limit) / limit
    return MAX_DEVIATION * inside
