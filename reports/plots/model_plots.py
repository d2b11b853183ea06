"""What a model learned: its training, and the two terms of its ELBO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vae_anomaly.calibration.conformal import finite_scores
from vae_anomaly.errors import DataError
from vae_anomaly.history import best_epoch
from vae_anomaly.reports.plots.scales import Scale, scale_of
from vae_anomaly.reports.plots.style import (
    ANOMALOUS,
    HELD_OUT,
    INK,
    NORMAL,
    VALIDATION,
    axes_or_new,
    figure_of,
    legend,
    plain_ticks,
    styled,
)

MOST_POINTS = 5000


@styled()
def plot_history(history: Sequence[Mapping[str, Any]], ax: Axes | None = None) -> Figure:
    """Both ELBO terms over the epochs, on training and validation samples, with the learning rate below.

    Parameters
    ----------
    history
        ``VAEDetector.history_``: a record an epoch, terms in nats a sample.
    ax
        A subplot whose place to take; a new figure by default.

    Returns
    -------
    Figure
        The figure of ``ax``.

    Raises
    ------
    DataError
        If there are no epochs, or ``ax`` is not a subplot.
    """
    if not history:
        raise DataError("there is no training history to show: it has no epochs")
    epoch, rate = (np.array([record[key] for record in history]) for key in ("epoch", "learning_rate"))
    terms = {
        key: np.array([record[key] for record in history])
        for key in history[0]
        if key not in ("epoch", "learning_rate")
    }
    best = best_epoch(history) - 1
    top, middle, bottom = stacked(axes_or_new(ax, 4.4), [3, 3, 1.2])
    for panel, key, title in ((top, "reconstruction", "reconstruction\n(nats)"), (middle, "kl", "KL (nats)")):
        panel.plot(epoch, terms[key], color=NORMAL, label="training")
        validation = terms[f"validation_{key}"]
        panel.plot(epoch, validation, color=VALIDATION, ls="--", label="validation")
        panel.plot(epoch[best], validation[best], "o", color=INK, ms=4.5, label=f"best epoch, {epoch[best]}")
        panel.set_ylabel(title)
        panel.tick_params(labelbottom=False)
    bottom.plot(epoch, rate, color=HELD_OUT)
    bottom.set(xlabel="epoch", ylabel="learning\nrate", ylim=(0, None))
    for panel, n_bins in ((top, 4), (middle, 4), (bottom, 2)):
        panel.axvline(epoch[best], color=INK, ls=":", lw=0.8, zorder=0)
        plain_ticks(panel.yaxis, n_bins)
    bottom.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    legend(top, 3)
    top.figure.align_ylabels([top, middle, bottom])
    return figure_of(top)


def stacked(ax: Axes, heights: list[float]) -> list[Axes]:
    """The axes and further ones below it, in the place that it had alone, above one horizontal axis."""
    place = ax.get_subplotspec()
    if place is None:
        raise DataError("these axes cannot be divided: give one made by add_subplot or subplots")
    parts = place.subgridspec(len(heights), 1, height_ratios=heights, hspace=0.05)
    ax.set_subplotspec(parts[0])
    return [ax, *(ax.figure.add_subplot(parts[i], sharex=ax) for i in range(1, len(heights)))]


@styled()
def plot_terms(
    reconstruction: np.ndarray,
    kl: np.ndarray,
    anomalous: np.ndarray | None = None,
    threshold: float | None = None,
    ax: Axes | None = None,
) -> Figure:
    """The ELBO's two terms against each other, a point a sample: which of them makes a sample anomalous.

    Parameters
    ----------
    reconstruction, kl
        Terms ``(N,)``, in nats.
    anomalous
        Which samples are anomalies ``(N,)``, bool or 0 and 1. None: it is not known.
    threshold
        Of the anomaly score ``kl - reconstruction``, as a line.
    ax
        Where to draw; a new figure by default.

    Returns
    -------
    Figure
        The figure of ``ax``.

    Notes
    -----
    Of more than 5,000 samples a fixed subsample is drawn, as the legend says; what lies beyond the axes (at most 0.2 %
    of either kind, at either end) is drawn on their border.

    Raises
    ------
    DataError
        If there are no samples, lengths differ, or a term is not finite.
    """
    ax = axes_or_new(ax)
    x_scale, y_scale = scatter(ax, kl, reconstruction, anomalous)
    if threshold is not None:
        on_line = np.sort(np.concatenate([x_scale.grid(200), y_scale.grid(200) + threshold]))
        shown = (on_line >= x_scale.low) & (on_line <= x_scale.high)
        ax.plot(on_line[shown], on_line[shown] - threshold, color=INK, ls=(0, (4, 2)), lw=1.2, label="threshold")
    ax.set(xlabel="KL (nats)", ylabel="reconstruction (nats)")
    legend(ax, 2)
    return figure_of(ax)


def scatter(ax: Axes, x: np.ndarray, y: np.ndarray, anomalous: np.ndarray | None) -> tuple[Scale, Scale]:
    """Samples as points, anomalies on top, on scales of the normals; returns these."""
    x, y = finite_scores(x, "horizontal axis"), finite_scores(y, "vertical axis")
    is_anomalous = np.zeros(len(x), bool) if anomalous is None else np.asarray(anomalous).astype(bool)
    if not x.shape == y.shape == is_anomalous.shape:
        raise DataError(
            f"needs one label and two values for each sample, got {len(x)}, {len(y)} and {len(is_anomalous)}"
        )
    normal_rows, anomalous_rows = np.flatnonzero(~is_anomalous), np.flatnonzero(is_anomalous)
    scales = [
        scale_of(values[normal_rows if len(normal_rows) else anomalous_rows], [values[anomalous_rows]])
        for values in (x, y)
    ]
    room = max(MOST_POINTS // 2, MOST_POINTS - len(anomalous_rows))
    kinds = [("samples" if anomalous is None else "normal", normal_rows, room, "s", 1.3, NORMAL)]
    kinds += [("anomalous", anomalous_rows, MOST_POINTS - min(room, len(normal_rows)), "+", 3.6, ANOMALOUS)]
    for label, rows, most, marker, size, color in kinds:
        if len(rows):
            drawn = subsample(rows, most)
            places = [
                np.clip(values[drawn], scale.low, scale.high) for values, scale in zip((x, y), scales, strict=True)
            ]
            number = f"{len(rows):,}" if len(drawn) == len(rows) else f"{len(drawn):,} of {len(rows):,}"
            label = f"{label} ({number})"
            ax.plot(*places, marker, color=color, ms=size, mew=0.9, label=label, rasterized=True, clip_on=False)
    scales[0].apply(ax, "x")
    scales[1].apply(ax, "y")
    return scales[0], scales[1]


def subsample(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the rows, the same ones every time."""
    return rows if len(rows) <= most else np.sort(np.random.default_rng(0).choice(rows, most, replace=False))
