"""How figures look, and how they become bytes.

Normal is blue, anomalous is vermillion, by Okabe and Ito's palette for the colour-blind, what was held out is grey;
line styles, markers and hatches say the same again. These colours stand out from light and from dark paper alike, so
that a dark figure is the light one with `INK` and `PAPER` replaced.

Names come from users and are drawn as they are (`name`, with ``parse_math=False``): ``$`` and ``_`` are but letters.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, cast

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import FuncFormatter, MaxNLocator

INK = "#1f2328"  # text, axes, ticks, lines of reference
PAPER = "#fefefe"  # behind everything
NORMAL = "#0072b2"
ANOMALOUS = "#d55e00"
HELD_OUT = "#767676"
VALIDATION = "#009e73"
DARK = {INK: "#e6e6e6", PAPER: "#121417"}
DPI = 160  # of PNG files, and of the points and images inside an SVG

FONT = "DejaVu Sans"  # comes with matplotlib, so that widths are the same everywhere
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": [FONT, "Verdana"],  # of the same widths, for those who read an SVG without the first
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.borderaxespad": 0.2,
    "legend.columnspacing": 1.4,
    "legend.handlelength": 1.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "hatch.linewidth": 0.6,
    "svg.fonttype": "none",  # text stays text: a third of the size, and it can be searched and read aloud
    "svg.hashsalt": "vae-anomaly",
    "axes.facecolor": "none",
    "figure.facecolor": PAPER,
    "savefig.facecolor": "auto",
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"), INK
    ),
}


@contextmanager
def styled() -> Iterator[None]:
    """A block, or as a decorator a function, in which matplotlib draws in this style; none of it outlives the block."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def axes_or_new(ax: Axes | None, height: float = 3.6) -> Axes:
    """The axes given, or those of a new figure, 5 inches wide."""
    return Figure(figsize=(5, height), layout="constrained").add_subplot() if ax is None else ax


def figure_of(ax: Axes) -> Figure:
    """The figure that holds the axes."""
    return cast(Figure, ax.figure)


def to_svg(figure: Figure, *, dark: bool = False) -> bytes:
    """The figure as SVG, the same bytes every time.

    Parameters
    ----------
    figure
        From any function of `vae_anomaly.reports`.
    dark
        For a dark page: light ink on dark paper.
    """
    svg = saved(figure, "svg", {"Date": None, "Creator": None})
    return darkened(svg) if dark else svg


def darkened(svg: bytes) -> bytes:
    """A figure's SVG for a dark page."""
    colours = {light.encode(): other.encode() for light, other in DARK.items()}
    pattern = re.compile(b"|".join(colours))
    # inside tags alone: a name that a user gave may read like a colour
    return re.sub(rb"<[^<>]*>", lambda tag: pattern.sub(lambda found: colours[found[0]], tag[0]), svg)


def to_png(figure: Figure) -> bytes:
    """The figure as PNG, the same bytes every time."""
    return saved(figure, "png", {"Software": None})


@styled()
def saved(figure: Figure, kind: str, metadata: dict[str, None]) -> bytes:
    """What matplotlib writes, without a trace of when and by which version."""
    buffer = io.BytesIO()
    places = [(ax, ax.get_position(original=True)) for ax in figure.axes]
    figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
    for ax, place in places:  # the layout starts from where the last one ended, and would not be the same again
        ax.set_position(place)
        ax.set_in_layout(True)
    return buffer.getvalue()


def legend(ax: Axes, n_columns: int) -> None:
    """A legend above the axes, where no data lies; flush right, so that it may be as wide as axes and tick labels."""
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=n_columns)


def number(value: float) -> str:
    """A number for people: thousands separated, a true minus sign, no more digits than tell ticks apart."""
    text = f"{value:.4g}" if abs(value) >= 1e7 else f"{value:,.9g}"
    return text.replace("-", "\N{MINUS SIGN}")


def plain_ticks(axis: Axis, n_bins: int = 5) -> None:
    """Round numbers as ticks, written out in full."""
    axis.set_major_locator(MaxNLocator(n_bins, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))


def log_ticks(axis: Axis) -> None:
    """Labels for a logarithmic axis without mathematics: whole powers of ten."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def name(value: object, width: int = 24) -> str:
    """A name from a user, for a label: what cannot be drawn escaped, and an ellipsis where it is too long."""
    text = "".join(letter if drawable(letter) else letter.encode("unicode_escape").decode() for letter in str(value))
    return text if len(text) <= width else text[: width - 1] + "…"


@lru_cache(maxsize=4096)
def drawable(letter: str) -> bool:
    """Whether a letter is one to see, and the font has it."""
    font = get_font(findfont(FontProperties(family=FONT)))
    return letter.isprintable() and font.get_char_index(ord(letter)) != 0
