"""Protocols that compare detectors: which samples are learnt from, and which are tested.

A protocol is a generator of cases, made one at a time so that only one is held in memory; `run.run` fits every method
on each.

one_class
    Each class normal in turn, all others anomalous.
multi
    Several classes normal together; the anomalies of each other class, and all of them (the test ``all``).
leave_one_out
    All classes normal but one.
out_of_distribution
    A data set normal as a whole, against other data sets and against `CORRUPTIONS` of its own test images.
tabular
    Half of the normal rows to train, the rest and all anomalies to test, another split for each seed: the
    semi-supervised protocol of ADBench and of arXiv:2305.18593.
contaminated
    All rows of a table to learn from, anomalies included and unlabelled; the same rows are judged.
planted
    Errors of known place in a table (`vae_anomaly.benchmark.planted`), one kind at a time; all rows are learnt from and
    judged.
defects
    Images with small changes of known place: cloth, texture and digits that `vae_anomaly.benchmark.defects` makes, and
    a camera that moves; the cases are in `vae_anomaly.benchmark.defect_cases`.

References
----------
ADBench: Anomaly Detection Benchmark (Han et al., 2022), https://arxiv.org/abs/2206.09426
On Diffusion Modeling for Anomaly Detection (Livernoche et al., 2023), https://arxiv.org/abs/2305.18593
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vae_anomaly.benchmark.cases import ALL_ANOMALIES, Case, SplitCase, TrainingRowsCase, rows_of
from vae_anomaly.benchmark.corruptions import CORRUPTIONS, resized
from vae_anomaly.benchmark.planted import kinds_for, plant

if TYPE_CHECKING:
    import pandas as pd

MAX_TABLE_ROWS = 3_000  # of a table whose rows are learnt from and judged


def one_class(
    X_train: np.ndarray, y_train: np.ndarray, X_test: np.ndarray, y_test: np.ndarray, classes: Sequence[str]
) -> Iterator[Case]:
    """Each of these classes normal in turn, all others anomalous; labels are class names ``(N,)``."""
    for name in classes:
        normal = y_test == name
        yield SplitCase("one-class", name, X_train[y_train == name], X_test[normal], {ALL_ANOMALIES: X_test[~normal]})


def multi(
    X_train: np.ndarray, y_train: np.ndarray, X_test: np.ndarray, y_test: np.ndarray, normal: Sequence[str]
) -> Iterator[Case]:
    """These classes normal together; one test for each other class, and one for all."""
    anomalous = {str(name): X_test[y_test == name] for name in np.unique(y_test) if name not in normal}
    yield SplitCase(
        "multi",
        "+".join(normal),
        X_train[np.isin(y_train, normal)],
        X_test[np.isin(y_test, normal)],
        anomalous,
        pooled=True,
    )


def leave_one_out(
    X_train: np.ndarray, y_train: np.ndarray, X_test: np.ndarray, y_test: np.ndarray, classes: Sequence[str]
) -> Iterator[Case]:
    """Each of these classes anomalous in turn, all others normal."""
    for name in classes:
        anomalous = y_test == name
        yield SplitCase(
            "leave-one-out", name, X_train[y_train != name], X_test[~anomalous], {ALL_ANOMALIES: X_test[anomalous]}
        )


def out_of_distribution(
    name: str, X_train: np.ndarray, X_test: np.ndarray, others: Mapping[str, np.ndarray]
) -> Iterator[Case]:
    """A data set's images against those of others, in its size and range, and against synthetic ones."""
    foreign = {other: resized(X, X_train) for other, X in others.items()}
    synthetic = {kind: corrupt(X_test, np.random.default_rng(0)) for kind, corrupt in CORRUPTIONS.items()}
    yield SplitCase("ood", name, X_train, X_test, foreign | synthetic)


def tabular(name: str, X: np.ndarray, y: np.ndarray, seeds: Iterable[int]) -> Iterator[Case]:
    """Half of the normal rows to train, the rest and all anomalies (y = 1) to test; a split for each seed."""
    for seed in seeds:
        rows = np.random.default_rng(seed).permutation(np.flatnonzero(y == 0))
        half = len(rows) // 2
        training, held_out = np.sort(rows[:half]), np.sort(rows[half:])
        yield SplitCase("tabular", name, X[training], X[held_out], {ALL_ANOMALIES: X[y == 1]}, seed=seed)


def contaminated(name: str, X: np.ndarray | pd.DataFrame, y: np.ndarray, seeds: Iterable[int]) -> Iterator[Case]:
    """All rows to learn from and to judge (y = 1: anomaly), at most `MAX_TABLE_ROWS` of them, drawn by each seed."""
    for seed in seeds:
        rows = drawn_rows(len(X), seed)
        yield TrainingRowsCase("contaminated", name, rows_of(X, rows), y[rows] == 1, seed)


def planted(
    name: str, table: np.ndarray | pd.DataFrame, kinds: Sequence[str] | None, n_errors: int, seeds: Iterable[int]
) -> Iterator[Case]:
    """A table with errors of each kind in turn; at most `MAX_TABLE_ROWS` rows, drawn by each seed, as errors are.

    Parameters
    ----------
    name
        Of the table.
    table
        Rows ``(N, D)``, taken for right.
    kinds
        Keys of `vae_anomaly.benchmark.planted.ERRORS`; None: all that can be planted in this table.
    n_errors
        How many rows get one, in each case.
    seeds
        A case for each kind and seed.

    Raises
    ------
    DataError
        If a kind cannot be planted so often.
    """
    for seed in seeds:
        rows = rows_of(table, drawn_rows(len(table), seed))
        for kind in kinds_for(rows, n_errors) if kinds is None else kinds:
            errors = plant(rows, kind, n_errors, np.random.default_rng(seed))
            is_planted = np.zeros(len(rows), dtype=bool)
            is_planted[errors.rows] = True
            yield TrainingRowsCase("planted", name, errors.table, is_planted, seed, kind)


def drawn_rows(n: int, seed: int) -> np.ndarray:
    """Indices of the rows of a table that take part: all, or `MAX_TABLE_ROWS` drawn by a seed."""
    if n <= MAX_TABLE_ROWS:
        return np.arange(n)
    return np.random.default_rng(seed).choice(n, MAX_TABLE_ROWS, replace=False)
