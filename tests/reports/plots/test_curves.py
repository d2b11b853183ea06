"""Curves, bands and intervals are drawn as evaluated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer

from plot_cases import LABELS, RESULT, ROC_BAND, SCORES, labelled, line
from vae_anomaly import reports
from vae_anomaly.calibration.intervals import clopper_pearson
from vae_anomaly.errors import DataError
from vae_anomaly.evaluation import RocAuc, evaluate
from vae_anomaly.evaluation.bands import roc_band
from vae_anomaly.reports.plots.curves import MAX_POINTS


def test_roc_shows_curve_band_and_threshold() -> None:
    (ax,) = reports.plot_roc(RESULT.roc, RESULT.roc_auc, RESULT.decisions, ROC_BAND).axes
    np.testing.assert_array_equal(line(ax, "ROC-AUC"), (RESULT.roc.x, RESULT.roc.y))
    np.testing.assert_array_equal(line(ax, "chance"), [[0, 1], [0, 1]])
    vertices = labelled(ax, "95 %").get_paths()[0].vertices
    for side in (ROC_BAND.low, ROC_BAND.high):
        assert {(x, y) for x, y in zip(ROC_BAND.x, side, strict=True)} <= {tuple(vertex) for vertex in vertices}
    assert RESULT.decisions is not None
    alarms, found = RESULT.decisions.false_alarm_rate, RESULT.decisions.detection_rate
    check_point(ax, (alarms.value, alarms.low, alarms.high), (found.value, found.low, found.high))


def test_precision_recall_shows_steps_whose_area_is_the_average_precision() -> None:
    (ax,) = reports.plot_precision_recall(RESULT.precision_recall, RESULT.average_precision, RESULT.decisions).axes
    x, y = line(ax, "AP")
    assert np.trapezoid(y, x) == pytest.approx(RESULT.average_precision.value)
    np.testing.assert_allclose(line(ax, "chance")[1], 60 / 180)
    assert RESULT.decisions is not None
    found = RESULT.decisions.detection_rate
    tp, fp = RESULT.decisions.true_positives, RESULT.decisions.false_positives
    check_point(ax, (found.value, found.low, found.high), clopper_pearson(tp, tp + fp))


def check_point(ax: Axes, x: tuple[float, float, float], y: tuple[float, float, float]) -> None:
    container = labelled(ax, "threshold")
    assert isinstance(container, ErrorbarContainer)
    point, _, (horizontal, vertical) = container  # type: ignore[misc]
    np.testing.assert_allclose(np.ravel(point.get_data()).astype(float), [x[0], y[0]])
    np.testing.assert_allclose(horizontal.get_segments()[0][:, 0], x[1:])
    np.testing.assert_allclose(vertical.get_segments()[0][:, 1], y[1:])


def test_a_threshold_that_flags_nothing_has_no_precision_to_show() -> None:
    result = evaluate(SCORES, LABELS, threshold=SCORES.max())
    (ax,) = reports.plot_precision_recall(result.precision_recall, None, result.decisions).axes
    assert not [label for label in ax.get_legend_handles_labels()[1] if label == "threshold"]
    assert reports.plot_roc(result.roc, None, result.decisions)


@pytest.mark.parametrize("scores", [np.zeros(2), np.array([0.0, 1]), np.array([1.0, 0])])
def test_curves_of_one_normal_and_one_anomaly(scores: np.ndarray) -> None:
    result = evaluate(scores, np.array([0, 1]), threshold=0.5)
    for figure in (
        reports.plot_roc(result.roc, result.roc_auc, result.decisions, roc_band(scores, np.array([0, 1]))),
        reports.plot_precision_recall(result.precision_recall, None, result.decisions),
    ):
        assert reports.to_svg(figure)


@settings(max_examples=10)
@given(st.integers(600, 3000), st.integers(0, 99), st.sampled_from([0.0, 1.0, 4.0]), st.booleans())
def test_no_point_of_a_curve_lies_off_the_simplified_one(n: int, seed: int, distance: float, precision: bool) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    result = evaluate(rng.normal(size=n) + distance * labels, labels)
    figure = reports.plot_precision_recall(result.precision_recall) if precision else reports.plot_roc(result.roc)
    drawn = np.column_stack(line(figure.axes[0], "precision" if precision else "ROC"))
    curve = result.precision_recall if precision else result.roc
    points = np.column_stack([curve.x, curve.y])
    assert len(drawn) <= MAX_POINTS
    np.testing.assert_array_equal(drawn[-1], points[-1])
    start, along = drawn[:-1], np.diff(drawn, axis=0)
    offsets = points[:, None] - start
    share = np.clip((offsets * along).sum(axis=2) / np.maximum((along**2).sum(axis=1), 1e-300), 0, 1)
    away = np.linalg.norm(offsets - share[..., None] * along, axis=2).min(axis=1)
    assert away.max() < 3e-3  # less than a pixel


def test_classes_come_worst_first_with_their_intervals() -> None:
    (ax,) = reports.plot_per_class(RESULT.per_group, RESULT.roc_auc).axes
    expected = sorted(RESULT.per_group.values(), key=lambda auc: auc.value)
    container = labelled(ax, "class")
    assert isinstance(container, ErrorbarContainer)
    np.testing.assert_allclose(container[0].get_xdata(), [auc.value for auc in expected])
    segments = container[2][0].get_segments()
    np.testing.assert_allclose([part[:, 0] for part in segments], [(auc.low, auc.high) for auc in expected])
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first row is at the top
    np.testing.assert_allclose(line(ax, "all anomalies")[0], RESULT.roc_auc.value)


def test_of_many_classes_the_worst_forty_are_shown() -> None:
    many = {f"class {i:02}": RocAuc(0.5 + i / 200, 0.4, 1.0, 10, 10) for i in reversed(range(60))}
    (ax,) = reports.plot_per_class(many).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == [f"class {i:02} (10)" for i in range(40)]
    assert ax.get_ylabel() == "worst 40 of 60 classes (samples)"
    assert len(reports.to_svg(ax.figure)) < 60_000  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no classes to show"):
        reports.plot_per_class({})
