"""Results as lines of text for a terminal."""

from __future__ import annotations

from typing import Any

import click

from vae_anomaly.calibration.result import Calibration
from vae_anomaly.storage.safe_reading import printable


def print_lines(*lines: str) -> None:
    """Print lines, with whatever could control a terminal escaped."""
    click.echo(terminal_text(*lines))


def terminal_text(*lines: str) -> str:
    """Lines in one string, with whatever could control a terminal escaped."""
    return "\n".join(map(printable, lines))


def titled(title: str, lines: list[str]) -> list[str]:
    """Lines in a second column, beside a title in the first."""
    return [f"{title if i == 0 else '':<10} {line}" for i, line in enumerate(lines)]


def comma_separated(names: list[str] | tuple[str, ...]) -> str:
    """Names separated by commas, at most 20 of them."""
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")


def describe_calibration(calibration: dict[str, Any]) -> list[str]:
    """A threshold, what its method guarantees, and the rates to expect from it."""
    c = calibration
    found = Calibration(**c)
    lines = [
        f"anomaly score above {c['threshold']:.2f} ({found.threshold_interval('{:.2f}'.format)})",
        f"{c['method']}: {found.promise()}",
        "expect "
        + rate_text(
            "false alarms", c["false_alarm_rate"], c["false_alarm_low"], c["false_alarm_high"], found.n_counted
        ),
    ]
    if c["detection_rate"] is not None:
        detected = rate_text(
            "anomalies found", c["detection_rate"], c["detection_low"], c["detection_high"], c["n_anomalous"]
        )
        lines.append(f"expect {detected}")
    if c.get("basis"):  # files of earlier versions have none
        lines.append(c["basis"])
    if c["note"]:
        lines.append(f"warning: {c['note']}")
    return lines


def rate_text(of_what: str, value: float, low: float, high: float, n: int) -> str:
    """A rate with its interval and the number of samples that it rests on."""
    percent = [f"{100 * x:.3g}%" for x in (value, low, high)]
    return f"{percent[0]} {of_what} (95 % interval {percent[1]} to {percent[2]}), from {n:,} samples"


def alignment_line(why: str | None) -> str:
    """That images are aligned, and why, if the program decided it."""
    since = "" if why is None else f", since {why}"
    return f"images of one fixed scene: each is moved by up to 2 pixels and brought into one light{since}"
