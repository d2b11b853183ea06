"""What a model learned: its training, its ELBO terms, its latent space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vae_anomaly.conformal import finite_scores
from vae_anomaly.errors import DataError
from vae_anomaly.reports.scales import Scale, scale_of
from vae_anomaly.reports.style import (
    ANOMALOUS,
    HELD_OUT,
    INK,
    NORMAL,
    VALIDATION,
    axes_or_new,
    figure_of,
    legend,
    log_ticks,
    plain_ticks,
    styled,
)

MOST_POINTS = 5000
ACTIVE = 0.01


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
    best = int(np.argmax(terms["validation_reconstruction"] - terms["validation_kl"]))
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
    return [ax, *(ax.figure.add_subplot(part, sharex=ax) for part in list(parts)[1:])]


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
    Of more than 5,000 samples a fixed subsample is drawn, as the legend says; what lies beyond the axes (at most 0.2 % of
    either kind, at either end) is drawn on their border.

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
    kinds = [("samples" if anomalous is None else "normal", normal_rows, room, "s", 1.8, NORMAL)]
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


@styled()
def plot_latent_space(mu: np.ndarray, anomalous: np.ndarray | None = None, ax: Axes | None = None) -> Figure:
    """Posterior means on the two axes along which those of the normals vary most (principal components).

    Parameters
    ----------
    mu
        Posterior means ``(N, K)``.
    anomalous
        Which samples are anomalies ``(N,)``, bool or 0 and 1; they do not move the axes. None: it is not known.
    ax
        Where to draw; a new figure by default.

    Returns
    -------
    Figure
        The figure of ``ax``.

    Notes
    -----
    Of more than 5,000 samples a fixed subsample is drawn, as the legend says; what lies beyond the axes (at most 0.2 % of
    either kind, at either end) is drawn on their border. The axis labels give the share of the normals' variance.

    Raises
    ------
    DataError
        If there are no samples, there is not one label for each, or a mean is not finite.
    """
    mu = np.asarray(mu, dtype=np.float64)
    if mu.ndim != 2 or not mu.size:
        raise DataError(f"posterior means must be (N, K), got shape {mu.shape}")
    known = np.zeros(len(mu), bool) if anomalous is None else np.asarray(anomalous).astype(bool)
    if len(known) != len(mu):
        raise DataError(f"{len(mu)} posterior means but {len(known)} labels")
    ax = axes_or_new(ax)
    projected, explained = principal_components(mu, mu[~known] if not known.all() else mu)
    scatter(ax, projected[:, 0], projected[:, 1], anomalous)
    which = ("first", "second")
    labels = [f"{axis} component ({share:.0%} of variance)" for axis, share in zip(which, explained, strict=True)]
    ax.set(xlabel=labels[0], ylabel=labels[1])
    legend(ax, 2)
    return figure_of(ax)


def principal_components(x: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows on the two main axes of the reference, ``(N, 2)``, and the share of its variance along each, ``(2,)``.

    An axis points to where its largest loading is positive; in one dimension, the second is nothing.
    """
    mean = reference.mean(axis=0)
    variances, axes = np.linalg.eigh((reference - mean).T @ (reference - mean))
    main = axes[:, ::-1][:, :2]
    main = main * np.sign(main[np.abs(main).argmax(axis=0), np.arange(main.shape[1])])
    total = max(float(variances.sum()), 1e-300)
    missing = 2 - main.shape[1]
    shares = np.clip(np.pad(variances[::-1][:2] / total, (0, missing)), 0, 1)
    return np.pad((x - mean) @ main, ((0, 0), (0, missing))), shares


@styled()
def plot_latent_units(variance_of_means: np.ndarray, ax: Axes | None = None) -> Figure:
    """How much of the latent space the encoder uses: the variance of each unit's posterior mean, over the samples.

    Parameters
    ----------
    variance_of_means
        ``(K,)``, such as ``mu.var(axis=0)`` of posterior means ``(N, K)``. A unit is active above 0.01.
    ax
        Where to draw; a new figure by default.

    Returns
    -------
    Figure
        The figure of ``ax``.

    Raises
    ------
    DataError
        If there are no units, or a variance is not finite or negative.

    References
    ----------
    Importance Weighted Autoencoders (Burda, Grosse & Salakhutdinov, 2016), https://arxiv.org/abs/1509.00519
    """
    variances = finite_scores(variance_of_means, "variance of posterior means")
    if variances.min() < 0:
        raise DataError(f"a variance cannot be negative, got {variances.min():g}")
    ax = axes_or_new(ax)
    order = np.argsort(-variances, kind="stable")
    bottom = min(1e-3, max(float(variances.min()), 1e-6)) / 2
    places, heights = np.arange(len(order)), np.maximum(variances[order], bottom)
    n_active = int((variances > ACTIVE).sum())
    bars = ax.bar(places, heights - bottom, bottom=bottom, width=0.8, color=NORMAL, label=f"active ({n_active})")
    for bar in bars[n_active:]:
        bar.set(facecolor="none", edgecolor=HELD_OUT, hatch="////")
    if n_active < len(order):
        bars[-1].set_label(f"inactive ({len(order) - n_active})")
    ax.axhline(ACTIVE, color=INK, ls="--", lw=0.8, label=f"active above {ACTIVE}")
    ax.set_yscale("log", nonpositive="clip")
    ax.set_ylim(bottom, max(1.0, float(heights.max())) * 1.5)
    log_ticks(ax.yaxis)
    if len(order) <= 40:
        ax.set_xticks(places, [str(unit) for unit in order], fontsize=9 if len(order) <= 20 else 6)
    else:
        plain_ticks(ax.xaxis)
    ax.set(xlabel="latent unit" if len(order) <= 40 else "latent units, ranked", ylabel="variance of posterior mean")
    legend(ax, 3)
    return figure_of(ax)
