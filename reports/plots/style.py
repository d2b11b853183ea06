"""How figures look, and how they become bytes.

Normal is blue, anomalous is vermillion, by Okabe and Ito's palette for the colour-blind; what was held out is grey.
Line styles, markers and hatches say the same again. These colours stand out from light and from dark paper alike, so a
dark figure is the light one with `INK` and `PAPER` replaced. Fonts, lines and legends are in ``figures.mplstyle``.

Names come from users and are drawn as they are (`safe_name`, with ``parse_math=False``): ``$`` and ``_`` are plain
letters.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import resources
from typing import Any, cast

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

# matplotlib reads a path, which a package in a zip archive does not have
with resources.as_file(resources.files("vae_anomaly.reports.plots") / "figures.mplstyle") as _path:
    STYLE = matplotlib.rc_params_from_file(_path, use_default_template=False)

INK: str = STYLE["text.color"]  # text, axes, ticks, lines of reference
PAPER: str = STYLE["figure.facecolor"]  # behind everything
DARK = {INK: "#e6e6e6", PAPER: "#121417"}
FONT: str = STYLE["font.sans-serif"][0]
NORMAL = "#0072b2"
ANOMALOUS = "#d55e00"
HELD_OUT = "#767676"
VALIDATION = "#009e73"
DIVERGING, SEQUENTIAL = "RdBu_r", "cividis"  # colour maps, both legible to the colour-blind
REFERENCE_LINE: dict[str, Any] = {"color": INK, "ls": "--", "lw": 0.8}
THRESHOLD_LINE: dict[str, Any] = {"color": INK, "ls": (0, (4, 2)), "lw": 1.2}


@contextmanager
def styled() -> Iterator[None]:
    """A context, or a decorator of a function, in which matplotlib draws in this style; the user's settings return."""
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
    svg = save(figure, "svg", {"Date": None, "Creator": None})
    return darkened(svg) if dark else svg


def darkened(svg: bytes) -> bytes:
    """A figure's SVG for a dark page."""

    def dark_tag(tag: re.Match[bytes]) -> bytes:
        text = tag[0]
        for light, dark in DARK.items():
            text = text.replace(light.encode(), dark.encode())
        return text

    # only inside tags: a name that a user gave may look like a colour
    return re.sub(rb"<[^<>]*>", dark_tag, svg)


def to_png(figure: Figure) -> bytes:
    """The figure as PNG, the same bytes every time."""
    return save(figure, "png", {"Software": None})


@styled()
def save(figure: Figure, kind: str, metadata: dict[str, None]) -> bytes:
    """What matplotlib writes, without the date and the version."""
    buffer = io.BytesIO()
    places = [(ax, ax.get_position(original=True)) for ax in figure.axes]
    figure.savefig(buffer, format=kind, metadata=metadata)
    for ax, place in places:  # the next layout would start where this one ended, and come out differently
        ax.set_position(place)
        ax.set_in_layout(True)
    return buffer.getvalue()


def legend(ax: Axes, n_columns: int) -> None:
    """A legend above the axes and clear of the data; flush right, so that it may be as wide as axes and tick labels."""
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=n_columns)


def number(value: float) -> str:
    """A number for people: thousands separated, a true minus sign, only the digits in which ticks differ."""
    text = f"{value:.4g}" if abs(value) >= 1e7 else f"{value:,.9g}"
    return text.replace("-", "\N{MINUS SIGN}")


def number_format() -> FuncFormatter:
    """Ticks as `number` writes them."""

    def tick_label(value: float, position: int | None) -> str:
        return number(value)

    return FuncFormatter(tick_label)


def plain_ticks(axis: Axis, n_bins: int = 5) -> None:
    """Round numbers as ticks, written out in full."""
    axis.set_major_locator(MaxNLocator(n_bins, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(number_format())


def log_ticks(axis: Axis) -> None:
    """Labels for a logarithmic axis without mathematics: whole powers of ten."""
    axis.set_major_formatter(number_format())
    axis.set_minor_formatter(NullFormatter())


def safe_name(value: object, width: int = 24) -> str:
    """A user's name for a label: letters that cannot be drawn are escaped, a long name ends in an ellipsis."""
    text = "".join(letter if drawable(letter) else letter.encode("unicode_escape").decode() for letter in str(value))
    return text if len(text) <= width else text[: width - 1] + "…"


@lru_cache(maxsize=4096)
def drawable(letter: str) -> bool:
    """Whether a letter is visible and in the font."""
    font = get_font(findfont(FontProperties(family=FONT)))
    return letter.isprintable() and font.get_char_index(ord(letter)) != 0
