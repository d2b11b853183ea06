"""``vae-anomaly score --stream``: rows are decided one after the other, each by those before it alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import click

from vae_anomaly.calibration.adaptive import AdaptiveThreshold
from vae_anomaly.calibration.online_fdr import OnlineFDR
from vae_anomaly.cli.score_table import (
    RESUMABLE_CHUNK_ROWS,
    Source,
    identity_of,
    score_chunks,
    shown_on,
    write_chunks,
)
from vae_anomaly.errors import DataError
from vae_anomaly.storage.run_identity import RunIdentity
from vae_anomaly.storage.score_table import open_score_table
from vae_anomaly.storage.stream_table import open_stream_table

if TYPE_CHECKING:
    from vae_anomaly.calibration.online import StreamRule
    from vae_anomaly.fitted_model import FittedModel
    from vae_anomaly.storage.score_formats import Columns

ADDED_COLUMNS = ("recent_p_value", "level")


class Wanted(NamedTuple):
    """By which rule a stream is decided; one of the two is given.

    Parameters
    ----------
    fdr
        Expected share of normals among those flagged, at most, at every time.
    adaptive
        Share of all rows to flag in the long run.
    """

    fdr: float | None
    adaptive: float | None

    def rule_for(self, fitted: FittedModel) -> tuple[StreamRule, str]:
        """The rule before the first row, and the column of the score table that it decides by."""
        if self.adaptive is not None:
            return AdaptiveThreshold(self.adaptive, -fitted.calibration_scores), "anomaly_score"
        assert self.fdr is not None
        return fdr_rule(self.fdr, fitted), "p_value"


def fdr_rule(rate: float, fitted: FittedModel) -> OnlineFDR:
    """The rule for a model's p-values; a line on stderr says what coarse ones mean for it."""
    n = len(fitted.calibration_scores)
    rule = OnlineFDR(rate, n_normals=n, delta=fitted.calibration.delta)
    coarse = f"{n:,} held-out normals give no p-value below {rule.smallest:.2g}"
    if not rule.can_flag:
        click.echo(
            f"warning: no row can be flagged at --fdr {rate:g}, since {coarse}: give more held-out normals or a "
            "higher --fdr",
            err=True,
        )
    else:
        n_rows = round(rule.rows_of_a_budget / (1 - rule.candidate_level))
        click.echo(
            f"note: {coarse}, so after about {n_rows:,} normals in a row no row can be flagged any more: --fdr is for "
            "streams with more anomalies than that, --adaptive for others",
            err=True,
        )
    return rule


def score_stream(fitted: FittedModel, source: Source, output: Path | TextIO, wanted: Wanted, state: Path | None) -> int:
    """Score a file into a table, each row decided as it comes; returns how many are flagged in all of the table.

    Parameters
    ----------
    output
        Where to; a file if there is a state.
    state
        File of what the rule knows, to go on from and to leave behind.
    """
    rule, column = wanted.rule_for(fitted)
    if isinstance(output, Path) and state is not None:
        n_flagged = score_from_state(fitted, source, output, wanted, state, rule, column)
    else:
        with open_score_table(output) as write:
            chunks = (
                decided(columns, rule, column) for columns in score_chunks(fitted, source, reserved=ADDED_COLUMNS)
            )
            n_flagged = write_chunks(shown_on(output, chunks), write)
    if isinstance(rule, OnlineFDR) and rule.n_rows and not rule.can_flag:
        click.echo(
            f"warning: no row can be flagged any more: {rule.n_discoveries:,} of {rule.n_rows:,} were, and the last of "
            "these too long ago; a new stream, with another --state or none, has a promise of its own",
            err=True,
        )
    return n_flagged


def decided(columns: Columns, rule: StreamRule, column: str) -> Columns:
    """The columns with the rule's decisions, beside what these compare."""
    decisions = rule.update(columns[column])
    added = {"recent_p_value": decisions.p_values} if column != "p_value" else {}
    return dict(columns) | {"decision": decisions.flagged.astype(int)} | added | {"level": decisions.levels}


def score_from_state(
    fitted: FittedModel, source: Source, output: Path, wanted: Wanted, state: Path, rule: StreamRule, column: str
) -> int:
    """As `score_stream`, from a state on; the state and the table go together whenever the process is killed."""
    stream = RunIdentity({"model": fitted.file_digest, "score": fitted.score} | wanted._asdict())
    with open_stream_table(state, output, stream, identity_of(fitted, source)) as table:
        if table.rule_state is not None:
            resume(rule, table.rule_state, state)
        progress = table.progress
        if progress.whole:
            click.echo(f"note: {state} counts all {progress.rows:,} rows of {source.data} already: {output}", err=True)
            return progress.flagged
        for columns in score_chunks(fitted, source, progress.rows, RESUMABLE_CHUNK_ROWS, ADDED_COLUMNS):
            table.write(decided(columns, rule, column), rule.to_state())
    return table.progress.flagged


def resume(rule: StreamRule, known: dict[str, Any], state: Path) -> None:
    """Go on from what a state knows.

    Raises
    ------
    DataError
        Naming the file, if no rows can have led there.
    """
    try:
        rule.resume(known)
    except DataError as error:
        raise DataError(f"{state}: {error}: give another --state, which starts a stream of its own") from error
