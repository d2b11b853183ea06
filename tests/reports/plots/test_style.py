"""Colours that everybody can distinguish, and names drawn as they are."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from vae_anomaly import reports
from vae_anomaly.evaluation import RocAuc
from vae_anomaly.reports.plots import style


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
    assert style.safe_name(given_name) == shown
    figure = reports.plot_per_class({given_name: RocAuc(0.7, 0.6, 0.8, 10, 1234)})  # type: ignore[dict-item]
    (label,) = figure.axes[0].get_yticklabels()
    assert label.get_text() == f"{shown} (1,234)"
    assert not label.get_parse_math()
    texts = [element.text for element in ElementTree.fromstring(reports.to_svg(figure)).iter() if element.text]
    assert f"{shown} (1,234)" in texts
