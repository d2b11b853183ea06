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

References
----------
ADBench: Anomaly Detection Benchmark (Han et al., 2022), https://arxiv.org/abs/2206.09426
On Diffusion Modeling for Anomaly Detection (Livernoche et al., 2023), https://arxiv.org/abs/2305.18593
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vae_anomaly.benchmark.corruptions import CORRUPTIONS, resized

ALL_ANOMALIES = "all"


@dataclass(frozen=True)
class Case:
    """Normal samples to learn from, and normal and anomalous samples to test with.

    Parameters
    ----------
    protocol, name
        Which protocol it belongs to, and its name there, such as that of a class or a data set.
    X_train
        Normal samples, rows or images.
    normal
        Normal samples of every test.
    anomalous
        The anomalies of each test, by its name.
    pooled
        Whether there is also a test ``all`` of all anomalies together.
    seed
        The only seed to run this case with, if its split was made with it; None: all seeds.
    """

    protocol: str
    name: str
    X_train: np.ndarray
    normal: np.ndarray
    anomalous: Mapping[str, np.ndarray]
    pooled: bool = False
    seed: int | None = None

    @property
    def tests(self) -> dict[str, tuple[str, ...]]:
        """Names of the tests, each with the keys of its anomalies."""
        return ({ALL_ANOMALIES: tuple(self.anomalous)} if self.pooled else {}) | {
            name: (name,) for name in self.anomalous
        }

    def shrunk(self, n: int) -> Case:
        """The case with at most ``n`` samples of each kind, chosen by a fixed seed, for a quick look."""

        def some(X: np.ndarray) -> np.ndarray:
            return X[np.sort(np.random.default_rng(0).permutation(len(X))[:n])]

        few = {name: some(X) for name, X in self.anomalous.items()}
        return replace(self, X_train=some(self.X_train), normal=some(self.normal), anomalous=few)


def one_class(
    X_train: np.ndarray, y_train: np.ndarray, X_test: np.ndarray, y_test: np.ndarray, classes: Sequence[str]
) -> Iterator[Case]:
    """Each of these classes normal in turn, all others anomalous; labels are class names ``(N,)``."""
    for name in classes:
        normal = y_test == name
        yield Case("one-class", name, X_train[y_train == name], X_test[normal], {ALL_ANOMALIES: X_test[~normal]})


def multi(
    X_train: np.ndarray, y_train: np.ndarray, X_test: np.ndarray, y_test: np.ndarray, normal: Sequence[str]
) -> Iterator[Case]:
    """These classes normal together; one test for each other class, and one for all."""
    anomalous = {str(name): X_test[y_test == name] for name in np.unique(y_test) if name not in normal}
    yield Case(
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
        yield Case(
            "leave-one-out", name, X_train[y_train != name], X_test[~anomalous], {ALL_ANOMALIES: X_test[anomalous]}
        )


def out_of_distribution(
    name: str, X_train: np.ndarray, X_test: np.ndarray, others: Mapping[str, np.ndarray]
) -> Iterator[Case]:
    """A data set's images against those of others, in its size and range, and against synthetic ones."""
    foreign = {other: resized(X, X_train) for other, X in others.items()}
    synthetic = {kind: corrupt(X_test, np.random.default_rng(0)) for kind, corrupt in CORRUPTIONS.items()}
    yield Case("ood", name, X_train, X_test, foreign | synthetic)


def tabular(name: str, X: np.ndarray, y: np.ndarray, seeds: Iterable[int]) -> Iterator[Case]:
    """Half of the normal rows to train, the rest and all anomalies (y = 1) to test; a split for each seed."""
    for seed in seeds:
        rows = np.random.default_rng(seed).permutation(np.flatnonzero(y == 0))
        half = len(rows) // 2
        training, held_out = np.sort(rows[:half]), np.sort(rows[half:])
        yield Case("tabular", name, X[training], X[held_out], {ALL_ANOMALIES: X[y == 1]}, seed=seed)
