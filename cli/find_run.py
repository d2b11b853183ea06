"""The work of ``vae-anomaly find``: fit in folds or on other rows, score, explain, print and write."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vae_anomaly.cli.column_text import column_lines, note_sentinels
from vae_anomaly.cli.data import DataOptions, Samples, load_data_to_fit, load_own_data, reading_for, samples_for
from vae_anomaly.cli.divided import groups_of
from vae_anomaly.cli.fit_run import write_evaluation
from vae_anomaly.cli.outputs import check_outputs
from vae_anomaly.cli.text import print_lines, terminal_text, titled
from vae_anomaly.cli.unseen import note_seen
from vae_anomaly.progress import phase
from vae_anomaly.storage.outputs import Output

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from vae_anomaly.fitting.out_of_fold import OutOfFold
    from vae_anomaly.reports import Evidence
    from vae_anomaly.storage.rows import Rows


@dataclass(frozen=True, kw_only=True)
class FindOutputs:
    """Where to write.

    Parameters
    ----------
    table
        File of all rows.
    report
        Folder; None if no report is wanted.
    """

    table: Path
    report: Path | None

    def check(self, data: Path, train: Path | None) -> None:
        """Find out before the training, not after it, what cannot be written."""
        from vae_anomaly.reports import check_report_folder
        from vae_anomaly.storage.atomic import check_writable

        check_outputs(
            {"DATA": data, "--train": train},
            Output("--output", self.table),
            None if self.report is None else Output("the report", self.report, entries="*"),
        )
        check_writable(self.table)
        if self.report is not None:
            check_report_folder(self.report)


def run_find(
    given: DataOptions, train: Path | None, outputs: FindOutputs, n_rows: int, parameters: Mapping[str, Any]
) -> None:
    """Do all of it."""
    import numpy as np

    from vae_anomaly.parameters import DEFAULTS

    whole = {**DEFAULTS, **parameters, "verbose": True}
    started = time.perf_counter()
    samples, found = in_folds(given, whole) if train is None else by_training(given, train, whole)
    seconds = time.perf_counter() - started
    rows = samples.rows.computable().flat()
    order = np.argsort(-found.scores["anomaly_score"], kind="stable")
    because = words_for(found, samples, rows)
    about = about_lines(samples, found, seconds, train)
    table = score_columns(samples, found, because)
    print_lines(*about, "", *odd_rows(table, order[:n_rows], samples.ids), "")
    write_rows(outputs.table, whole_table(table, samples, order))
    files = {"rows": str(outputs.table)}
    if outputs.report is not None:
        with phase("explaining and writing the report"):
            files |= write_evaluation(report_of(found, samples, rows, train), None, outputs.report)
    print_lines(*titled("wrote", [", ".join(files.values())]))


def in_folds(given: DataOptions, parameters: Mapping[str, Any]) -> tuple[Samples, OutOfFold]:
    """The samples, each scored by a model that was fitted on others of them."""
    from vae_anomaly.fitting.out_of_fold import fit_out_of_fold

    def on_fold(which: str, n_fitted: int, seconds: float) -> None:
        click.echo(f"fold {which}: fitted on {n_fitted:,} rows in {seconds:.1f} s", err=True)

    samples = load_data_to_fit(given, parameters)
    note_sentinels(samples.rows)
    return samples, fit_out_of_fold(samples.rows, parameters, on_fold=on_fold, groups=groups_of(samples, parameters))


def by_training(given: DataOptions, train: Path, parameters: Mapping[str, Any]) -> tuple[Samples, OutOfFold]:
    """The samples, scored by one model that was fitted on other ones."""
    import numpy as np

    from vae_anomaly.cli.report_contents import rows_of
    from vae_anomaly.fitting.fit import fit_model
    from vae_anomaly.fitting.out_of_fold import OutOfFold

    assert given.data is not None
    of_training = replace(given, data=train, label_column=None, id_columns=())
    clean = load_data_to_fit(of_training, parameters)
    note_sentinels(clean.rows)
    model = fit_model(clean.rows, {**parameters, "contamination": "auto"}, groups_of(clean, parameters))
    data = load_own_data(given.data, None, given.label_column, reading_for(model, given.reading))
    samples = samples_for(model, data, given.id_columns)
    rows = rows_of(model, samples)
    assert model.fitted_on is not None
    note_seen(model.fitted_on, f"the model of {train}", *model.fitted_on.count_twins(rows[:]))
    scores = model.score_table_of(rows)
    nowhere = np.zeros(len(samples), dtype=int)
    return samples, OutOfFold.decided([model], nowhere, scores, parameters["contamination"])


def words_for(found: OutOfFold, samples: Samples, rows: Rows) -> np.ndarray:
    """Why each row has its score, in words ``(N,)``; of images nothing is said."""
    import numpy as np

    because = np.full(len(samples), "", dtype=object)
    if found.models[0].image_shape is None:
        for places, explanation in found.explain(rows, samples.table, np.arange(len(samples))):
            because[places] = explanation.in_words()
    return because


def about_lines(samples: Samples, found: OutOfFold, seconds: float, train: Path | None) -> list[str]:
    """What was fitted, and how many rows are odd."""
    columns, k, c = found.models[0].columns, len(found.models), found.calibration
    if train is not None:
        how = f"one fitted on {train} in {seconds:.1f} s"
    elif k == 1:
        how = f"one fitted in {seconds:.1f} s; each row is left out of what it is compared with"
    else:
        how = f"{k} fitted in {seconds:.1f} s; each row is scored by the one that was not fitted on it"
    rests_on = [] if c.basis is None else [c.basis]
    n_found = int(found.scores["decision"].sum())
    return [
        *titled("data", [f"{samples.rows.source}, {len(samples):,} rows"]),
        *titled("columns", column_lines(None if columns is None else columns.to_json())),
        *titled("models", [how]),
        *titled("threshold", [f"anomaly score above {c.threshold:.2f}; {c.method}: {c.promise()}", *rests_on]),
        *titled("found", [f"{n_found:,} of {len(samples):,} rows are above the threshold"]),
    ]


def score_columns(samples: Samples, found: OutOfFold, because: np.ndarray) -> pd.DataFrame:
    """Numbers, scores and reasons of all rows, in the order of the data."""
    import pandas as pd

    names = ("anomaly_score", "decision", "p_value", "missing")
    columns = {"row": samples.row_numbers} | {name: found.scores[name] for name in names if name in found.scores}
    return pd.DataFrame(columns | {"because": because})


def odd_rows(table: pd.DataFrame, places: np.ndarray, ids: Mapping[str, np.ndarray]) -> list[str]:
    """The oddest rows as lines of text in columns."""
    header = ["row", *ids, "score", "p-value", "because"]
    cells = [header]
    for place in places:
        row = table.iloc[place]
        named = [texts[place] for texts in ids.values()]
        cells.append([f"{row['row']}", *named, f"{row['anomaly_score']:.2f}", f"{row['p_value']:.3g}", row["because"]])
    cells = [[terminal_text(cell) for cell in line] for line in cells]
    widths = [max(map(len, column)) for column in list(zip(*cells, strict=True))[:-1]]
    return ["  ".join([*map(str.rjust, line[:-1], widths), line[-1]]).rstrip() for line in cells]


def whole_table(table: pd.DataFrame, samples: Samples, order: np.ndarray) -> pd.DataFrame:
    """All rows with their own columns, the oddest first."""
    import pandas as pd

    from vae_anomaly.tables.row_names import renamed

    own = pd.DataFrame(samples.original()) if len(samples.rows.shape) == 2 else pd.DataFrame(index=table.index)
    others: dict[str, Any] = {str(name): own[name] for name in own.columns}
    others = {name: texts for name, texts in samples.ids.items() if name not in others} | others
    if samples.row_names is not None:
        others["file"] = pd.Series(samples.row_names)
    if samples.labels is not None:
        others["label"] = pd.Series(samples.labels)
    beside = renamed(others, table.columns)
    return pd.concat([table, pd.DataFrame(beside)], axis=1).iloc[order]


def write_rows(path: Path, table: pd.DataFrame) -> None:
    """Write a table as .csv or .parquet, all or nothing."""
    from vae_anomaly.storage.atomic import atomic_write

    if path.suffix == ".csv":
        with atomic_write(path, "w", encoding="utf-8", newline="") as text:
            table.to_csv(text, index=False, lineterminator="\n")
        return
    with atomic_write(path) as file:
        table.to_parquet(file, index=False)


def report_of(found: OutOfFold, samples: Samples, rows: Rows, train: Path | None) -> Any:
    """The report on what was found; what is shown of a model's inside is the first's, of rows that it has not seen."""
    import numpy as np

    from vae_anomaly.cli.data import even_rows
    from vae_anomaly.cli.report_contents import MAX_CODES, Judgement, build_report, evidence_of
    from vae_anomaly.detector import VAEDetector
    from vae_anomaly.reports import Evidence

    def explain(places: np.ndarray) -> Evidence:
        parts = [evidence_of(explanation, own) for own, explanation in found.explain(rows, samples.table, places)]
        order = np.argsort(np.concatenate([part.rows for part in parts]))
        words = [words for part in parts for words in part.words or ()]
        observed, expected, spread, excess = (
            np.concatenate([getattr(part, name) for part in parts])[order]
            for name in ("observed", "expected", "spread", "excess")
        )
        return Evidence(
            rows=places,
            observed=observed,
            expected=expected,
            spread=spread,
            excess=excess,
            words=[words[i] for i in order] if words else None,
        )

    unseen = np.flatnonzero(found.folds == 0)
    judgement = Judgement(
        scores=found.scores,
        calibration=found.calibration,
        held_out=found.held_out,
        explain=explain,
        code_rows=unseen[even_rows(len(unseen), MAX_CODES)],
    )
    if train is not None:
        notes: tuple[str, ...] = ()
    elif len(found.models) == 1:
        notes = ("Each row is left out of the exemplars that its score compares it with.",)
    else:
        notes = (
            f"{len(found.models)} models were fitted, each on all folds of the data but one: every row is scored and "
            "explained by the one that was not fitted on it. The training, the latent space and what the model "
            "generates are shown of the first.",
        )
    return build_report(VAEDetector.from_model(found.models[0]), samples, None, None, None, notes, judgement)
