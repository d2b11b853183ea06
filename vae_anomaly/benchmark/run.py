"""Running detectors over the cases of a protocol: the same rows and the same scaling for every method.

`run` fits every method on each case and yields one plain record for each score of each test. Nothing here chooses
anything by a test set: all methods run with their default settings.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from vae_anomaly.benchmark.cases import Case
from vae_anomaly.benchmark.fitted import VAE, VARIANTS, Fitted, fit_detector, fit_peer
from vae_anomaly.benchmark.maps import MAP_SCORE
from vae_anomaly.benchmark.peers import PEERS
from vae_anomaly.errors import DataError
from vae_anomaly.evaluation.bootstrap import OrderedScores, by_label
from vae_anomaly.evaluation.precision_recall import average_precision
from vae_anomaly.evaluation.roc import area, fpr_at_tpr, rates
from vae_anomaly.progress import progress_bar
from vae_anomaly.registry import SCORES

PEER_SCORE = "own"  # what records call the one score of a peer
DETECTOR_SCORES = tuple(SCORES)
QUICK_ROWS = 500


class Key(NamedTuple):
    """What identifies a record."""

    case: str
    test: str
    method: str
    score: str
    seed: int


Record: TypeAlias = dict[str, Any]


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
        Protocol, case, test, method, score, seed; roc_auc, average_precision, fpr_at_95_tpr, and what the case measures
        besides (`Case.measure_names`); n_train, n_normal, n_anomalous; fit_seconds,
        score_seconds (of all the case's samples); and ``error``: None, or what went wrong, with the metrics None. A
        method that fails does not end the run.
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
    if case.only_seed is not None:
        return [case.only_seed]
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
        score: [Key(case.name, test, method, score, seed) for test in case.test_names]
        for score in scores_of(case, method, scores)
    }
    missing = {score: [key for key in part if key not in done] for score, part in keys.items()}
    return {score: part for score, part in missing.items() if part}


def scores_of(case: Case, method: str, scores: Sequence[str]) -> Sequence[str]:
    """Names of a method's scores: those asked for if it is ``"vae"``, otherwise a single one, and that of its maps."""
    own: Sequence[str] = (PEER_SCORE,)
    if method in VARIANTS:
        of_images = () if case.X_train.ndim > 2 else SCORES.where(needs_images=True)
        own = [name for name in scores if name not in of_images] if method == VAE else ("elbo",)
    has_maps = method in VARIANTS or PEERS[method].has_maps
    return (*own, MAP_SCORE) if case.judges_maps and has_maps else own


def score_records(case: Case, fitted: Fitted, keys: Sequence[Key]) -> Iterator[Record]:
    """Records of one score of a fitted method."""
    started = time.perf_counter()
    try:
        outcomes = case.outcomes(fitted, keys[0].score)
    except Exception as error:
        yield from (record(case, key, fit_seconds=fitted.seconds, error=one_line(error)) for key in keys)
        return
    seconds = {"fit_seconds": fitted.seconds, "score_seconds": time.perf_counter() - started}
    for key in keys:
        try:
            normal, anomalous, measures = outcomes[key.test]
            results: Record = {**metrics(normal, anomalous), **measures}
        except DataError as error:
            results = {"error": one_line(error)}
        yield record(case, key, **seconds, **results)


def record(case: Case, key: Key, **results: Any) -> Record:
    """The record of one score of one test; what is not known is None."""
    return {
        "protocol": case.protocol,
        **key._asdict(),
        **dict.fromkeys(("roc_auc", "average_precision", "fpr_at_95_tpr", *case.measure_names)),
        "n_train": len(case.X_train),
        "n_normal": case.n_normal,
        "n_anomalous": case.n_anomalous(key.test),
        **dict.fromkeys(("fit_seconds", "score_seconds", "error")),
        **results,
    }


def one_line(error: Exception) -> str:
    """An error's kind and message, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


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
