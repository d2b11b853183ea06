"""Progress: a bar on a terminal, which vanishes; lines now and then in a file."""

from __future__ import annotations

import io
import re
import time

import pytest

from vae_anomaly import progress
from vae_anomaly.progress import phase, progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, total: int | None, **kwargs: object) -> str:
    monkeypatch.setattr("sys.stderr", stream)
    with progress_bar("scoring", total, **kwargs) as bar:  # type: ignore[arg-type]
        bar.set_postfix_str("well")
        bar.update(250)
        getattr(bar, "refresh", str)()
    return stream.getvalue()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)


def test_nothing_is_shown_where_nobody_asked_or_it_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, io.StringIO(), 1_000) == ""
    assert shown(monkeypatch, io.StringIO(), 1_000, shown=False) == ""
    assert shown(monkeypatch, Terminal(), 1_000, shown=False) == ""


@pytest.mark.parametrize(
    ("total", "kwargs", "expected"),
    [
        (1_000, {}, r"scoring:  25%\|.*\| 250/1.00k \[.* rows/s, well\]"),
        (1_000, {"done": 500}, r"scoring:  75%\|.*\| 750/1.00k \["),
        (500, {"unit": "cases"}, r"scoring:  50%\|.*\| 250/500 \[.* cases/s, well\]"),
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


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("total", "kwargs", "expected"),
    [
        (1_000, {}, "scoring: 25%, 250 of 1,000 rows, 0:00 left; well\n"),
        (1_000, {"done": 500}, "scoring: 75%, 750 of 1,000 rows, 0:00 left; well\n"),
        (None, {"unit": "cases"}, "scoring: 250 cases; well\n"),
    ],
)
def test_a_file_gets_lines(
    monkeypatch: pytest.MonkeyPatch, total: int | None, kwargs: dict[str, object], expected: str
) -> None:
    assert shown(monkeypatch, io.StringIO(), total, **kwargs) == expected


def test_lines_are_some_time_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, now = io.StringIO(), 0.0
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with progress_bar("scoring", 100) as bar:
        for _ in range(100):
            now += 0.5
            bar.update(1)
    assert stream.getvalue().splitlines() == [
        "scoring: 30%, 30 of 100 rows, 0:35 left",
        "scoring: 60%, 60 of 100 rows, 0:20 left",
        "scoring: 90%, 90 of 100 rows, 0:05 left",
    ]


def test_a_phase_that_cannot_count_says_that_it_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in (io.StringIO(), Terminal()):
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.02)
        with phase("fitting the prior"):
            started = time.monotonic()
            while "fitting the prior" not in stream.getvalue() and time.monotonic() < started + 20:
                time.sleep(0.01)
        text = stream.getvalue()
        assert "fitting the prior" in text
        assert text.startswith("fitting the prior: 0:0") or not text.split("\r")[-2].strip()


def test_a_phase_is_silent_where_nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", stream := Terminal())
    with phase("fitting the prior", shown=False):
        time.sleep(0.01)
    assert stream.getvalue() == ""


def test_minutes() -> None:
    assert [progress.minutes(seconds) for seconds in (0, 65, 3725)] == ["0:00", "1:05", "1:02:05"]
