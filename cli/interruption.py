"""Ctrl-C and SIGTERM: the command cleans up and ends with one line and the exit code that shells expect."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import click

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """In a ``with`` block, turn the signals into a KeyboardInterrupt, and that into an exit code of 128 + their number.

    A line on stderr has the word "interrupted" and the exception's notes. The earlier handlers are restored afterwards;
    a signal that the process was started to ignore stays ignored. Only the main thread can handle signals: in any other
    thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield
    except (KeyboardInterrupt, Exception) as error:
        # an interruption may surface as another error, such as that of an import cut short
        if not received and not isinstance(error, KeyboardInterrupt):
            raise
        click.echo("; ".join(["interrupted", *getattr(error, "__notes__", [])]), err=True)
        raise click.exceptions.Exit(128 + (received or [signal.SIGINT])[0]) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
