"""Protocols that compare detectors, and the loop that runs them: the same rows and the same scaling for everybody.

A protocol is a generator of cases, made one at a time so that only one is held in memory. `run` fits every method on
each and yields one plain record for each score of each test. Nothing here chooses anything by a test set: all methods
run with the settings they ship with.

Protocols
---------
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

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from vae_anomaly.benchmark.corruptions import CORRUPTIONS, resized
from vae_anomaly.benchmark.peers import PEERS, Detector, scaled_rows
from vae_anomaly.detector import VAEDetector
from vae_anomaly.errors import DataError
from vae_anomaly.evaluation.metrics import Ordered, area, average_precision, fpr_at_tpr, rates, split
from vae_anomaly.progress import progress_bar
from vae_anomaly.registry import SCORES

VAE = "vae"
ALL = "all"
OWN_SCORE = "own"
DETECTOR_SCORES = tuple(SCORES)
# the default with one ingredient left out, and without all of them
VARIANTS: dict[str, dict[str, Any]] = {
    VAE: {},
    "vae-plain-likelihood": {"likelihood": "gaussian"},
    "vae-plain-prior": {"prior": "normal"},
    "vae-no-noise": {"input_noise": 0.0},
    "vae-plain": {"likelihood": "gaussian", "prior": "normal", "input_noise": 0.0},
}
QUICK_ROWS = 500


@dataclass(frozen=True)
class Case:
    """Normal samples to learn from, and what to be tested by.

    Parameters
    ----------
    protocol, name
        Which protocol it belongs to, and what sets it apart there: a class, a data set.
    X_train
        Normal samples, rows or images.
    normal
        Normal samples of every test.
    anomalous
        Name of a test to its anomalies.
    pooled
        Whether there is also a test ``all`` of all anomalies together.
    seed
        The only seed this case is for, where its split was drawn with it; None: any.
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
        return ({ALL: tuple(self.anomalous)} if self.pooled else {}) | {name: (name,) for name in self.anomalous}

    def shrunk(self, n: int) -> Case:
        """The case with at most ``n`` samples of each kind, drawn with a fixed seed: for a quick look."""

        def some(X: np.ndarray) -> np.ndarray:
            return X[np.sort(np.random.default_rng(0).permutation(len(X))[:n])]

        few = {name: some(X) for name, X in self.anomalous.items()}
        return replace(self, X_train=some(self.X_train), normal=some(self.normal), anomalous=few)


class Key(NamedTuple):
    """What a record is about."""

    case: str
    test: str
    method: str
    score: str
    seed: int


Record: TypeAlias = dict[str, Any]
ScoreSamples: TypeAlias = Callable[[np.ndarray], np.ndarray]
Scorer: TypeAlias = Callable[[str], ScoreSamples]  # from the name of a score


def one_class(
    X_train: np.ndarray, y_train: np.ndarray, X_test: np.ndarray, y_test: np.ndarray, classes: Sequence[str]
) -> Iterator[Case]:
    """Each of these classes normal in turn, all others anomalous; labels are class names ``(N,)``."""
    for name in classes:
        normal = y_test == name
        yield Case("one-class", name, X_train[y_train == name], X_test[normal], {ALL: X_test[~normal]})


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
        yield Case("leave-one-out", name, X_train[y_train != name], X_test[~anomalous], {ALL: X_test[anomalous]})


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
        yield Case("tabular", name, X[training], X[held_out], {ALL: X[y == 1]}, seed=seed)


def check_methods(methods: Iterable[str]) -> None:
    """Refuse methods that do not exist or are not installed.

    Raises
    ------
    DataError
        Naming the first at fault.
    """
    for method in methods:
        if method not in VARIANTS and method not in PEERS:
            raise DataError(f"no method {method!r}: there are {', '.join((*VARIANTS, *PEERS))}")
        if method not in VARIANTS and not PEERS[method].available:
            raise DataError(f"{method} needs {PEERS[method].requires}: pip install 'vae-anomaly[bench]'")


def run(
    cases: Iterable[Case],
    methods: Sequence[str],
    *,
    seeds: Sequence[int],
    scores: Sequence[str] = DETECTOR_SCORES,
    device: str = "auto",
    done: Collection[Key] = frozenset(),
    n_cases: int | None = None,
    progress: bool = False,
) -> Iterator[Record]:
    """Run every method on every case.

    Parameters
    ----------
    cases
        From a protocol.
    methods
        Keys of `VARIANTS` and of `PEERS`.
    seeds
        Seeds of whatever draws at random. A peer that draws nothing runs for the first alone.
    scores
        Named scores of ``"vae"``, all of the same fitted model.
    device
        Where ``"vae"`` runs, as `VAEDetector` takes it.
    done
        Records not to make again; a fit that only they need is left out.
    n_cases, progress
        How many cases there are, for a bar on stderr, on a terminal only.

    Yields
    ------
    dict
        Protocol, case, test, method, score, seed; roc_auc, average_precision, fpr_at_95_tpr; n_train, n_normal,
        n_anomalous; fit_seconds, score_seconds (of all the case's samples); and ``error``: None, or what went wrong,
        with the metrics None. A method that fails does not end the run.
    """
    check_methods(methods)
    with progress_bar("benchmark", n_cases, unit="cases", shown=progress) as bar:
        for case in cases:
            for method in methods:
                for seed in seeds_of(case, method, seeds):
                    bar.set_postfix_str(f"{case.name}: {method}, seed {seed}")
                    yield from fit_and_test(case, method, seed, scores, device, done)
            bar.update()


