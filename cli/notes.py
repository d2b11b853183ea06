"""Warnings, the project's own and libraries', as ``note:`` lines on stderr."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import click

from vae_anomaly.datasets.reading import ImageNote, TableNote
from vae_anomaly.errors import CheckpointWarning, PartWarning, TrainingWarning, UnlikeTrainingWarning
from vae_anomaly.storage.safe_reading import printable


@contextlib.contextmanager
def printing_notes() -> Iterator[None]:
    """Print warnings in the ``with`` block as notes; the project's own every time."""
    said: set[type] = set()

    def print_note(message: Warning | str, *rest: Any, **named: Any) -> None:
        if UnlikeTrainingWarning in said and isinstance(message, UnlikeTrainingWarning):
            return  # the same again, of another chunk
        said.add(type(message))
        click.echo(f"note: {printable(' '.join(str(message).split()))}", err=True)

    with warnings.catch_warnings():
        for category in (CheckpointWarning, PartWarning, TableNote, ImageNote, TrainingWarning, UnlikeTrainingWarning):
            warnings.simplefilter("always", category)
        warnings.showwarning = print_note
        yield
