"""Rows that a model was fitted on are left out of what judges it, unless the user wants all, and the output says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vae_anomaly.errors import DataError
from vae_anomaly.storage.safe_reading import printable

if TYPE_CHECKING:
    import numpy as np

    from vae_anomaly.fitted_model import FittedModel
    from vae_anomaly.fitted_rows import FittedRows, Overlap

all_rows_option = click.option(
    "--all-rows",
    is_flag=True,
    help="Keep rows that the model was fitted on, which are left out otherwise: figures on them are too good.",
)


@dataclass(frozen=True, kw_only=True)
class Unseen:
    """The samples that judge models.

    Parameters
    ----------
    kept
        Which of the samples given these are, ``(N,)`` bool.
    note
        What a user must know, as one line; None if no sample was seen by a model.
    facts
        The same for JSON: counts for each model, None for a file of an earlier version, and how many are left out.
    """

    kept: np.ndarray
    note: str | None
    facts: dict[str, Any]


def unseen(
    models: Mapping[Path, tuple[FittedModel, Iterable[np.ndarray]]], n: int, source: str, *, all_rows: bool
) -> Unseen:
    """Which of ``n`` samples no model was fitted on.

    Parameters
    ----------
    models
        Each with the samples as its rows, in chunks.
    source
        What messages call the samples.
    all_rows
        Whether all are kept.

    Raises
    ------
    DataError
        If none is left.
    """
    import numpy as np

    overlaps = {path: overlap_of(model, chunks) for path, (model, chunks) in models.items()}
    seen = np.zeros(n, dtype=bool)
    for overlap in overlaps.values():
        seen |= False if overlap is None else overlap.seen
    kept = np.ones(n, dtype=bool) if all_rows else ~seen
    words = [overlap.in_words(str(path)) for path, overlap in overlaps.items() if overlap is not None]
    note = "; ".join(text for text in words if text is not None) or None
    if note is not None and seen.any():
        if not kept.any():
            raise DataError(f"{source}: {note}: no other is left; give other samples, or --all-rows")
        held_out = max(int((overlap.parts[kept] == 2).sum()) for overlap in overlaps.values() if overlap is not None)
        threshold = f", {held_out:,} of which set its threshold" if held_out else ""
        note += (
            ": figures on them are too good"
            if all_rows
            else f": left out, {kept.sum():,} remain{threshold} (--all-rows keeps all)"
        )
    elif note is not None:
        note += ": all are kept"
    of_models = {str(path): None if overlap is None else overlap.to_dict() for path, overlap in overlaps.items()}
    return Unseen(kept=kept, note=note, facts={"models": of_models, "left_out": int((~kept).sum())})


def overlap_of(model: FittedModel, chunks: Iterable[np.ndarray]) -> Overlap | None:
    """What a model knows of its rows; None if its file is of an earlier version."""
    return None if model.fitted_on is None else model.fitted_on.overlap(chunks)


def note_seen(fitted_on: FittedRows, fitted: str, n_twins: int, n: int) -> None:
    """Print a note if of ``n`` rows that were scored more equal rows that were fitted on than new rows would.

    Parameters
    ----------
    fitted_on
        What a model knows of the rows that it was fitted on.
    fitted
        What the note calls the model, or its training data.
    """
    if fitted_on.is_more_than_chance(n_twins, n):
        click.echo(
            f"note: {n_twins:,} of {n:,} rows equal rows that {printable(fitted)} was fitted on: their scores are too "
            "good",
            err=True,
        )


def check_both_kinds(anomalous: np.ndarray, found: Unseen, source: str) -> None:
    """Raise `DataError` if leaving samples out has left no normal, or no anomaly, of labels ``(N,)`` bool."""
    for kind, wanted in (("normal", ~anomalous), ("anomaly", anomalous)):
        if wanted.any() and not (wanted & found.kept).any():
            raise DataError(f"{source}: {found.note}: no {kind} is left; give other samples, or --all-rows")
