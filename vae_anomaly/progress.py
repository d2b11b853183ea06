"""Progress on stderr: a bar on a terminal, a line now and then in a file; needs no torch."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from threading import Event, Thread
from typing import Any, Protocol, Self

ABBREVIATED_FROM = 1_000
SECONDS_BETWEEN_LINES = 15.0  # in a file, and before the first
SECONDS_BETWEEN_TICKS = 1.0  # on a terminal, of a phase that cannot count


class Progress(Protocol):
    """What counts; a context manager."""

    def update(self, n: float | None = 1) -> object:
        """Count ``n`` more."""

    def set_postfix_str(self, s: str = "") -> None:
        """Say something beside the count."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: Any, error: Any, trace: Any, /) -> object: ...


class Lines:
    """Progress where stderr is no terminal: a line every 15 seconds, none for what takes less.

    Parameters
    ----------
    what, total, unit, done
        As `progress_bar` has them.
    """

    def __init__(self, what: str, total: int | None, unit: str, done: int) -> None:
        self.what, self.total, self.unit, self.first, self.done = what, total, unit, done, done
        self.postfix = ""
        self.started = self.printed = time.monotonic()

    def update(self, n: float | None = 1) -> None:
        """Count ``n`` more, and print a line if the last is long ago."""
        self.done += int(n or 0)
        if time.monotonic() - self.printed >= SECONDS_BETWEEN_LINES:
            self.print()

    def set_postfix_str(self, s: str = "") -> None:
        """What the next lines end in."""
        self.postfix = s

    def print(self) -> None:
        """Print how far it is."""
        self.printed = time.monotonic()
        taken, so_far, parts = self.printed - self.started, self.done - self.first, [f"{self.done:,} {self.unit}"]
        if self.total is not None:
            parts = [f"{self.done / max(1, self.total):.0%}", f"{self.done:,} of {self.total:,} {self.unit}"]
            if so_far:
                parts.append(f"{minutes(taken / so_far * (self.total - self.done))} left")
        print(
            f"{self.what}: {'; '.join([', '.join(parts), *filter(None, [self.postfix])])}", file=sys.stderr, flush=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any, /) -> None: ...


def progress_bar(what: str, total: int | None, *, unit: str = "rows", done: int = 0, shown: bool = True) -> Progress:
    """Progress with the rate and the time left: on a terminal a bar that vanishes when it is closed, else lines.

    Parameters
    ----------
    what
        What is being done, such as "scoring".
    total
        How many there are; None: not known.
    unit
        What is counted, in the plural.
    done
        How many were done before, by an earlier run.
    shown
        Whether to show it at all.

    Returns
    -------
    Progress
        To be used as a context manager; ``update(n)`` counts.
    """
    if shown and not on_terminal():
        return Lines(what, total, unit, done)
    from tqdm import tqdm

    bar: tqdm[Any] = tqdm(
        total=total,
        initial=done,
        desc=what,
        unit=f" {unit}",
        unit_scale=total is None or total >= ABBREVIATED_FROM,
        disable=not shown,
        leave=False,
    )
    return bar


@contextlib.contextmanager
def phase(what: str, *, shown: bool = True, after: float | None = None) -> Iterator[None]:
    """Show that the block, which cannot count what it does, is at work, and for how long.

    A thread of its own does, so that long computations are no reason for silence.

    Parameters
    ----------
    what
        What is being done.
    shown
        Whether to show it at all.
    after
        Seconds before the first word; None: none on a terminal, else 15.
    """
    if not shown:
        yield
        return
    over = Event()
    teller = Thread(target=tell, args=(what, over, after), daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def tell(what: str, over: Event, after: float | None) -> None:
    """Say what is being done, until it is over: on a terminal every second, else every 15."""
    if not on_terminal():
        started, pause = time.monotonic(), SECONDS_BETWEEN_LINES if after is None else after
        while not over.wait(pause):
            print(f"{what}: {minutes(time.monotonic() - started)} so far", file=sys.stderr, flush=True)
            pause = SECONDS_BETWEEN_LINES
        return
    if over.wait(after or 0):
        return
    from tqdm import tqdm

    with tqdm(desc=what, bar_format="{desc} [{elapsed}]", leave=False) as bar:
        while not over.wait(SECONDS_BETWEEN_TICKS):
            bar.refresh()


def on_terminal() -> bool:
    """Whether stderr is one."""
    return sys.stderr is not None and sys.stderr.isatty()


def minutes(seconds: float) -> str:
    """As 1:05, or 1:02:05."""
    whole = round(seconds)
    hours = f"{whole // 3600}:{whole // 60 % 60:02d}" if whole >= 3600 else f"{whole // 60}"
    return f"{hours}:{whole % 60:02d}"
