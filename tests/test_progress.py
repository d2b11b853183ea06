"""Progress bars: on a terminal only, beginning where an earlier run ended, and gone when they are closed."""

from __future__ import annotations

import io
import re

import pytest

from vae_anomaly.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, total: int | None, **kwargs: object) -> str:
    monkeypatch.setattr("sys.stderr", stream)
    with progress_bar("scoring", total, **kwargs) as bar:  # type: ignore[arg-type]
        bar.update(250)
        bar.refresh()
    return stream.getvalue()


def test_nothing_is_shown_where_stderr_is_no_terminal_or_nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, io.StringIO(), 1_000) == ""
    assert shown(monkeypatch, Terminal(), 1_000, shown=False) == ""


@pytest.mark.parametrize(
    ("total", "kwargs", "expected"),
    [
        (1_000, {}, r"scoring:  25%\|.*\| 250/1.00k \[.* rows/s\]"),
        (1_000, {"done": 500}, r"scoring:  75%\|.*\| 750/1.00k \["),
        (500, {"unit": "cases"}, r"scoring:  50%\|.*\| 250/500 \[.* cases/s\]"),
        (None, {}, r"scoring: 250 rows \["),
    ],
)
def test_a_bar_says_how_far_it_is_and_vanishes(
    monkeypatch: pytest.MonkeyPatch, total: int | None, kwargs: dict[str, object], expected: str
) -> None:
    output = shown(monkeypatch, Terminal(), total, **kwargs)
    assert re.search(expected, output), output
    assert output.endswith("\r")
    assert not output.split("\r")[-2].strip()
