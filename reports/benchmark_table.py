"""Tables of a benchmark's records: CSV with all of them, JSON with settings and versions too, Markdown for people."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vae_anomaly.errors import DataError
from vae_anomaly.storage.atomic import atomic_write
from vae_anomaly.storage.safe_reading import read_data
from vae_anomaly.storage.strict_json import loads

METRICS = {
    "roc_auc": "ROC-AUC",
    "average_precision": "Average precision",
    "fpr_at_95_tpr": "False-alarm rate at 95 % detection",
}
# of protocols that judge the training rows by each method's own threshold
SHARES = {
    "flagged": "Share flagged",
    "anomalies_flagged": "Anomalies flagged",
    "others_flagged": "Other rows flagged",
}
# of protocols that judge new images by a threshold for 5 % false alarms, and maps of their pixels
DEFECTS = {
    "found": "Anomalies found at 5 %",
    "false_alarms": "False alarms at 5 %",
    "pixel_roc_auc": "Pixel ROC-AUC",
    "pixel_average_precision": "Pixel average precision",
    "region_overlap": "Per-region overlap (PRO)",
}
INTERVAL = ("roc_auc_low", "roc_auc_high")
SECONDS = ["fit_seconds", "score_seconds"]
METHOD = ["method", "score"]
TEST = ["case", "test"]
TITLE = "Benchmark: "
LARGEST_FILE = 1 << 28


def record_frame(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Records as a table; missing numbers, such as the metrics of a fit that failed, are NaN."""
    table = pd.DataFrame(list(records))
    ends = [end for end in INTERVAL if end in table.columns]
    return table.astype(dict.fromkeys([*measures_of(table), *ends, *SECONDS], float))


def measures_of(records: pd.DataFrame) -> dict[str, str]:
    """What these records measure, with its title: the metrics, and what else their protocol asks for."""
    return METRICS | {name: title for name, title in (SHARES | DEFECTS).items() if name in records.columns}