def seeds_of(case: Case, method: str, seeds: Sequence[int]) -> Sequence[int]:
    """The seeds that make a difference."""
    if case.seed is not None:
        return [case.seed]
    fixed = method not in VARIANTS and len(case.X_train) <= PEERS[method].fixed_up_to
    return seeds[:1] if fixed else seeds


def fit_and_test(
    case: Case, method: str, seed: int, scores: Sequence[str], device: str, done: Collection[Key]
) -> Iterator[Record]:
    """Records of one fit that are not there yet."""
    names = scores if method == VAE else ("elbo",) if method in VARIANTS else (OWN_SCORE,)
    missing = {
        name: tests
        for name in names
        if (tests := [test for test in case.tests if Key(case.name, test, method, name, seed) not in done])
    }

    def record(test: str, score: str, **results: Any) -> Record:
        return {
            "protocol": case.protocol,
            **Key(case.name, test, method, score, seed)._asdict(),
            **dict.fromkeys(("roc_auc", "average_precision", "fpr_at_95_tpr")),
            "n_train": len(case.X_train),
            "n_normal": len(case.normal),
            "n_anomalous": sum(len(case.anomalous[part]) for part in case.tests[test]),
            **dict.fromkeys(("fit_seconds", "score_seconds", "error")),
            **results,
        }

    if not missing:
        return
    try:
        if method in VARIANTS:
            scorer, fit_seconds = fit_detector(case.X_train, method, seed, device)
        else:
            scorer, fit_seconds = fit_peer(case.X_train, method, seed)
    except Exception as error:  # whatever a method of somebody else's does, the others shall finish
        for score, tests in missing.items():
            yield from (record(test, score, error=describe(error)) for test in tests)
        return
    together = method in PEERS and PEERS[method].transductive
    for score, tests in missing.items():
        started = time.perf_counter()
        try:
            judged = score_tests(case, scorer(score), together=together)
        except Exception as error:
            yield from (record(test, score, fit_seconds=fit_seconds, error=describe(error)) for test in tests)
            continue
        score_seconds = time.perf_counter() - started
        for test in tests:
            try:
                results: Record = metrics(*judged[test])
            except DataError as error:
                results = {"error": describe(error)}
            yield record(test, score, fit_seconds=fit_seconds, score_seconds=score_seconds, **results)


def describe(error: Exception) -> str:
    """Kind and message, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


@cache
def warm_up(method: str, device: str = "auto") -> None:
    """Have a method load and compile what its first fit would, so that no fit's time includes it."""
    X = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    detector: Detector = PEERS[method].build(0) if method in PEERS else VAEDetector(epochs=1, device=device)
    with contextlib.suppress(Exception):  # what fails here fails again where it is recorded
        detector.fit(X)
        detector.score_samples(X)


def fit_detector(X_train: np.ndarray, variant: str, seed: int, device: str) -> tuple[Scorer, float]:
    """Our detector on the raw samples, which it scales by itself, and the seconds it took; one fit for all scores."""
    warm_up(VAE, device)
    started = time.perf_counter()
    detector = VAEDetector(random_state=seed, device=device, **VARIANTS[variant]).fit(X_train)
    seconds = time.perf_counter() - started

    def scorer(score: str) -> ScoreSamples:
        detector.set_params(score_name=score)
        return detector.score_samples

    return scorer, seconds


def fit_peer(X_train: np.ndarray, method: str, seed: int) -> tuple[Scorer, float]:
    """A peer on rows scaled as for every other, and the seconds it took."""
    warm_up(method)
    detector = PEERS[method].build(seed)
    started = time.perf_counter()
    rows = scaled_rows(X_train)
    detector.fit(rows(X_train))
    seconds = time.perf_counter() - started
    return lambda score: lambda X: detector.score_samples(rows(X)), seconds


def score_tests(
    case: Case, score_samples: ScoreSamples, *, together: bool = False
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Anomaly scores of each test's normals and anomalies; each part scored once, or with the rest of its test."""
    if together:
        n = len(case.normal)
        whole = {
            test: -score_samples(np.concatenate([case.normal, *(case.anomalous[part] for part in parts)]))
            for test, parts in case.tests.items()
        }
        return {test: (scores[:n], scores[n:]) for test, scores in whole.items()}
    normal = -score_samples(case.normal)
    anomalous = {name: -score_samples(X) for name, X in case.anomalous.items()}
    return {test: (normal, np.concatenate([anomalous[part] for part in parts])) for test, parts in case.tests.items()}


def metrics(normal: np.ndarray, anomalous: np.ndarray) -> dict[str, float]:
    """ROC-AUC, average precision and false-alarm rate at 95 % detection of anomaly scores.

    Raises
    ------
    DataError
        If a score is NaN, or one of the two kinds is missing.
    """
    scores, labels = np.concatenate([normal, anomalous]), np.repeat([0, 1], [len(normal), len(anomalous)])
    split(scores, labels)
    counts = Ordered(scores, labels).counts()
    return {
        "roc_auc": area(*counts),
        "average_precision": average_precision(*counts),
        "fpr_at_95_tpr": fpr_at_tpr(*rates(*counts)),
    }
