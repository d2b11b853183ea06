"""The command line: a thin layer that parses, calls and prints.

Commands import what they need when they run, so that ``--help`` answers without loading torch.

GNU's OpenMP lets idle threads spin for milliseconds before they sleep, and two programs on the same cores were measured
to take 50 times as long because of it. So they spin 3,000 times here, unless OMP_WAIT_POLICY or GOMP_SPINCOUNT is set.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any

import click

from vae_anomaly import __version__
from vae_anomaly.cli.benchmark import benchmark
from vae_anomaly.cli.calibrate import calibrate
from vae_anomaly.cli.compare import compare
from vae_anomaly.cli.datasets import datasets
from vae_anomaly.cli.drift import drift
from vae_anomaly.cli.evaluate import evaluate
from vae_anomaly.cli.explain import explain
from vae_anomaly.cli.find import find
from vae_anomaly.cli.fit import fit
from vae_anomaly.cli.inspect import inspect
from vae_anomaly.cli.interruption import interruptible
from vae_anomaly.cli.notes import printing_notes
from vae_anomaly.cli.options import TYPED_ARGUMENTS
from vae_anomaly.cli.report import report
from vae_anomaly.cli.review import review
from vae_anomaly.cli.sample import sample
from vae_anomaly.cli.score import score
from vae_anomaly.cli.text import terminal_text
from vae_anomaly.errors import ColumnsError, EngineError
from vae_anomaly.standard_streams import replace_missing_streams
from vae_anomaly.storage.safe_reading import printable

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # read when torch is loaded

DEBUG_VARIABLE = "VAE_ANOMALY_DEBUG"
WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


class Commands(click.Group):
    """A group of commands that fail with one message: exit code 1 for data, 2 (click's own) for usage, 128 + signal.

    The arguments as they were typed are kept in the context, for messages and reports.
    """

    def main(self, *args: Any, **kwargs: Any) -> Any:
        replace_missing_streams()
        return super().main(*args, **kwargs)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[TYPED_ARGUMENTS] = list(args)
        with failing_in_one_line():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with failing_in_one_line(), interruptible(), printing_notes():
            try:
                return super().invoke(ctx)
            finally:
                flush_stdout()


@contextlib.contextmanager
def failing_in_one_line() -> Iterator[None]:
    """Turn every failure into one message, with whatever could control a terminal escaped.

    It is one line, except for columns that do not fit, which are listed.
    """
    try:
        yield
    except (click.exceptions.Exit, click.Abort, BrokenPipeError):
        raise
    except click.ClickException as error:
        error.message = printable(error.message)  # type: ignore[misc]  # final in click's own class
        raise
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        text = describe(error)
        lines = text.splitlines() if isinstance(error, ColumnsError) else [text]
        raise click.ClickException(terminal_text(*lines)) from error


def describe(error: Exception) -> str:
    """What went wrong, in one message."""
    if isinstance(error, OSError) and error.strerror:
        if error.filename is None and error.errno in WRITE_ERRORS:  # errors of any other file have its name
            discard_stdout()
            return f"standard output: {error.strerror}"
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, ValueError | OSError | EngineError):
        return str(error)
    return f"unexpected {type(error).__name__}: {error} (set {DEBUG_VARIABLE}=1 for the traceback)"


def flush_stdout() -> None:
    """Write what is still to be printed; what cannot be written is discarded, and an error."""
    try:
        sys.stdout.flush()
    except OSError:
        discard_stdout()
        raise


def discard_stdout() -> None:
    """Discard output that could not be written: the interpreter would try again, and fail again, when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="vae-anomaly")
def main() -> None:
    """Anomaly detection with variational autoencoders.

    Train on what is normal, then score what is new: higher is more anomalous.
    """


for command in (
    find,
    fit,
    score,
    explain,
    report,
    evaluate,
    calibrate,
    compare,
    review,
    drift,
    inspect,
    sample,
    datasets,
    benchmark,
):
    main.add_command(command)
