"""How well a score ranks: ROC and precision-recall curves with their uncertainty, ROC-AUC of each class."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vae_anomaly.calibration.intervals import clopper_pearson
from vae_anomaly.errors import DataError
from vae_anomaly.evaluation.bands import Band
from vae_anomaly.evaluation.result import Curve, Decisions, Estimate, RocAuc
from vae_anomaly.reports.plots.style import (
    ANOMALOUS,
    HELD_OUT,
    INK,
    NORMAL,
    PAPER,
    axes_or_new,
    figure_of,
    legend,
    name,
    plain_ticks,
    styled,
)

MOST_POINTS = 500
MOST_CLASSES = 40


@styled()
def plot_roc(
    curve: Curve,
    roc_auc: RocAuc | None = None,
    operating_point: Decisions | None = None,
    band: Band | None = None,
    ax: Axes | None = None,
) -> Figure:
    """ROC curve: the share of anomalies found over the share of normals flagged.

    Parameters
    ----------
    curve
        ``Evaluation.roc``.
    roc_auc
        The area to name in the legend, with its interval.
    operating_point
        What the threshold does (``Evaluation.decisions``): a point with exact 95 % intervals as error bars.
    band
        From `vae_anomaly.evaluation.bands.roc_band`.
    ax
        Where to draw; a new figure by default.

    Returns
    -------
    Figure
        The figure of ``ax``.
    """
    ax = axes_or_new(ax)
    label = "ROC curve" if roc_auc is None else f"ROC-AUC {with_interval(roc_auc)}"
    draw_curve(ax, curve.x, curve.y, label, band)
    ax.plot([0, 1], [0, 1], color=INK, ls="--", lw=0.8, label="chance")
    if operating_point is not None:
        draw_point(ax, operating_point.false_alarm_rate, operating_point.detection_rate)
    return rate_axes(ax, "false-alarm rate", "detection rate")


@styled()
def plot_precision_recall(
    curve: Curve,
    average_precision: Estimate | None = None,
    operating_point: Decisions | None = None,
    band: Band | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Precision over recall, in the steps whose area is the average precision.

    Chance is the precision of flagging everything, the curve's last.

    Parameters
    ----------
    curve
        ``Evaluation.precision_recall``.
    average_precision
        The area to name in the legend, with its interval.
    operating_point
        What the threshold does: a point with exact 95 % intervals as error bars; none where nothing is flagged.
    band
        From `vae_anomaly.evaluation.bands.precision_recall_band`.
    ax
        Where to draw; a new figure by default.

    Returns
    -------
    Figure
        The figure of ``ax``.
    """
    ax = axes_or_new(ax)
    label = "precision" if average_precision is None else f"AP {with_interval(average_precision)}"
    recall, precision = np.repeat(np.append(0, curve.x), 2)[1:-1], np.repeat(curve.y, 2)
    draw_curve(ax, recall, precision, label, band)
    ax.plot([0, 1], [curve.y[-1]] * 2, color=INK, ls="--", lw=0.8, label="chance")
    if operating_point is not None and operating_point.precision is not None:
        tp, fp = operating_point.true_positives, operating_point.false_positives
        draw_point(ax, operating_point.detection_rate, Estimate(*clopper_pearson(tp, tp + fp)))
    return rate_axes(ax, "recall (detection rate)", "precision")


def with_interval(estimate: Estimate | RocAuc) -> str:
    """A share with its interval."""
    return f"{estimate.value:.4f} ({estimate.low:.4f} to {estimate.high:.4f})"


def draw_curve(ax: Axes, x: np.ndarray, y: np.ndarray, label: str, band: Band | None) -> None:
    """The curve and its band."""
    kept = simplified(x, y)
    ax.plot(x[kept], y[kept], color=NORMAL, label=label, zorder=3)
    if band is not None:
        ax.fill_between(
            band.x, band.low, band.high, fc=(NORMAL, 0.2), ec=NORMAL, lw=0.6, ls=":", label="95 % at each point"
        )


def draw_point(ax: Axes, x: Estimate, y: Estimate) -> None:
    """The operating point with its intervals."""
    ax.errorbar(
        x.value,
        y.value,
        xerr=[[x.value - x.low], [x.high - x.value]],
        yerr=[[y.value - y.low], [y.high - y.value]],
        fmt="D",
        ms=5,
        color=ANOMALOUS,
        mec=PAPER,
        capsize=2.5,
        lw=1.2,
        zorder=4,
        label="threshold",
    )


