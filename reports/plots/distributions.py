"""Distributions of scores and p-values: histograms with the threshold, and whether p-values keep their promise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vae_anomaly.calibration.conformal import finite_scores
from vae_anomaly.errors import DataError
from vae_anomaly.evaluation.bands import p_value_band
from vae_anomaly.reports.plots.curves import simplified
from vae_anomaly.reports.plots.scales import Scale, scale_of
from vae_anomaly.reports.plots.style import (
    ANOMALOUS,
    HELD_OUT,
    NORMAL,
    REFERENCE_LINE,
    THRESHOLD_LINE,
    axes_or_new,
    figure_of,
    legend,
    log_ticks,
    number,
    plain_ticks,
    styled,
)

BINS = 48
SAMPLES: dict[str, Any] = {"fill": True, "fc": (NORMAL, 0.35), "ec": NORMAL, "lw": 1}
LOOKS: dict[str, dict[str, Any]] = {
    "samples": SAMPLES,
    "normal": SAMPLES,
    "anomalous": {"fill": True, "fc": "none", "ec": ANOMALOUS, "hatch": "////", "lw": 1},
    "held-out normals": {"ec": HELD_OUT, "ls": "--", "lw": 1.4},
}


@styled()
def plot_scores(
    normal: np.ndarray,
    anomalous: np.ndarray | None = None,
    threshold: float | None = None,
    calibration: np.ndarray | None = None,
    ax: Axes | None = None,
    *,
    unit: str = "nats",
) -> Figure:
    """Histograms of anomaly scores; the bars of each kind of sample add up to 100 %.

    All histograms share their bins, and the threshold lies between two of them: the bars to its right are flagged. The
    axis is logarithmic far from the normals (`reports.plots.scales`). At most 0.2 % of a sample lie beyond either end;
    the end bins include them, and the axis label says how many they are.

    Parameters
    ----------
    normal
        Anomaly scores ``(N,)`` of normals; or of all samples, if ``anomalous`` is None.
    anomalous
        Anomaly scores ``(M,)`` of anomalies; may be empty. None: it is not known which samples are anomalies.
    threshold
        Samples strictly above it are flagged.
    calibration
        Scores ``(K,)`` of the held-out normals, as an outline.
    ax
        Where to draw; a new figure by default.
    unit
        Unit of the scores; empty if they have none.

    Returns
    -------
    Figure
        The figure of ``ax``.

    Raises
    ------
    DataError
        If there are no scores, or one is not finite.
    """
    normal = finite_scores(normal, "scores")
    sets = {"samples" if anomalous is None else "normal": normal}
    if anomalous is not None and len(anomalous):
        sets["anomalous"] = finite_scores(anomalous, "scores of anomalies")
    if calibration is not None:
        sets["held-out normals"] = finite_scores(calibration, "calibration")
    ax = axes_or_new(ax)
    scale = scale_of(normal, [*sets.values()][1:], threshold)
    edges = bin_edges(scale, threshold)
    for label, scores in sets.items():
        ax.stairs(100 * shares(scores, edges), edges, label=f"{label} ({len(scores):,})", **LOOKS[label])
    if threshold is not None:
        ax.axvline(threshold, label=f"threshold {number(float(f'{threshold:.6g}'))}", **THRESHOLD_LINE)
    scale.apply(ax, "x")
    ax.set_xlim(edges[0], edges[-1])
    plain_ticks(ax.yaxis)
    score = f"anomaly score ({unit})" if unit else "anomaly score"
    ax.set(xlabel=score + beyond([*sets.values()], edges), ylabel="share of samples (%)")
    legend(ax, 2)
    return figure_of(ax)


def bin_edges(scale: Scale, threshold: float | None) -> np.ndarray:
    """Edges of bins of one width on the axis, one of them the threshold itself."""
    if threshold is None:
        return scale.grid(BINS + 1)
    low, at, high = scale.forward(np.array([scale.low, threshold, scale.high]))
    width = (high - low) / BINS
    before, after = math.ceil((at - low) / width - 1e-9), math.ceil((high - at) / width - 1e-9)
    edges = scale.inverse(at + width * np.arange(-before, after + 1))
    edges[before] = threshold
    return edges


def shares(scores: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Share of the scores in each bin; a score on an edge is in the bin left of it: not flagged at the threshold."""
    n_bins = len(edges) - 1
    bins = np.clip(np.searchsorted(edges, scores, side="left") - 1, 0, n_bins - 1)
    return np.bincount(bins, minlength=n_bins) / len(scores)


def beyond(parts: list[np.ndarray], edges: np.ndarray) -> str:
    """A line that says how many scores lie beyond the axis, and on which side; empty if none do."""
    below = sum(int((part < edges[0]).sum()) for part in parts)
    above = sum(int((part > edges[-1]).sum()) for part in parts)
    counts = [f"{count:,} {side}" for count, side in ((below, "lower"), (above, "higher")) if count]
    return f"\nbeyond the axis, in the end bins: {', '.join(counts)}" if counts else ""


@styled()
def plot_p_values(p_values: np.ndarray, n_calibration: int | None = None, ax: Axes | None = None) -> Figure:
    """Whether conformal p-values keep their promise: the share of normals with a p-value of at most t, over t.

    Parameters
    ----------
    p_values
        p-values ``(N,)`` of normals, in (0, 1].
    n_calibration
        Number of held-out normals that the p-values were computed from. Without it the band is the one of independent
        p-values, which is too narrow for conformal ones.
    ax
        Where to draw; a new figure by default.

    Returns
    -------
    Figure
        The figure of ``ax``.

    Raises
    ------
    DataError
        If there are no p-values, or one does not lie in (0, 1].
    """
    p = finite_scores(p_values, "p-values")
    if p.min() <= 0 or p.max() > 1:
        raise DataError(f"p-values must lie in (0, 1], got {p.min():g} to {p.max():g}")
    ax = axes_or_new(ax)
    band = p_value_band(len(p), n_calibration)
    floor = 0.5 / len(p)  # where a share of zero is drawn
    t, counts = np.unique(p, return_counts=True)
    share = np.cumsum(counts) / len(p)
    x, y = np.append(np.repeat(t, 2), 1), np.append(floor, np.repeat(share, 2))
    left = min(float(t[0]), float(band.x[0]), 0.5) / 1.2
    kept = simplified(1 - np.log(x) / math.log(left), 1 - np.log(y) / math.log(floor) if floor < 1 else y)

    low, high = np.maximum(band.low, floor), np.maximum(band.high, floor)
    ax.fill_between(band.x, low, high, fc=(HELD_OUT, 0.25), ec=HELD_OUT, lw=0.6, ls=":", label="95 % of curves")
    ax.plot([left, 1], [left, 1], label="promised", **REFERENCE_LINE)
    ax.plot(x[kept], y[kept], color=NORMAL, label=f"normals ({len(p):,})")
    ax.set(xscale="log", yscale="log", xlim=(left, 1.15), ylim=(floor, 1.4))
    for axis in (ax.xaxis, ax.yaxis):
        log_ticks(axis)
    ax.set(xlabel="t (promised false-alarm rate)", ylabel="share of normals with p-value ≤ t")
    legend(ax, 3)
    return figure_of(ax)
