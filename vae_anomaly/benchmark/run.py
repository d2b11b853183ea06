"""Running detectors over the cases of a protocol: the same rows and the same scaling for every method.

`run` fits every method on each case and yields one plain record for each score of each test. Nothing here chooses
anything by a test set: all methods run with their default settings.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from vae_anomaly.benchmark.peers import PEERS, Detector, scaled_rows
from vae_anomaly.benchmark.protocols import Case
from vae_anomaly.detector import VAEDetector
from vae_anomaly.errors import DataError
from vae_anomaly.evaluation.bootstrap import OrderedScores, by_label
from vae_anomaly.evaluation.precision_recall import average_precision
from vae_anomaly.evaluation.roc import area, fpr_at_tpr, rates
from vae_anomaly.progress import progress_bar
from vae_anomaly.registry import SCORES

VAE = "vae"
PEER_SCORE = "own"  # what records call the one score of a peer
DETECTOR_SCORES = tuple(SCORES)
# the detector's defaults with one ingredient left out, and without all of them
VARIANTS: dict[str, dict[str, Any]] = {
    VAE: {},
    "vae-plain-likelihood": {"likelihood": "gaussian"},
    "vae-plain-prior": {"prior": "normal"},
    "vae-no-noise": {"input_noise": 0.0},
    "vae-plain": {"likelihood": "gaussian", "prior": "normal", "input_noise": 0.0},
}
QUICK_ROWS = 500


class Key(NamedTuple):
    """What identifies a record."""

    case: str
    test: str
    method: str
    score: str
    seed: int


Record: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Fitted:
    """A fitted method.

    Parameters
    ----------
    score_samples
        From the name of a score and samples ``(N, ...)`` to scores ``(N,)``, higher is more normal.
    seconds
        What the fit took.
    transductive
        Whether a sample's score depends on the samples that it is scored with.
    """

    score_samples: Callable[[str, np.ndarray], np.ndarray]
    seconds: float
    transductive: bool = False


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
        Seeds for everything random. A peer without randomness runs with the first one alone.
    scores
        Named scores of ``"vae"``, all of the same fitted model.
    device
        Where ``"vae"`` runs, as `VAEDetector` takes it.
    done
        Records not to make again; a fit that no other record needs is left out.
    n_cases, progress
        How many cases there are, and whether to show a bar on stderr, on a terminal only.

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
    """The seeds that give different results."""
    if case.seed is not None:
        return [case.seed]
    deterministic = method not in VARIANTS and len(case.X_train) <= PEERS[method].deterministic_up_to
    return seeds[:1] if deterministic else seeds


def fit_and_test(
    case: Case, method: str, seed: int, scores: Sequence[str], device: str, done: Collection[Key]
) -> Iterator[Record]:
    """The records of one fit that do not exist yet."""
    missing = missing_records(case, method, seed, scores, done)
    if not missing:
        return
    try:
        if method in VARIANTS:
            fitted = fit_detector(case.X_train, method, seed, device)
        else:
            fitted = fit_peer(case.X_train, method, seed)
    except Exception as error:  # whatever another project's method does, the rest of the run goes on
        for keys in missing.values():
            yield from (record(case, key, error=one_line(error)) for key in keys)
        return
    for keys in missing.values():
        yield from score_records(case, fitted, keys)


def missing_records(
    case: Case, method: str, seed: int, scores: Sequence[str], done: Collection[Key]
) -> dict[str, list[Key]]:
    """For each score of a method the records that are still to be made; scores without any are left out."""
    keys = {
        score: [Key(case.name, test, method, score, seed) for test in case.tests] for score in scores_of(method, scores)
    }
    missing = {score: [key for key in part if key not in done] for score, part in keys.items()}
    return {score: part for score, part in missing.items() if part}


def scores_of(method: str, scores: Sequence[str]) -> Sequence[str]:
    """Names of a method's scores: those asked for if it is ``"vae"``, otherwise a single one."""
    if method == VAE:
        return scores
    return ("elbo",) if method in VARIANTS else (PEER_SCORE,)


