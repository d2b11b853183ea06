"""What an entry of `FIGURES` returns, and all of them for a report, in the order of the page."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from matplotlib.figure import Figure

from vae_anomaly.registry import FIGURES
from vae_anomaly.reports.page.report import Report
from vae_anomaly.reports.plots.style import to_svg

SECTIONS = {
    "scores": "Scores",
    "quality": "Quality",
    "model": "The model",
    "generated": "What the model takes for normal",
}


@dataclass(frozen=True)
class CaptionedFigure:
    """A figure and the words beside it.

    Parameters
    ----------
    title, caption
        What it is, and how to read it.
    alt
        What it shows, for those who cannot see it.
    figure
        The picture.
    """

    title: str
    caption: str
    alt: str
    figure: Figure

    @cached_property
    def svg(self) -> bytes:
        """The picture as SVG, rendered once."""
        return to_svg(self.figure)


def report_figures(report: Report) -> dict[str, CaptionedFigure]:
    """The figures that the report has the contents for, by name, in the order of the page."""
    captioned: dict[str, CaptionedFigure | None] = {name: FIGURES[name](report) for name in sorted(FIGURES, key=place)}
    return {name: figure for name, figure in captioned.items() if figure is not None}


def place(name: str) -> tuple[int, int]:
    """Section of a figure by its number, and the place in it."""
    facts = FIGURES.entry(name).facts
    return list(SECTIONS).index(facts["section"]), facts["order"]
