"""Figures through their artists: what is drawn is what NumPy says, whatever the data; the bytes are always the same."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from vae_anomaly import reports
from vae_anomaly.calibration.intervals import clopper_pearson
from vae_anomaly.errors import DataError
from vae_anomaly.evaluation import Curve, RocAuc, evaluate
from vae_anomaly.evaluation.bands import p_value_band, precision_recall_band, roc_band
from vae_anomaly.reports.plots import style
from vae_anomaly.reports.plots.curves import MOST_POINTS
from vae_anomaly.reports.plots.scales import scale_of


def scored(n: int = 120, m: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return np.r_[rng.normal(size=n), rng.normal(2, 2, size=m)] * 10 + 300, np.r_[np.zeros(n), np.ones(m)].astype(int)


def history(n: int = 12) -> list[dict[str, float]]:
    columns = {
        "epoch": np.arange(1, n + 1),
        "learning_rate": np.linspace(1e-3, 0, n),
        "reconstruction": -np.linspace(9, 1, n),
        "kl": np.linspace(0, 2, n),
        "validation_reconstruction": -((np.arange(n) - 7.0) ** 2),
        "validation_kl": np.ones(n),
    }
    return [dict(zip(columns, map(float, row), strict=True)) for row in zip(*columns.values(), strict=True)]


SCORES, LABELS = scored()
NORMAL, ANOMALOUS = SCORES[LABELS == 0], SCORES[LABELS == 1]
RESULT = evaluate(SCORES, LABELS, np.where(LABELS == 1, np.arange(180) % 3, -1), threshold=320.0)
ROC_BAND, PRECISION_BAND = roc_band(SCORES, LABELS), precision_recall_band(SCORES, LABELS)
RNG = np.random.default_rng(1)
MU, P = RNG.normal(size=(180, 4)) * [3, 1, 2, 0.01], (1 + np.arange(90)) / 91
IMAGES = RNG.random((2, 3, 7, 5, 3))

PLOTS: dict[str, Callable[[Axes | None], Figure]] = {
    "roc": lambda ax: reports.plot_roc(RESULT.roc, RESULT.roc_auc, RESULT.decisions, ROC_BAND, ax),
    "precision_recall": lambda ax: reports.plot_precision_recall(
        RESULT.precision_recall, RESULT.average_precision, RESULT.decisions, PRECISION_BAND, ax
    ),
    "per_class": lambda ax: reports.plot_per_class(RESULT.per_group, RESULT.roc_auc, ax),
    "scores": lambda ax: reports.plot_scores(NORMAL, ANOMALOUS, 320.0, NORMAL[:50], ax),
    "p_values": lambda ax: reports.plot_p_values(P, 90, ax),
    "history": lambda ax: reports.plot_history(history(), ax),
    "terms": lambda ax: reports.plot_terms(-SCORES, SCORES / 9, LABELS, 320.0, ax),
    "latent_space": lambda ax: reports.plot_latent_space(MU, LABELS, ax),
    "latent_units": lambda ax: reports.plot_latent_units(MU.var(axis=0), ax),
    "image_rows": lambda ax: reports.image_rows(IMAGES, ["a", "b"], [-1, 0, 1], ax=ax),
    "profiles": lambda ax: reports.plot_profiles(MU[:9], ["w", "x", "y", "z"], ax=ax),
}
every_plot = pytest.mark.parametrize("plot", PLOTS.values(), ids=list(PLOTS))


def labelled(ax: Axes, start: str) -> Any:
    """The artist whose legend entry starts so."""
    handles, labels = ax.get_legend_handles_labels()
    (found,) = [handle for handle, label in zip(handles, labels, strict=True) if label.startswith(start)]
    return found


def line(ax: Axes, start: str) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.asarray(values, float) for values in labelled(ax, start).get_data())


def heights(ax: Axes, start: str) -> tuple[np.ndarray, np.ndarray]:
    patch = labelled(ax, start)
    assert isinstance(patch, StepPatch)
    return patch.get_data()[0], patch.get_data()[1]


# laws of all figures


@every_plot
def test_a_figure_draws_into_the_axes_given(plot: Callable[[Axes | None], Figure]) -> None:
    figure = Figure(figsize=(10, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    assert plot(right) is figure
    assert not left.has_data()
    assert right.has_data()
    assert plot(None) is not figure


@every_plot
def test_bytes_are_always_the_same_whatever_the_settings(plot: Callable[[Axes | None], Figure]) -> None:
    figure = plot(None)
    light, png = reports.to_svg(figure), reports.to_png(figure)
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "axes.facecolor": "red", "text.color": "green"}):
        before = dict(matplotlib.rcParams)
        other = plot(None)
        assert (reports.to_png(other), reports.to_svg(other)) == (png, light)
        assert dict(matplotlib.rcParams) == before
    assert len(light) < 60_000
    assert not re.search(rb"dc:date|dc:creator", light)
    assert b"Software" not in png
    expected = light
    for colour, dark in style.DARK.items():
        assert colour.encode() in light
        expected = expected.replace(colour.encode(), dark.encode())
    assert reports.to_svg(figure, dark=True) == expected
    assert ElementTree.fromstring(expected).tag.endswith("svg")


@every_plot
def test_no_text_lies_over_other_text(plot: Callable[[Axes | None], Figure]) -> None:
    figure = plot(None)
    figure.draw_without_rendering()
    texts = [text for text in figure.findobj(matplotlib.text.Text) if text.get_visible() and text.get_text().strip()]
    boxes = [text.get_window_extent() for text in texts if text.get_transform() is not None]
    drawn = [(text.get_text(), box) for text, box in zip(texts, boxes, strict=True) if figure.bbox.overlaps(box)]
    ticks = [label for ax in figure.axes for label in hidden_ticks(ax)]
    drawn = [(text, box.padded(-1)) for (text, box), artist in zip(drawn, texts, strict=False) if artist not in ticks]
    for i, (text, box) in enumerate(drawn):
        for other, other_box in drawn[:i]:
            assert not box.overlaps(other_box), (text, other)
    for ax in figure.axes:
        shown = ax.get_legend()
        assert shown is None or shown.get_window_extent().y0 >= ax.bbox.y1 - 1  # beside the data, not on it


def hidden_ticks(ax: Axes) -> list[matplotlib.text.Text]:
    """Tick labels that matplotlib keeps but does not draw, for they lie beyond the axis."""
    labels = []
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        labels += [tick.label1 for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high]
    return labels


FIGURES = """
import hashlib
import numpy as np
from vae_anomaly import reports
x = np.random.default_rng(0).normal(size=300)
figures = [reports.plot_terms(x, 2 * x, x > 1, 0.5), reports.plot_scores(x[x < 1], x[x > 1], 1.0)]
data = b"".join(save(figure) for figure in figures for save in (reports.to_svg, reports.to_png))
digest = hashlib.sha256(data).hexdigest()
"""


def test_figures_need_no_pyplot_and_are_the_same_in_another_process() -> None:
    script = FIGURES + "import sys; print(digest, 'matplotlib.pyplot' in sys.modules)"
    run = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    names: dict[str, str] = {}
    exec(FIGURES, names)  # our own text
    assert run.stdout.split() == [names["digest"], "False"]


# colours


def contrast(a: str, b: str) -> float:
    """Contrast ratio by the Web Content Accessibility Guidelines 2.2."""

    def luminance(colour: str) -> float:
        channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted([luminance(a), luminance(b)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("paper", [style.PAPER, style.DARK[style.PAPER]])
def test_colours_stand_out_from_light_and_dark_paper(paper: str) -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    ink = style.INK if paper == style.PAPER else style.DARK[style.INK]
    assert contrast(ink, paper) >= 4.5
    for colour in (style.NORMAL, style.ANOMALOUS, style.HELD_OUT, style.VALIDATION):
        assert contrast(colour, paper) >= 3


def test_a_name_like_a_colour_survives_the_dark() -> None:
    name = f"{style.INK};"
    figure = reports.plot_per_class({name: RocAuc(0.7, 0.6, 0.8, 10, 10)})
    assert f"{name} (10)" in reports.to_svg(figure, dark=True).decode()


@pytest.mark.parametrize(
    ("given_name", "shown"),
    [
        ("a_b$x^2$", "a_b$x^2$"),
        ("new\nline\x00", "new\\nline\\x00"),
        ("\u202eevil", "\\u202eevil"),
        ("\u4e2d", "\\u4e2d"),
        ("<b>&--", "<b>&--"),
        ("x" * 99, "x" * 23 + "…"),
        (3, "3"),
    ],
)
def test_names_are_drawn_as_they_are(given_name: object, shown: str) -> None:
    assert style.name(given_name) == shown
    figure = reports.plot_per_class({given_name: RocAuc(0.7, 0.6, 0.8, 10, 1234)})  # type: ignore[dict-item]
    (label,) = figure.axes[0].get_yticklabels()
    assert label.get_text() == f"{shown} (1,234)"
    assert not label.get_parse_math()
    texts = [element.text for element in ElementTree.fromstring(reports.to_svg(figure)).iter() if element.text]
    assert f"{shown} (1,234)" in texts


# curves


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


@settings(max_examples=10, deadline=None)
@given(st.integers(600, 3000), st.integers(0, 99), st.sampled_from([0.0, 1.0, 4.0]), st.booleans())
def test_no_point_of_a_curve_lies_off_the_simplified_one(n: int, seed: int, distance: float, precision: bool) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    result = evaluate(rng.normal(size=n) + distance * labels, labels)
    figure = reports.plot_precision_recall(result.precision_recall) if precision else reports.plot_roc(result.roc)
    drawn = np.column_stack(line(figure.axes[0], "precision" if precision else "ROC"))
    curve = result.precision_recall if precision else result.roc
    points = np.column_stack([curve.x, curve.y])
    assert len(drawn) <= MOST_POINTS
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


# distributions


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50),
    st.lists(st.floats(-1e9, 1e9), max_size=50),
    st.floats(-1e6, 1e6),
)
def test_every_score_is_in_a_bar_and_those_flagged_are_right_of_the_threshold(
    normal: list[float], anomalous: list[float], threshold: float
) -> None:
    (ax,) = reports.plot_scores(np.array(normal), np.array(anomalous), threshold, np.array(normal)).axes
    for start, scores in (("normal", normal), ("anomalous", anomalous), ("held-out", normal)):
        if scores:
            values, edges = heights(ax, start)
            assert (np.diff(edges) > 0).all()
            assert values.sum() == pytest.approx(100)
            flagged = values[edges[:-1] >= threshold].sum()
            assert flagged == pytest.approx(100 * np.mean(np.array(scores) > threshold))
    assert line(ax, "threshold")[0].tolist() == [threshold] * 2


@pytest.mark.parametrize("threshold", [None, 5.0])
@pytest.mark.parametrize("scores", [np.full(10, 7.0), np.array([3.0]), np.full(4, -1e12), np.zeros(1000)])
def test_constant_scores_are_one_bar(scores: np.ndarray, threshold: float | None) -> None:
    figure = reports.plot_scores(scores, None, threshold)
    values, _ = heights(figure.axes[0], "samples")
    assert values.max() == pytest.approx(100)
    assert reports.to_svg(figure)


def test_heavy_tails_are_counted_in_the_end_bins_and_said() -> None:
    normal = np.r_[np.random.default_rng(0).uniform(-1, 1, size=5000), 1e9, 1e9, -1e9]
    (ax,) = reports.plot_scores(normal, None, 2.0).axes
    _, edges = heights(ax, "samples")
    lower, higher = (normal < edges[0]).sum(), (normal > edges[-1]).sum()
    assert (lower, higher) == (1, 2)
    assert ax.get_xlabel() == "anomaly score (nats)\n1 lower and 2 higher ones counted in the end bins"
    assert ax.get_xlim()[1] < 10
    assert heights(ax, "samples")[0].sum() == pytest.approx(100)


def test_far_anomalies_leave_the_normals_their_room() -> None:
    rng = np.random.default_rng(0)
    (ax,) = reports.plot_scores(rng.normal(size=500), rng.normal(1e5, 1e4, size=500), 3.0).axes
    values, _ = heights(ax, "normal")
    assert (values > 0).sum() >= 5
    assert "counted" not in ax.get_xlabel()
    ticks = [tick.get_text() for tick in ax.get_xticklabels()]
    assert {"10", "10,000"} <= set(ticks)
    assert len(set(ticks)) == len(ticks) >= 4


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e7, 1e7), min_size=1, max_size=30), st.lists(st.floats(-1e9, 1e9), max_size=30))
def test_a_scale_has_an_inverse_and_keeps_order(normal: list[float], others: list[float]) -> None:
    scale = scale_of(np.array(normal), [np.array(others)])
    assert scale.low < scale.high
    grid = scale.grid(30)
    assert (np.diff(grid) > 0).all()
    np.testing.assert_allclose(scale.inverse(scale.forward(grid)), grid, rtol=1e-6, atol=1e-9 * np.ptp(grid))
    inside = [scale.low <= value <= scale.high for value in normal]
    assert np.mean(inside) >= 0.9
    if scale.width is not None:
        ticks = np.array(scale.ticks())
        assert (scale.low <= ticks).all()
        assert (ticks <= scale.high).all()
        assert len(ticks) >= 3
        assert np.diff(scale.forward(ticks)).min() > 0.05 * np.ptp(scale.forward(grid))  # room for a number


@pytest.mark.parametrize("bad", [np.array([]), np.array([1.0, np.nan]), np.array([np.inf])])
def test_scores_that_cannot_be_drawn_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(DataError):
        reports.plot_scores(bad)
    with pytest.raises(DataError):
        reports.plot_p_values(bad)
    with pytest.raises(DataError):
        reports.plot_latent_units(bad)


def test_p_values_show_their_share_and_band() -> None:
    p = np.array([0.2, 0.1, 0.5, 0.2])
    (ax,) = reports.plot_p_values(p, 19).axes
    x, y = line(ax, "normals")
    for t in (0.1, 0.15, 0.2, 0.4, 0.5, 0.9):
        at_most = y[x <= t]
        assert at_most[-1] == np.mean(p <= t)
    band = p_value_band(4, 19)
    vertices = labelled(ax, "95 %").get_paths()[0].vertices
    assert {(x, max(y, 0.125)) for x, y in zip(band.x, band.high, strict=True)} <= {tuple(v) for v in vertices}
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    for bad in ([0.0, 0.5], [0.5, 1.5]):
        with pytest.raises(DataError, match=r"p-values must lie in \(0, 1\], got"):
            reports.plot_p_values(np.array(bad))


@pytest.mark.parametrize("p", [np.array([1.0]), np.ones(5), np.array([0.01])])
def test_few_p_values_can_be_drawn(p: np.ndarray) -> None:
    assert reports.to_svg(reports.plot_p_values(p))


# models


def test_history_marks_the_epoch_with_the_best_validation_elbo() -> None:
    records = history()
    top, middle, bottom = reports.plot_history(records).axes
    for panel, key in ((top, "reconstruction"), (middle, "kl")):
        np.testing.assert_array_equal(line(panel, "training")[1], [record[key] for record in records])
        np.testing.assert_array_equal(line(panel, "validation")[1], [record[f"validation_{key}"] for record in records])
        assert np.ravel(line(panel, "best epoch, 8")).tolist() == [8, records[7][f"validation_{key}"]]
    np.testing.assert_array_equal(bottom.lines[0].get_ydata(), [record["learning_rate"] for record in records])
    assert reports.to_svg(reports.plot_history(records[:1]))
    with pytest.raises(DataError, match="no epochs"):
        reports.plot_history([])
    with pytest.raises(DataError, match="give one made by add_subplot"):
        reports.plot_history(records, Figure().add_axes((0, 0, 1, 1)))


def test_terms_are_points_beside_the_line_of_the_threshold() -> None:
    reconstruction, kl = -SCORES, SCORES / 9
    (ax,) = reports.plot_terms(reconstruction, kl, LABELS, 320.0).axes
    for start, label in (("normal (120)", 0), ("anomalous (60)", 1)):
        x, y = line(ax, start)
        np.testing.assert_allclose(x, kl[label == LABELS])
        np.testing.assert_allclose(y, reconstruction[label == LABELS])
        assert labelled(ax, start).get_rasterized()
    x, y = line(ax, "threshold")
    np.testing.assert_allclose(x - y, 320)
    assert len(x) > 100


def test_terms_far_from_the_normals_get_a_curved_axis_and_the_line_with_it() -> None:
    rng = np.random.default_rng(0)
    kl, reconstruction = rng.normal(9, 1, size=400), -rng.normal(9, 1, size=400)
    reconstruction[200:] -= 1e4
    (ax,) = reports.plot_terms(reconstruction, kl, np.arange(400) >= 200, 30.0).axes
    assert ax.get_yscale() == "function"
    np.testing.assert_allclose(np.subtract(*line(ax, "threshold")), 30)


def test_of_many_samples_five_thousand_are_drawn_and_rare_anomalies_all() -> None:
    n = 20_000
    x = np.random.default_rng(0).normal(size=n)
    for rare, expected in ((30, (4970, 30)), (9000, (2500, 2500))):
        (ax,) = reports.plot_terms(x, x, np.arange(n) < rare).axes
        drawn = [len(line(ax, start)[0]) for start in ("normal", "anomalous")]
        assert tuple(drawn) == expected
        assert f"normal ({expected[0]:,} of {n - rare:,})" in ax.get_legend_handles_labels()[1]
        assert len(reports.to_svg(ax.figure)) < 60_000  # type: ignore[arg-type]


@pytest.mark.parametrize("n_latents", [1, 2, 5])
def test_the_normals_define_the_axes_of_the_latent_space(n_latents: int) -> None:
    rng = np.random.default_rng(0)
    mu = rng.normal(size=(60, n_latents)) @ rng.normal(size=(n_latents, n_latents))
    anomalous = np.arange(60) >= 40
    mu[anomalous] *= 5
    (ax,) = reports.plot_latent_space(mu, anomalous).axes
    centred = mu[~anomalous] - mu[~anomalous].mean(axis=0)
    singular = np.linalg.svd(centred, compute_uv=False)
    x, y = line(ax, "normal (40)")
    np.testing.assert_allclose(np.linalg.norm(x), singular[0])
    np.testing.assert_allclose(np.linalg.norm(y), singular[1] if n_latents > 1 else 0)
    shares = singular**2 / (singular**2).sum()
    assert ax.get_xlabel() == f"first component ({shares[0]:.0%} of variance)"


@pytest.mark.parametrize("known", [None, np.array([True]), np.array([False])])
def test_one_sample_can_be_drawn(known: np.ndarray | None) -> None:
    assert reports.to_svg(reports.plot_latent_space(np.ones((1, 3)), known))
    assert reports.to_svg(reports.plot_terms(np.ones(1), np.ones(1), known, 0.0))


def test_samples_and_labels_must_agree() -> None:
    with pytest.raises(DataError, match="180 posterior means but 3 labels"):
        reports.plot_latent_space(MU, np.zeros(3))
    with pytest.raises(DataError, match="got 3, 2 and 3"):
        reports.plot_terms(np.ones(2), np.ones(3), np.zeros(3))
    with pytest.raises(DataError, match="finite"):
        reports.plot_latent_space(np.full((3, 2), np.nan))


def test_latent_units_are_ranked_and_split_at_one_hundredth() -> None:
    variances = np.array([0.0, 0.5, 0.02, 0.009, 2.0])
    (ax,) = reports.plot_latent_units(variances).axes
    np.testing.assert_allclose(heights(ax, "active (3)")[0], [2.0, 0.5, 0.02])
    np.testing.assert_allclose(heights(ax, "inactive (2)")[0][0], 0.009)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["4", "1", "2", "3", "0"]
    assert [labelled(ax, start).get_hatch() for start in ("active (3)", "inactive")] == [None, "////"]
    assert np.ravel(line(ax, "active above")[1]).tolist() == [0.01, 0.01]
    assert len(reports.to_svg(reports.plot_latent_units(np.geomspace(9, 1e-9, 500)))) < 60_000
    assert reports.to_svg(reports.plot_latent_units(np.zeros(3)))
    with pytest.raises(DataError, match="cannot be negative, got -1"):
        reports.plot_latent_units(np.array([-1.0]))


# samples


@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_image_rows_holds_every_image_in_its_place(channels: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).random((2, 3, 7, 5, *channels)) * 255
    (ax,) = reports.image_rows(images, ["a_$", "b"], ["l", "m", "r"], (0, 255)).axes
    canvas = np.asarray(ax.images[0].get_array())
    for row, column in np.ndindex(2, 3):
        expected = np.broadcast_to(images[row, column].reshape(7, 5, -1), (7, 5, 3)) / 255
        shown = canvas[8 * row : 8 * row + 7, 6 * column : 6 * column + 5]
        np.testing.assert_allclose(shown[..., :3], expected, atol=0.5 / 63 + 1e-9)
        assert (shown[..., 3] == 1).all()
    assert (canvas[7, :, 3] == 0).all()  # the gap takes the colour of the paper
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a_$", "b"]
    assert ax.get_xticks().tolist() == [2, 8, 14]
    with pytest.raises(DataError, match="2 rows and 3 columns of images need as many labels, got 1 and 3"):
        reports.image_rows(images, ["a"], ["l", "m", "r"])
    with pytest.raises(DataError, match="images must be"):
        reports.image_rows(images[0, 0], ["a"], ["b"])


def test_profiles_show_the_features_that_vary_most() -> None:
    X = np.random.default_rng(0).normal(size=(6, 50)) * np.where(np.arange(50) % 5 == 0, 0.01, 1)
    figure = reports.plot_profiles(X, [f"f{i}" for i in range(50)], [f"{i}$" for i in range(6)])
    ax = figure.axes[0]
    shown = [i for i in range(50) if i % 5]
    np.testing.assert_array_equal(ax.images[0].get_array(), X[:, shown].T)
    assert [label.get_text() for label in ax.get_yticklabels()] == [f"f{i}" for i in shown]
    assert ax.get_title(loc="left") == "the 40 of 50 features that vary most"
    low, high = ax.images[0].get_clim()
    assert low == -high
    assert reports.to_svg(reports.plot_profiles(np.zeros((1, 1))))
    with pytest.raises(DataError, match="needs 50 names of features"):
        reports.plot_profiles(X, ["a"])


def test_a_million_samples_are_drawn_at_once() -> None:
    rng = np.random.default_rng(0)
    x, known = rng.normal(size=1_000_000), np.arange(1_000_000) % 2
    uniform = np.linspace(0, 1, 1_000_001)
    figures = [
        reports.plot_roc(Curve(uniform, np.sqrt(uniform), uniform)),
        reports.plot_scores(x, x + 1, 2.0, x),
        reports.plot_p_values(uniform[1:], 1000),
        reports.plot_terms(x, x, known, 1.0),
        reports.plot_latent_space(x.reshape(-1, 4), known[::4]),
    ]
    for figure in figures:
        assert len(reports.to_svg(figure)) < 60_000
