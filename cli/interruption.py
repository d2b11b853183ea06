"""Ctrl-C and SIGTERM: the command ends in order, with one line and the exit code that shells expect."""

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
    """Turn the signals into a KeyboardInterrupt inside the block, and that into an exit code of 128 + their number.

    The one line on stderr says "interrupted" and the exception's notes. The handlers are those of before again when the
    block is over; a signal that the process was started to ignore stays ignored. Outside the main thread, which alone
    may handle signals, the block runs as it is.
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
        # what an interruption breaks may show as another error, such as that of a half-done import
        if not received and not isinstance(error, KeyboardInterrupt):
            raise
        click.echo("; ".join(["interrupted", *getattr(error, "__notes__", [])]), err=True)
        raise click.exceptions.Exit(128 + (received or [signal.SIGINT])[0]) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