def score_records(case: Case, fitted: Fitted, keys: Sequence[Key]) -> Iterator[Record]:
    """Records of one score of a fitted method."""
    started = time.perf_counter()
    try:
        scores = score_tests(case, fitted, keys[0].score)
    except Exception as error:
        yield from (record(case, key, fit_seconds=fitted.seconds, error=one_line(error)) for key in keys)
        return
    seconds = {"fit_seconds": fitted.seconds, "score_seconds": time.perf_counter() - started}
    for key in keys:
        try:
            results: Record = metrics(*scores[key.test])
        except DataError as error:
            results = {"error": one_line(error)}
        yield record(case, key, **seconds, **results)


def record(case: Case, key: Key, **results: Any) -> Record:
    """The record of one score of one test; what is not known is None."""
    return {
        "protocol": case.protocol,
        **key._asdict(),
        **dict.fromkeys(("roc_auc", "average_precision", "fpr_at_95_tpr")),
        "n_train": len(case.X_train),
        "n_normal": len(case.normal),
        "n_anomalous": sum(len(case.anomalous[part]) for part in case.tests[key.test]),
        **dict.fromkeys(("fit_seconds", "score_seconds", "error")),
        **results,
    }


def one_line(error: Exception) -> str:
    """An error's kind and message, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


@cache
def warm_up(method: str, device: str = "auto") -> None:
    """Have a method load and compile what its first fit would, so that no fit's time includes it."""
    X = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    detector: Detector = PEERS[method].build(0) if method in PEERS else VAEDetector(epochs=1, device=device)
    with contextlib.suppress(Exception):  # what fails here fails again where it is recorded
        detector.fit(X)
        detector.score_samples(X)


def fit_detector(X_train: np.ndarray, variant: str, seed: int, device: str) -> Fitted:
    """Our detector on the raw samples, which it scales by itself; one fit for all scores."""
    warm_up(VAE, device)
    started = time.perf_counter()
    detector = VAEDetector(random_state=seed, device=device, **VARIANTS[variant]).fit(X_train)
    seconds = time.perf_counter() - started

    def score_samples(score: str, X: np.ndarray) -> np.ndarray:
        detector.set_params(score_name=score)
        return detector.score_samples(X)

    return Fitted(score_samples, seconds)


def fit_peer(X_train: np.ndarray, method: str, seed: int) -> Fitted:
    """A peer on rows scaled as for every other."""
    warm_up(method)
    detector = PEERS[method].build(seed)
    started = time.perf_counter()
    rows = scaled_rows(X_train)
    detector.fit(rows(X_train))
    seconds = time.perf_counter() - started

    def score_samples(score: str, X: np.ndarray) -> np.ndarray:
        return detector.score_samples(rows(X))

    return Fitted(score_samples, seconds, PEERS[method].transductive)


def score_tests(case: Case, fitted: Fitted, score: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Anomaly scores of each test's normals and anomalies.

    Each part is scored once for all tests, and with the rest of its test where a score depends on that.
    """
    if fitted.transductive:
        n = len(case.normal)
        together = {
            test: np.concatenate([case.normal, *(case.anomalous[part] for part in parts)])
            for test, parts in case.tests.items()
        }
        scores = {test: -fitted.score_samples(score, X) for test, X in together.items()}
        return {test: (values[:n], values[n:]) for test, values in scores.items()}
    normal = -fitted.score_samples(score, case.normal)
    anomalous = {name: -fitted.score_samples(score, X) for name, X in case.anomalous.items()}
    return {test: (normal, np.concatenate([anomalous[part] for part in parts])) for test, parts in case.tests.items()}


def metrics(normal: np.ndarray, anomalous: np.ndarray) -> dict[str, float]:
    """ROC-AUC, average precision and false-alarm rate at 95 % detection of anomaly scores.

    Raises
    ------
    DataError
        If a score is NaN, or one of the two kinds is missing.
    """
    scores, labels = np.concatenate([normal, anomalous]), np.repeat([0, 1], [len(normal), len(anomalous)])
    by_label(scores, labels)  # for its checks
    counts = OrderedScores(scores, labels).counts()
    return {
        "roc_auc": area(*counts),
        "average_precision": average_precision(*counts),
        "fpr_at_95_tpr": fpr_at_tpr(*rates(*counts)),
    }
