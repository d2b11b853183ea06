"""Ctrl-C, SIGTERM and SIGHUP: the command cleans up and ends with one line and the exit code that shells expect."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from types import FrameType

import click

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

SECONDS_TO_ACT = 1.0
SECONDS_TO_RETURN = 0.01  # from a finaliser


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turn the first signal into a KeyboardInterrupt inside the block, and that into an exit code of 128 + its number.

    A line on stderr has the word "interrupted" and the exception's notes. Further signals are ignored, so that nothing
    cuts the cleaning up: inside the block, and after it until the process ends. Without a signal the earlier handlers
    are restored after the block. A signal that the process was started to ignore, as by ``nohup``, stays ignored. Only
    the main thread can handle signals: in any other the block runs unchanged.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not received:  # a signal within this function waits for none of its locks
            received.append(number)
            acted.set()
            raise KeyboardInterrupt

    acted = threading.Event()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        with announcing_delay(acted), raising_again(received):
            yield
    except (KeyboardInterrupt, Exception) as error:
        # an interruption may surface as another error, such as that of an import cut short
        if not received and not isinstance(error, KeyboardInterrupt):
            raise
        with contextlib.suppress(OSError):  # after SIGHUP there may be no terminal to write to
            click.echo("; ".join(["interrupted", *getattr(error, "__notes__", [])]), err=True)
        raise click.exceptions.Exit(128 + (received or [signal.SIGINT])[0]) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if received else handler)


@contextlib.contextmanager
def raising_again(received: list[int]) -> Iterator[None]:
    """Send the signal that was ``received`` once more if its KeyboardInterrupt is swallowed in the block.

    Python drops what is raised in a finaliser or the callback of a weak reference, wherever one happens to run.
    """
    earlier = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if received and unraisable.exc_type is KeyboardInterrupt:
            threading.Timer(SECONDS_TO_RETURN, signal_main_thread, [received.pop()]).start()
        else:
            earlier(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = earlier


def signal_main_thread(number: int) -> None:
    """Send a signal to the thread that handles it, which a system call there does not delay."""
    if sys.platform == "win32":
        signal.raise_signal(number)
    elif (main := threading.main_thread().ident) is not None:
        signal.pthread_kill(main, number)


@contextlib.contextmanager
def announcing_delay(acted: threading.Event) -> Iterator[None]:
    """Say so if a signal that arrives in the block sets ``acted`` only after more than a second.

    Python handles a signal once the computation under way returns to it, which a large matrix product delays. The
    number of a signal is written to a socket at once, and a thread of its own waits there.
    """
    reader, writer = socket.socketpair()
    writer.settimeout(0)  # as `signal.set_wakeup_fd` asks for

    def watch() -> None:
        if reader.recv(1) and not acted.wait(SECONDS_TO_ACT):
            with contextlib.suppress(OSError, ValueError):
                click.echo("note: interrupted as soon as the computation under way is done", err=True)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    earlier = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(earlier)
        writer.close()
        watcher.join()
        reader.close()
