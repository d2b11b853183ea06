"""Laws of all plots: where they draw, which bytes they become, and that no text covers another."""

from __future__ import annotations

import re
from collections.abc import Callable
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers import python
from plot_cases import PLOTS
from vae_anomaly import reports
from vae_anomaly.evaluation import Curve
from vae_anomaly.reports.plots import style

OF_EVIDENCE = {"plot_feature_evidence", "plot_heat_map", "plot_image_evidence"}  # whole figures, which take no axes
every_plot = pytest.mark.parametrize("plot", PLOTS.values(), ids=list(PLOTS))


def test_every_plot_obeys_these_laws() -> None:
    assert {name for name in reports.__all__ if name.startswith("plot_")} - OF_EVIDENCE <= set(PLOTS)


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
    printed = python(script)
    names: dict[str, str] = {}
    exec(FIGURES, names)  # our own text
    assert printed.split() == [names["digest"], "False"]


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
