"""``vae-anomaly score`` by this process: from a file to a score table, a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO

import click

from vae_anomaly.cli.data import row_bar
from vae_anomaly.cli.options import rows_per_chunk
from vae_anomaly.cli.unseen import note_seen
from vae_anomaly.errors import DataError
from vae_anomaly.storage.safe_reading import printable

if TYPE_CHECKING:
    import numpy as np

    from vae_anomaly.cli.score_maps import Maps
    from vae_anomaly.datasets.reading import Reading
    from vae_anomaly.fitted_model import FittedModel
    from vae_anomaly.storage.run_identity import RunIdentity
    from vae_anomaly.storage.score_formats import Columns, ScoreTable

DEPENDENCE = ("positive", "arbitrary")  # of the samples' p-values on each other
RESUMABLE_CHUNK_ROWS = 1 << 14  # if the process is killed, at most so many rows are lost


class Source(NamedTuple):
    """What is scored.

    Parameters
    ----------
    data
        The file or folder.
    label_column
        Column of a table that is no feature.
    reading
        How a table is read.
    id_columns
        Columns of a table that name its rows.
    """

    data: Path
    label_column: str | None
    reading: Reading
    id_columns: tuple[str, ...]


class Together(NamedTuple):
    """How all samples are decided together.

    Parameters
    ----------
    fdr
        Expected share of normals among those flagged, at most.
    dependence
        One of `DEPENDENCE`.
    """

    fdr: float
    dependence: str


def score_to_table(
    fitted: FittedModel, source: Source, output: Path | TextIO, together: Together | None, maps: Maps | None = None
) -> int:
    """Score a file into a table, and perhaps into maps; returns how many samples are flagged.

    Raises
    ------
    DataError
        If the samples cannot be decided together as asked.
    """
    from vae_anomaly.storage.score_table import open_score_table

    if fitted.calibration_weights is not None and together is not None and together.dependence != "arbitrary":
        raise DataError(
            "the held-out normals of this model are weighted for a target, and Benjamini and Hochberg's procedure "
            "promises nothing on their p-values (arXiv:2307.09291): add --dependence arbitrary to --fdr"
        )
    with open_score_table(output) as write:
        chunks = shown_on(output, score_chunks(fitted, source, maps=maps))
        if together is None:
            return write_chunks(chunks, write)
        return write_decided_together(chunks, write, fitted, together)


def score_to_table_resumably(fitted: FittedModel, source: Source, output: Path) -> int:
    """Score a file into a table, continuing an interrupted one; returns how many samples are flagged in all of it."""
    from vae_anomaly.storage.resumable_table import open_resumable_table

    with open_resumable_table(output, identity_of(fitted, source)) as table:
        for columns in score_chunks(fitted, source, table.n_rows, RESUMABLE_CHUNK_ROWS):
            table.write(columns)
    return table.n_flagged


def identity_of(fitted: FittedModel, source: Source) -> RunIdentity:
    """What the bits of a score table depend on."""
    import torch

    from vae_anomaly import __version__
    from vae_anomaly.datasets import stamp
    from vae_anomaly.storage.run_identity import RunIdentity

    return RunIdentity(
        {
            "model": fitted.file_digest,
            "data": [stamp(str(path)) for path in (source.data, *source.reading.images.further)],
            "score": fitted.score,
            "label column": source.label_column,
            "identifiers": list(source.id_columns),
            "how it is read": source.reading.to_json(),
            "device": str(fitted.vae.scaling.loc.device),
            "number of threads": torch.get_num_threads(),
            "version": f"{__version__}, torch {torch.__version__}",
        }
    )


def shown_on(output: Path | TextIO, chunks: Iterator[Columns]) -> Iterator[Columns]:
    """The chunks, with names and text made harmless where a terminal shows them."""
    return map(printable_names, chunks) if not isinstance(output, Path) and output.isatty() else chunks


def printable_names(columns: Columns) -> Columns:
    """The columns, with whatever could control a terminal escaped in text and in their names."""
    import numpy as np

    shown = {printable(str(name)): np.asarray(values) for name, values in columns.items()}
    return {
        name: [printable(text) for text in values] if values.dtype.kind == "U" else values
        for name, values in shown.items()
    }


def score_chunks(
    fitted: FittedModel,
    source: Source,
    first_row: int = 0,
    most_rows: int | None = None,
    reserved: Iterable[str] = (),
    maps: Maps | None = None,
) -> Iterator[Columns]:
    """The score table from ``first_row`` on, in chunks of at most ``most_rows`` rows, with progress on stderr.

    Columns of the data do not get the names in ``reserved``, which others will have. ``maps`` has each chunk too, and
    its columns come last.
    """
    import numpy as np

    from vae_anomaly.datasets import chunks
    from vae_anomaly.tables.row_names import ids_of, renamed

    n_rows = rows_per_chunk(fitted.n_features)
    n_rows = n_rows if most_rows is None else min(n_rows, most_rows)
    n_twins = n_known = 0
    with row_bar(source.data, "scoring", first_row) as bar:
        for part in chunks(source.data, n_rows, source.label_column, first_row, source.reading):
            rows = fitted.rows(part.X, part.source, int(part.row_numbers[0]))
            if fitted.fitted_on is not None:
                n_twins, n_known = np.add((n_twins, n_known), fitted.fitted_on.count_twins(rows)).tolist()
            scores = fitted.score_table_of(rows)
            scores |= {} if maps is None else maps.of_chunk(part, rows)
            taken = ["row", "file", *scores, *reserved]
            names = renamed(ids_of(part.X, fitted.columns, source.id_columns, part.source), taken)
            files = {} if part.row_names is None else {"file": np.array(part.row_names)}
            yield {"row": part.row_numbers} | names | scores | files
            bar.update(len(part))
    if fitted.fitted_on is not None:
        note_seen(fitted.fitted_on, "the model", n_twins, n_known)


def write_chunks(chunks: Iterator[Columns], write: ScoreTable) -> int:
    """Write chunks as they come; returns how many samples are flagged."""
    n_flagged = 0
    for columns in chunks:
        write(columns)
        n_flagged += int(columns["decision"].sum())
    return n_flagged


def write_decided_together(
    chunks: Iterator[Columns], write: ScoreTable, fitted: FittedModel, together: Together
) -> int:
    """Keep the table in a temporary file until all p-values are known, then decide and write."""
    import tempfile

    import numpy as np

    from vae_anomaly.storage.score_formats import records

    with tempfile.TemporaryFile() as spool:
        p_values = []
        for columns in chunks:
            p_values.append(columns["p_value"])
            np.save(spool, records(columns), allow_pickle=False)
        flagged = decide_together(np.concatenate(p_values), fitted, together)
        spool.seek(0)
        start = 0
        for part in p_values:
            rows = np.load(spool, allow_pickle=False)
            rows["decision"] = flagged[start : start + len(part)]
            write({name: rows[name] for name in rows.dtype.names})
            start += len(part)
    return int(flagged.sum())


def decide_together(p: np.ndarray, fitted: FittedModel, together: Together) -> np.ndarray:
    """Which samples to flag by their p-values ``(N,)``; a line on stderr if few cannot be flagged."""
    import numpy as np

    from vae_anomaly.calibration.conformal import benjamini_hochberg
    from vae_anomaly.calibration.e_values import e_benjamini_hochberg, e_values, fewest_flagged

    n = len(fitted.calibration_scores)
    smallest = fitted.p_values_of(np.array([-np.inf]))
    if together.dependence == "arbitrary":
        flagged, needed = e_benjamini_hochberg(e_values(p, n), together.fdr), float(1 / e_values(smallest, n)[0])
    else:
        flagged, needed = benjamini_hochberg(p, together.fdr), float(smallest[0])
    fewest = fewest_flagged(needed, len(p), together.fdr)
    if fewest > 1:
        kept = "none can be flagged" if fewest > len(p) else f"none or at least {fewest:,} are flagged"
        click.echo(
            f"warning: of {len(p):,} samples decided together at --fdr {together.fdr:g}, {kept}, since {n:,} held-out "
            f"normals give no p-value below {smallest[0]:.2g}: give more held-out normals, fewer samples at a time or "
            "a higher --fdr",
            err=True,
        )
    return flagged
