"""Figures of the page: laws of every entry of the registry, and what adding one takes."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from reporting import make_report
from vae_anomaly.registry import FIGURES
from vae_anomaly.reports import PAGE, Report, write_report
from vae_anomaly.reports.page.captioned_figure import SECTIONS, CaptionedFigure, place, report_figures

QUALITY = set(FIGURES.where(section="quality"))


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_in_a_section_and_says_what_it_shows(name: str) -> None:
    assert FIGURES.entry(name).help
    assert FIGURES.entry(name).facts["section"] in SECTIONS
    for kind in ("images", "tables"):
        drawn = FIGURES[name](make_report(kind, n=60))
        assert isinstance(drawn, CaptionedFigure)
        assert all(text and text == text.strip() for text in (drawn.title, drawn.caption, drawn.alt))
        assert drawn.caption.endswith(".")
        assert drawn.alt.endswith(".")
        assert drawn.svg.startswith(b"<?xml")


@pytest.mark.parametrize("section", SECTIONS)
def test_no_two_figures_of_a_section_have_one_place(section: str) -> None:
    names = FIGURES.where(section=section)
    assert names
    assert len({place(name) for name in names}) == len(names)


def test_figures_come_in_the_order_of_the_page() -> None:
    names = list(report_figures(make_report(n=60)))
    assert names[:3] == ["scores", "terms", "roc"]
    assert names == sorted(FIGURES, key=place)


def test_a_figure_is_left_out_where_the_report_lacks_what_it_needs() -> None:
    report = make_report(n=60)

    def left_out(**changes: object) -> set[str]:
        return set(FIGURES) - set(report_figures(replace(report, **changes)))  # type: ignore[arg-type]

    assert left_out(anomalous=None, evaluation=None) == QUALITY
    assert left_out(history=[]) == {"history"}
    assert left_out(codes=report.codes[:, :1]) == {"latent_space"}
    assert report.evaluation is not None
    assert left_out(evaluation=replace(report.evaluation, per_group={})) == {"per_class"}


def test_an_entry_is_all_that_a_new_figure_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for store in ("_added", "_objects"):  # the entry is forgotten after the test
        monkeypatch.setattr(FIGURES, store, dict(getattr(FIGURES, store)))

    @FIGURES.register("dummy", section="quality", order=15)
    def dummy(report: Report) -> CaptionedFigure | None:
        """A figure of this test."""
        figure = Figure()
        figure.text(0.5, 0.5, "drawn by a test")
        return None if report.evaluation is None else CaptionedFigure("A new figure", "Read it.", "A <dummy>.", figure)

    report = make_report(n=60)
    assert FIGURES["dummy"](make_report(labelled=False, n=60)) is None
    write_report(report, tmp_path / "report")
    svg = (tmp_path / "report" / "figures" / "dummy.svg").read_bytes()
    assert b"drawn by a test" in svg
    page = (tmp_path / "report" / PAGE).read_text(encoding="utf-8")
    found = re.search(
        r'<h3>A new figure</h3>.*?srcset="(.*?)">.*?src="(.*?)".*?alt="(.*?)".*?<figcaption>(.*?)<', page, re.S
    )
    assert found is not None
    assert found[2] == "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
    assert found.groups()[2:] == ("A &lt;dummy&gt;.", "Read it.")
    assert page.index("ROC curve</h3>") < found.start() < page.index("Precision and recall</h3>")