def rate_axes(ax: Axes, x: str, y: str) -> Figure:
    """Both axes from 0 to 1, with room for what lies on the border."""
    ax.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    for axis in (ax.xaxis, ax.yaxis):
        plain_ticks(axis)
    legend(ax, 2)
    return figure_of(ax)


def simplified(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Indices of at most `MOST_POINTS` points of a curve on the unit square that look like all of them.

    First, last, lowest and highest point of each thousandth of the width; of these, as Ramer, Douglas and Peucker
    do, only those that stick out by more than a tolerance, as small as it can be.
    """
    if len(x) <= MOST_POINTS:
        return np.arange(len(x))
    column = np.floor(np.clip(x, 0, 1) * 999).astype(int)
    starts = np.flatnonzero(np.diff(column, prepend=-1))
    by_height = np.lexsort((y, column))
    ends = np.append(starts[1:], len(x)) - 1
    kept = np.unique(np.concatenate([starts, ends, by_height[starts], by_height[ends]]))
    points = np.column_stack([x, y])[kept]
    tolerance = 2e-4
    while len(chosen := outline(points, tolerance)) > MOST_POINTS:
        tolerance *= 1.5
    return np.asarray(kept[chosen])


def outline(points: np.ndarray, tolerance: float) -> np.ndarray:
    """Indices of the points ``(N, 2)`` that stick out of the line through the others (Ramer, 1972)."""
    keep = np.zeros(len(points), bool)
    keep[[0, -1]] = True
    open_parts = [(0, len(points) - 1)]
    while open_parts:
        first, last = open_parts.pop()
        along, offsets = points[last] - points[first], points[first + 1 : last] - points[first]
        if not len(offsets):
            continue
        share = np.clip(offsets @ along / max(along @ along, 1e-300), 0, 1)
        distance = np.linalg.norm(offsets - share[:, None] * along, axis=1)
        middle = first + 1 + int(distance.argmax())
        if distance.max() > tolerance:
            keep[middle] = True
            open_parts += [(first, middle), (middle, last)]
    return np.flatnonzero(keep)


@styled()
def plot_per_class(per_group: dict[str, RocAuc], overall: RocAuc | None = None, ax: Axes | None = None) -> Figure:
    """ROC-AUC of each anomalous class against all normals with its 95 % interval, the worst class at the top.

    Parameters
    ----------
    per_group
        ``Evaluation.per_group``; of more than 40 classes the worst 40 are shown.
    overall
        That of all anomalies together, as a line with its interval.
    ax
        Where to draw; a new figure by default, as high as the classes need.

    Returns
    -------
    Figure
        The figure of ``ax``.

    Raises
    ------
    DataError
        If there are no classes.
    """
    if not per_group:
        raise DataError("there are no classes to show: evaluate with groups")
    shown = sorted(per_group.items(), key=lambda item: (item[1].value, item[0]))[:MOST_CLASSES]
    ax = axes_or_new(ax, max(2.4, 1.2 + 0.22 * len(shown)))
    values, low, high = np.array([(auc.value, auc.low, auc.high) for _, auc in shown]).T
    rows = np.arange(len(shown))
    if overall is not None:
        ax.axvspan(overall.low, overall.high, fc=(HELD_OUT, 0.25), ec="none")
        ax.axvline(overall.value, color=HELD_OUT, ls="--", lw=1, label=f"all anomalies {with_interval(overall)}")
    bars = np.maximum([values - low, high - values], 0)
    ax.errorbar(values, rows, xerr=bars, fmt="D", ms=4, color=ANOMALOUS, lw=1.2, capsize=2.5, label="class")
    ax.set_yticks(rows, [f"{name(key)} ({auc.n_anomalous:,})" for key, auc in shown], parse_math=False)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    if overall is None or low.min() < 0.5:
        ax.axvline(0.5, color=INK, ls=":", lw=0.8, label="chance")
    of = f"worst {MOST_CLASSES} of {len(per_group)} classes" if len(per_group) > MOST_CLASSES else "anomalous class"
    ax.set(xlabel="ROC-AUC, 95 % interval", ylabel=f"{of} (samples)")
    plain_ticks(ax.xaxis)
    legend(ax, 2)
    return figure_of(ax)