def per_case(records: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, one row for each method, score, case and test, in the order of the records."""
    groups = records.groupby(METHOD + TEST, sort=False)
    measures = [*measures_of(records), *(end for end in INTERVAL if end in records.columns)]
    numbers = groups[[*measures, *SECONDS]].mean()
    # a mean without the seeds that failed would look better than it is
    failed = groups["error"].count() > 0
    numbers.loc[failed, measures] = float("nan")
    return numbers.assign(n_seeds=groups["roc_auc"].count()).reset_index()


def summary(records: pd.DataFrame) -> pd.DataFrame:
    """One row for each method and score, the highest mean ROC-AUC first.

    Metrics are averaged over seeds, then over cases. If cases have several tests, they are averaged over these instead,
    without the test of all anomalies together; what only some tests have, such as a place of the defect, over those.
    ``std_over_seeds`` is the standard deviation of the mean ROC-AUC over
    the seeds that have all cases, NaN for fewer than two. A method that failed on any case has no mean.
    """
    several = records["test"].ne("all").any()
    records = records[records["test"].ne("all")] if several else records
    cases = per_case(records)
    rows = []
    for method, part in cases.groupby(METHOD, sort=False):
        own = records[(records[METHOD] == list(method)).all(axis=1)]
        known = part.dropna(subset="roc_auc").sort_values("roc_auc", kind="stable").to_dict("records")
        worst = known[0] if known else None
        rows.append(
            dict(zip(METHOD, method, strict=True))
            | {measure: mean_over_tests(part, measure, cases) for measure in measures_of(records)}
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


def mean_over_tests(part: pd.DataFrame, measure: str, cases: pd.DataFrame) -> float:
    """Mean of a method's measure over the tests in which any method has it; NaN if the method lacks one of them."""
    known = cases.groupby(TEST)[measure].count() > 0
    values = part.set_index(TEST)[measure]
    return float(values[known.reindex(values.index).to_numpy() | ~known.any()].mean(skipna=False))


def over_seeds(records: pd.DataFrame, n_tests: int) -> float:
    """Standard deviation over seeds of the mean ROC-AUC, of the seeds that have all tests."""
    by_seed = records.groupby("seed")["roc_auc"].agg(["mean", "count"])
    return float(by_seed.loc[by_seed["count"] == n_tests, "mean"].std())


def place(case: str, test: str) -> str:
    """Case and test as one name."""
    return case if test == "all" else f"{case} / {test}"


def matrices(records: pd.DataFrame, metric: str) -> dict[str, pd.DataFrame]:
    """Tables of one metric with a row for each method and score, by name.

    If no case has several tests there is one table, named "", with a column for each case; else there is one table for
    each case, with a column for each test. A metric that only some methods or tests have gets no empty rows or columns.
    """
    cases = per_case(records)
    if metric not in (*METRICS, *INTERVAL):  # not every method has it, nor every test
        cases = cases[cases.groupby(METHOD)[metric].transform("count").gt(0)]
        cases = cases[cases.groupby(TEST)[metric].transform("count").gt(0)]
        if not len(cases):
            return {}
    known = set(cases[METHOD].itertuples(index=False, name=None))
    order = [method for method in summary(records)[METHOD].itertuples(index=False, name=None) if method in known]
    index = pd.MultiIndex.from_tuples(order, names=METHOD)
    if cases["test"].eq("all").all():
        table = cases.pivot(index=METHOD, columns="case", values=metric)[cases["case"].unique()]
        return {"": table.reindex(index).assign(mean=lambda frame: frame.mean(axis=1, skipna=False))}
    return {
        str(case): part.pivot(index=METHOD, columns="test", values=metric)[part["test"].unique()].reindex(index)
        for case, part in cases.groupby("case", sort=False)
    }


def markdown(title: str, notes: Sequence[str], records: pd.DataFrame) -> str:
    """The whole report as Markdown."""
    parts = [f"# {title}", "\n".join(f"- {note}" for note in notes), "## Summary", summary_table(records)]
    # a case is a table or a kind of image, or the classes that are normal
    meaning = " normal" if measures_of(records) == METRICS else ""
    for metric, name in measures_of(records).items():
        for case, table in matrices(records, metric).items():
            heading = f"## {name}, {case}{meaning}" if case else f"## {name}"
            rows = [[label(*method), *(number(value, metric) for value in row)] for method, row in rows_of(table)]
            if metric == "roc_auc" and {*INTERVAL} <= {*records.columns}:
                heading += " with 95 % interval"
                rows = with_intervals(rows, *(matrices(records, end)[case] for end in INTERVAL))
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


def with_intervals(rows: list[list[str]], low: pd.DataFrame, high: pd.DataFrame) -> list[list[str]]:
    """Rows of a label and of numbers as text, each number followed by its interval where it is known."""
    ends = [
        [f" [{a:.2f}, {b:.2f}]" if not math.isnan(a + b) else "" for a, b in zip(*pair, strict=True)]
        for pair in zip(low.to_numpy().tolist(), high.to_numpy().tolist(), strict=True)
    ]
    return [
        [name, *(value + end for value, end in zip(values, own, strict=True))]
        for (name, *values), own in zip(rows, ends, strict=True)
    ]


def rows_of(table: pd.DataFrame) -> list[tuple[tuple[str, str], list[float]]]:
    """Index and values of each row."""
    return list(zip(table.index.tolist(), table.to_numpy().tolist(), strict=True))


def summary_table(records: pd.DataFrame) -> str:
    """The summary as a Markdown table."""
    measures = measures_of(records)
    header = ["method", *measures.values(), "std over seeds", "worst ROC-AUC", "failed", "fit s", "score s"]
    rows = [
        [
            label(row["method"], row["score"]),
            *(number(row[measure], measure) for measure in measures),
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
    """A method, with the name of the score if it has several."""
    return method if score == "own" else f"{method} {score}"


def number(value: float, metric: str = "") -> str:
    """Four decimals; bold if a ROC-AUC is below chance; empty if the number is missing."""
    if math.isnan(value):
        return ""
    return f"**{value:.4f}**" if metric == "roc_auc" and value < 0.5 else f"{value:.4f}"


def seconds(value: float) -> str:
    """Seconds, with decimals below ten; empty if the number is missing."""
    return "" if math.isnan(value) else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, with columns padded to be readable as plain text."""
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
    """Write ``name.csv`` (all records), ``name.json`` (records, summary and ``about``) and ``name.md``.

    Parameters
    ----------
    folder
        An existing folder.
    name
        Name of the files, without suffix.
    records
        From `vae_anomaly.benchmark.run.run`.
    about
        Settings and environment, as plain values for JSON.
    notes
        Lines of text above the tables.

    Returns
    -------
    list of Path
        Paths of the files.
    """
    paths = [folder / f"{name}{suffix}" for suffix in (".csv", ".json", ".md")]
    with atomic_write(paths[0], "w", encoding="utf-8", newline="") as file:
        records.to_csv(file, index=False, lineterminator="\n")
    with atomic_write(paths[1], "w", encoding="utf-8") as file:
        content = {**about, "summary": plain(summary(records)), "records": plain(records)}
        json.dump(content, file, indent=1, allow_nan=False)
        file.write("\n")
    with atomic_write(paths[2], "w", encoding="utf-8") as file:
        file.write(markdown(f"{TITLE}{name}", notes, records))
    return paths


def check_benchmark_folder(folder: Path, name: str) -> None:
    """Refuse a folder in which `write_benchmark` would replace what it did not write.

    Raises
    ------
    DataError
        Naming the first such file.
    """
    for suffix, is_ours in IS_OURS.items():
        path = folder / f"{name}{suffix}"
        if path.exists() and not is_ours(read_data(path, LARGEST_FILE)):
            raise DataError(f"{path} is of no benchmark: give another --output, or move it away")


def is_csv(content: bytes) -> bool:
    """Whether these are the records of a benchmark."""
    header = content.partition(b"\n")[0].decode(errors="replace")
    return {*METHOD, *TEST, *METRICS} <= {*header.split(",")}


def is_json(content: bytes) -> bool:
    """Whether these are the records and the summary of a benchmark."""
    try:
        known = loads(content)
    except ValueError:
        return False
    return isinstance(known, dict) and known.keys() >= {"summary", "records"}


def is_markdown(content: bytes) -> bool:
    """Whether this is the page of a benchmark."""
    return content.startswith(f"# {TITLE}".encode())


IS_OURS: dict[str, Callable[[bytes], bool]] = {".csv": is_csv, ".json": is_json, ".md": is_markdown}


def plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries, with None for missing values."""
    rows: list[dict[str, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")  # type: ignore[assignment]
    return rows
