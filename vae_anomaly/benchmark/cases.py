"""What a protocol asks of a detector: rows to learn from, and rows to judge; `vae_anomaly.benchmark.run` asks it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from vae_anomaly.benchmark.fitted import Fitted

ALL_ANOMALIES = "all"


class Outcome(NamedTuple):
    """What a method made of one test.

    ``normal`` and ``anomalous`` are scores of the samples, ``(N,)`` each, higher is more anomalous. ``measures`` is
    what the case measures besides, by `Case.measure_names`; None where that does not apply.
    """

    normal: np.ndarray
    anomalous: np.ndarray
    measures: Mapping[str, float | None]


@dataclass(frozen=True)
class Case(ABC):
    """Samples to learn from, and tests of what was learnt.

    Parameters
    ----------
    protocol, name
        Which protocol it belongs to, and its name there, such as that of a class or a data set.
    X_train
        Samples to learn from, rows or images.
    """

    measure_names: ClassVar[tuple[str, ...]] = ()  # of what it measures besides the metrics of all cases
    judges_maps: ClassVar[bool] = False  # whether it has a use for maps of pixels

    protocol: str
    name: str
    X_train: np.ndarray | pd.DataFrame

    @property
    @abstractmethod
    def only_seed(self) -> int | None:
        """The only seed to run this case with, if it was made with it; None: all seeds."""

    @property
    @abstractmethod
    def test_names(self) -> tuple[str, ...]:
        """Names of the tests."""

    @property
    @abstractmethod
    def n_normal(self) -> int:
        """How many normal samples each test has."""

    @abstractmethod
    def n_anomalous(self, test: str) -> int:
        """How many anomalies a test has."""

    @abstractmethod
    def outcomes(self, fitted: Fitted, score: str) -> dict[str, Outcome]:
        """What a method made of each test."""

    @abstractmethod
    def shrunk(self, n: int) -> Self:
        """The case with at most ``n`` samples of each kind, chosen by a fixed seed, for a quick look."""


@dataclass(frozen=True)
class SplitCase(Case):
    """Normal samples to learn from, and normal and anomalous samples to test with.

    Parameters
    ----------
    protocol, name, X_train
        As `Case` has them.
    normal
        Normal samples of every test.
    anomalous
        The anomalies of each test, by its name.
    pooled
        Whether there is also a test ``all`` of all anomalies together.
    seed
        The only seed to run this case with, if its split was made with it; None: all seeds.
    """

    X_train: np.ndarray
    normal: np.ndarray
    anomalous: Mapping[str, np.ndarray]
    pooled: bool = False
    seed: int | None = None

    @property
    def only_seed(self) -> int | None:
        return self.seed

    @property
    def tests(self) -> dict[str, tuple[str, ...]]:
        """Names of the tests, each with the keys of its anomalies."""
        return ({ALL_ANOMALIES: tuple(self.anomalous)} if self.pooled else {}) | {
            name: (name,) for name in self.anomalous
        }

    @property
    def test_names(self) -> tuple[str, ...]:
        return tuple(self.tests)

    @property
    def n_normal(self) -> int:
        return len(self.normal)

    def n_anomalous(self, test: str) -> int:
        return sum(len(self.anomalous[part]) for part in self.tests[test])

    def outcomes(self, fitted: Fitted, score: str) -> dict[str, Outcome]:
        """Each part is scored once for all tests, and with the rest of its test where a score depends on that."""
        if fitted.transductive:
            n = len(self.normal)
            together = {
                test: np.concatenate([self.normal, *(self.anomalous[part] for part in parts)])
                for test, parts in self.tests.items()
            }
            scores = {test: -fitted.score_samples(score, X) for test, X in together.items()}
            return {test: Outcome(values[:n], values[n:], {}) for test, values in scores.items()}
        normal = -fitted.score_samples(score, self.normal)
        anomalous = {name: -fitted.score_samples(score, X) for name, X in self.anomalous.items()}
        return {
            test: Outcome(normal, np.concatenate([anomalous[part] for part in parts]), {})
            for test, parts in self.tests.items()
        }

    def shrunk(self, n: int) -> Self:
        def some(X: np.ndarray) -> np.ndarray:
            few: np.ndarray = X[some_of(len(X), n)]
            return few

        anomalous = {name: some(X) for name, X in self.anomalous.items()}
        return replace(self, X_train=some(self.X_train), normal=some(self.normal), anomalous=anomalous)


@dataclass(frozen=True)
class TrainingRowsCase(Case):
    """Rows to learn from without their labels, which are then judged themselves.

    A row's score is what the detector says of its training rows (`Fitted.training_scores`).

    Parameters
    ----------
    protocol, name
        As `Case` has them.
    X_train
        All rows, ``(N, D)`` numbers, or a table with categories and gaps.
    is_anomalous
        Which of them are anomalies, ``(N,)`` bool.
    seed
        The seed that chose the rows, and the only one to run this case with.
    test
        Name of its test.
    """

    measure_names = ("flagged", "anomalies_flagged", "others_flagged")

    is_anomalous: np.ndarray
    seed: int
    test: str = ALL_ANOMALIES

    @property
    def only_seed(self) -> int:
        return self.seed

    @property
    def test_names(self) -> tuple[str, ...]:
        return (self.test,)

    @property
    def n_normal(self) -> int:
        return int((~self.is_anomalous).sum())

    def n_anomalous(self, test: str) -> int:
        return int(self.is_anomalous.sum())

    def outcomes(self, fitted: Fitted, score: str) -> dict[str, Outcome]:
        scores = -fitted.training_scores(score)
        shares = self.shares_flagged(fitted.training_flags(score))
        return {self.test: Outcome(scores[~self.is_anomalous], scores[self.is_anomalous], shares)}

    def shares_flagged(self, flags: np.ndarray | None) -> dict[str, float | None]:
        """Shares of all rows, of the anomalies and of the other rows that are flagged; None without a threshold."""
        if flags is None:
            return dict.fromkeys(self.measure_names)
        parts = (flags, flags[self.is_anomalous], flags[~self.is_anomalous])
        return {
            name: float(part.mean()) if len(part) else None
            for name, part in zip(self.measure_names, parts, strict=True)
        }

    def shrunk(self, n: int) -> Self:
        kinds = (np.flatnonzero(~self.is_anomalous), np.flatnonzero(self.is_anomalous))
        rows = np.sort(np.concatenate([own[some_of(len(own), n)] for own in kinds]))
        return replace(self, X_train=rows_of(self.X_train, rows), is_anomalous=self.is_anomalous[rows])


def some_of(n_rows: int, n: int) -> np.ndarray:
    """Indices of at most ``n`` of ``n_rows`` rows, chosen by a fixed seed, in their order."""
    return np.sort(np.random.default_rng(0).permutation(n_rows)[:n])


def rows_of(X: np.ndarray | pd.DataFrame, rows: np.ndarray) -> np.ndarray | pd.DataFrame:
    """These rows of an array or a table, numbered anew."""
    return X[rows] if isinstance(X, np.ndarray) else X.iloc[rows].reset_index(drop=True)
