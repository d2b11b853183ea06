"""How a model uses its latent space: which units carry information, and where the samples lie."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vae_anomaly.calibration.conformal import finite_scores
from vae_anomaly.errors import DataError
from vae_anomaly.reports.plots.model_plots import scatter
from vae_anomaly.reports.plots.style import (
    HELD_OUT,
    NORMAL,
    REFERENCE_LINE,
    axes_or_new,
    figure_of,
    legend,
    log_ticks,
    plain_ticks,
    styled,
)

ACTIVE = 0.01  # variance of its posterior means above which a unit counts as active (Burda et al.)
MAX_NAMED = 20


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
    Of more than 5,000 samples a fixed subsample is drawn, and the legend says so. Samples beyond the axes (at most
    0.2 % of either kind, at either end) are drawn on the border. The axis labels give the share of the normals'
    variance.

    Raises
    ------
    DataError
        If there are no samples, there is not one label for each, or a mean is not finite.
    """
    mu = np.asarray(mu, dtype=np.float64)
    if mu.ndim != 2 or not mu.size or not np.isfinite(mu).all():
        raise DataError(f"posterior means must be a table (N, K) of finite numbers, got shape {mu.shape}")
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

    An axis points to where its largest loading is positive. Of one-dimensional data the second axis is all zeros.
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
    """How much of the latent space the encoder uses: the variance of each unit's posterior mean over the samples.

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
    edges, heights = np.arange(len(order) + 1) - 0.5, np.maximum(variances[order], bottom)
    n_active = int((variances > ACTIVE).sum())
    n_inactive = len(order) - n_active
    if n_active:
        label = f"active ({n_active})"
        ax.stairs(heights[:n_active], edges[: n_active + 1], baseline=bottom, fill=True, fc=NORMAL, label=label)
    if n_inactive:
        label = f"inactive ({n_inactive})"
        ax.stairs(heights[n_active:], edges[n_active:], baseline=bottom, ec=HELD_OUT, hatch="////", label=label)
    ax.axhline(ACTIVE, label=f"active above {ACTIVE}", **REFERENCE_LINE)
    ax.set(yscale="log", ylim=(bottom, max(1.0, float(heights.max())) * 1.5), ylabel="variance of posterior mean")
    log_ticks(ax.yaxis)
    if len(order) <= MAX_NAMED:
        ax.set_xticks(range(len(order)), [str(unit) for unit in order])
        ax.set_xlabel("latent unit")
    else:
        plain_ticks(ax.xaxis)
        ax.set_xlabel("latent units, ranked")
    legend(ax, 3)
    return figure_of(ax)
