"""What a model takes a table's columns for, as lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from vae_anomaly.cli.text import comma_separated
from vae_anomaly.columns import KINDS
from vae_anomaly.storage.safe_reading import printable

if TYPE_CHECKING:
    from vae_anomaly.storage.rows import Rows

AS_TOLD = "as told"  # why a column is of a kind that the user gave it
PLURALS = {"number": "numbers", "category": "categories", "date": "dates"}
SHOWN_LEVELS, SHOWN_CHARACTERS = 10, 24


def column_lines(columns: Sequence[dict[str, Any]] | None) -> list[str]:
    """How many columns of each kind there are, which are constant or not modelled, and what a user should know of some.

    Parameters
    ----------
    columns
        As `vae_anomaly.columns.Columns.to_json` has them; None: all are plain numbers, of which nothing is said.
    """
    if columns is None:
        return []
    kinds = [column["kind"] for column in columns]
    modelled = [kind for kind in KINDS if kind in PLURALS and kind in kinds]
    counted = [f"{kinds.count(kind):,} {PLURALS[kind] if kinds.count(kind) > 1 else kind}" for kind in modelled]
    lines = [", ".join(counted)]
    for kind, what in (("constant", "constant"), ("identifier", "not modelled")):
        names = [f"{column['name']} ({column['why'] or kind})" for column in columns if column["kind"] == kind]
        if names:
            lines.append(f"{what}: {comma_separated(names)}")
    told = [f"{column['name']} ({column['kind']})" for column in columns if column["why"] == AS_TOLD]
    if told:
        lines.append(f"as told: {comma_separated(told)}")
    return lines + [f"note: {column['name']}: {column['note']}" for column in columns if column["note"]]


def inspected_lines(columns: Sequence[dict[str, Any]] | None) -> list[str]:
    """A line for each column: name, kind, why, and its levels or cycles."""
    return [] if columns is None else [inspected_line(column) for column in columns]


def inspected_line(column: dict[str, Any]) -> str:
    """One column."""
    text = f"{column['name']}: {column['kind']}"
    if column["kind"] == "category":
        levels = [shortened(level) for level in column["levels"][:SHOWN_LEVELS]]
        more = len(column["levels"]) - len(levels)
        text += f" of {len(column['levels']):,} levels: {', '.join(levels)}" + (f" and {more:,} more" if more else "")
    elif column["cycles"]:
        text += f" with the cycles of {', '.join(column['cycles'])}"
    text += f" ({column['why']})" if column["why"] else ""
    text += "; gaps are a value" if column["marks_gaps"] else ""
    return text + (f"; {column['note']}" if column["note"] else "")


def shortened(text: str) -> str:
    """Text of at most 24 characters."""
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def note_sentinels(rows: Rows) -> None:
    """Print a note for each column of samples to fit in which a value looks as if it stands for a gap."""
    from vae_anomaly.tables.sentinels import likely_sentinels

    if len(rows.shape) > 2:
        return
    names = rows.feature_names if rows.columns is None else rows.columns.names
    for place, (value, share) in likely_sentinels(rows).items():
        name = f"column {place}" if names is None else f"column {printable(names[place])!r}"
        click.echo(
            f"note: {name}: {value:g} in {share:.1%} of the rows, far from all others: if it stands for a gap, leave "
            "those cells empty",
            err=True,
        )
