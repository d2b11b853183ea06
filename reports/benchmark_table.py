"""Records of a benchmark to tables: CSV for everything, JSON with what it ran on, Markdown for people."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vae_anomaly.storage.atomic import atomic_write

METRICS = {
    "roc_auc": "ROC-AUC",
    "average_precision": "Average precision",
    "fpr_at_95_tpr": "False-alarm rate at 95 % detection",
}
SECONDS = ["fit_seconds", "score_seconds"]
WHO = ["method", "score"]
WHERE = ["case", "test"]


def record_frame(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Records as a table, with a missing number, such as a metric of what failed, as NaN."""
    return pd.DataFrame(list(records)).astype(dict.fromkeys([*METRICS, *SECONDS], float))


def per_case(records: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, a row for each method, score, case and test, in the order in which they first came."""
    groups = records.groupby(WHO + WHERE, sort=False)
    numbers = groups[[*METRICS, *SECONDS]].mean()
    # a seed that failed must not make a mean look better than it is
    failed = groups["error"].count() > 0
    numbers.loc[failed, list(METRICS)] = float("nan")
    return numbers.assign(n_seeds=groups["roc_auc"].count()).reset_index()


def summary(records: pd.DataFrame) -> pd.DataFrame:
    """A row for each method and score, the highest mean ROC-AUC first.

    Means are over cases, or over tests where a case has several (that of all anomalies together is then left out), of
    means over seeds. ``std_over_seeds`` is that of the mean ROC-AUC, over the seeds that have all cases; nothing where
    there are fewer than two. A method that failed somewhere has no mean.
    """
    several = records["test"].ne("all").any()
    records = records[records["test"].ne("all")] if several else records
    cases = per_case(records)
    rows = []
    for who, part in cases.groupby(WHO, sort=False):
        own = records[(records[WHO] == list(who)).all(axis=1)]
        known = part.dropna(subset="roc_auc").sort_values("roc_auc", kind="stable").to_dict("records")
        worst = known[0] if known else None
        rows.append(
            dict(zip(WHO, who, strict=True))
            | {metric: part[metric].mean(skipna=False) for metric in METRICS}
            | {
                "std_over_seeds": over_seeds(own, len(part)),
                "worst": float("nan") if worst is None else worst["roc_auc"],
                "worst_case": "" if worst is None else place(worst["case"], worst["test"]),
                "n_tests": len(part),
                "n_failed": int(part["roc_auc"].isna().sum()),
            }
            | {second: part[second].mean() for second in SECONDS}
        )
    return pd.DataFrame(rows).sort_values("roc_auc", ascending=False, kind="stable", ignore_index=True)


def over_seeds(records: pd.DataFrame, n_tests: int) -> float:
    """Standard deviation over seeds of the mean ROC-AUC, of the seeds that have all tests."""
    by_seed = records.groupby("seed")["roc_auc"].agg(["mean", "count"])
    return float(by_seed.loc[by_seed["count"] == n_tests, "mean"].std())


def place(case: str, test: str) -> str:
    """Case and test as one name."""
    return case if test == "all" else f"{case} / {test}"


def matrices(records: pd.DataFrame, metric: str) -> dict[str, pd.DataFrame]:
    """A metric, a row a method and score: one table with a column a case, or for each case one with a column a test."""
    cases = per_case(records)
    order = summary(records)[WHO].itertuples(index=False, name=None)
    index = pd.MultiIndex.from_tuples(order, names=WHO)
    if cases["test"].eq("all").all():
        table = cases.pivot(index=WHO, columns="case", values=metric)[cases["case"].unique()]
        return {"": table.reindex(index).assign(mean=lambda frame: frame.mean(axis=1, skipna=False))}
    return {
        str(case): part.pivot(index=WHO, columns="test", values=metric)[part["test"].unique()].reindex(index)
        for case, part in cases.groupby("case", sort=False)
    }


def markdown(title: str, notes: Sequence[str], records: pd.DataFrame) -> str:
    """The whole report as Markdown."""
    parts = [f"# {title}", "\n".join(f"- {note}" for note in notes), "## Summary", summary_table(records)]
    for metric, name in METRICS.items():
        for case, table in matrices(records, metric).items():
            heading = f"## {name}, {case} normal" if case else f"## {name}"
            rows = [[label(*who), *(number(value, metric) for value in row)] for who, row in rows_of(table)]
            parts += [heading, grid(["method", *map(str, table.columns)], rows)]
    failed = records[records["error"].notna()]
    if len(failed):
        lines = [
            f"- {label(row['method'], row['score'])}, {place(row['case'], row['test'])}, "
            f"seed {row['seed']}: {row['error']}"
            for row in failed.to_dict("records")
        ]
        parts += ["## What failed", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def rows_of(table: pd.DataFrame) -> list[tuple[tuple[str, str], list[float]]]:
    """Index and values of each row."""
    return list(zip(table.index.tolist(), table.to_numpy().tolist(), strict=True))


def summary_table(records: pd.DataFrame) -> str:
    """The summary as a Markdown table."""
    header = ["method", *METRICS.values(), "std over seeds", "worst ROC-AUC", "failed", "fit s", "score s"]
    rows = [
        [
            label(row["method"], row["score"]),
            *(number(row[metric], metric) for metric in METRICS),
            number(row["std_over_seeds"]),
            f"{number(row['worst'], 'roc_auc')} ({row['worst_case']})" if row["worst_case"] else "",
            f"{row['n_failed']} of {row['n_tests']}" if row["n_failed"] else "",
            seconds(row["fit_seconds"]),
            seconds(row["score_seconds"]),
        ]
        for row in summary(records).to_dict("records")
    ]
    return grid(header, rows)


def label(method: str, score: str) -> str:
    """Method, with its score if it has several."""
    return method if score == "own" else f"{method} {score}"


def number(value: float, metric: str = "") -> str:
    """Four decimals; bold where anomalies look more normal than normals do; nothing for what is not there."""
    if math.isnan(value):
        return ""
    return f"**{value:.4f}**" if metric == "roc_auc" and value < 0.5 else f"{value:.4f}"


def seconds(value: float) -> str:
    """Two digits are enough."""
    return "" if math.isnan(value) else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its columns padded so that it reads as plain text too."""
    cells = [header, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "| " + " | ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def write_benchmark(
    folder: Path,
    name: str,
    records: pd.DataFrame,
    about: Mapping[str, Any],
    notes: Sequence[str],
) -> list[Path]:
    """Write ``name.csv`` (all records), ``name.json`` (the same, the summary, and ``about``) and ``name.md``.

    Parameters
    ----------
    folder
        Where to, an existing folder.
    name
        What the files are called.
    records
        From `vae_anomaly.benchmark.run.run`.
    about
        Settings and environment, ready for JSON.
    notes
        Lines for people, above the tables.

    Returns
    -------
    list of Path
        The files.
    """
    paths = [folder / f"{name}{suffix}" for suffix in (".csv", ".json", ".md")]
    with atomic_write(paths[0], "w", encoding="utf-8", newline="") as file:
        records.to_csv(file, index=False, lineterminator="\n")
    with atomic_write(paths[1], "w", encoding="utf-8") as file:
        content = {**about, "summary": plain(summary(records)), "records": plain(records)}
        json.dump(content, file, indent=1, allow_nan=False)
        file.write("\n")
    with atomic_write(paths[2], "w", encoding="utf-8") as file:
        file.write(markdown(f"Benchmark: {name}", notes, records))
    return paths


def plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries, with None for what is missing."""
    rows: list[dict[str, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")  # type: ignore[assignment]
    return rows
