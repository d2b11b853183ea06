r"""Scores of a table's own rows, each by a model that was not fitted on it.

A model scores the rows that it was fitted on too well: with exemplars as prior, each training row is expected to be
itself. So the rows are cut into K folds at random, K models are fitted, each on all folds but one, and each scores,
compares and explains the rows of the fold that it has not seen (cross-conformal prediction). The p-value of a row is
taken among the held-out normals of its own model, with which it is exchangeable if it is a normal: at most t with
probability at most t.

Where the prior leaves a row's own exemplar out (`model.priors.exemplars`), and rows have no groups, one model is
enough, fitted on all rows, and the p-value of a row is taken among all of them.

Scores of different models are compared as they are: the models have seen nearly the same rows.

References
----------
Cross-conformal predictors (Vovk, 2015), https://arxiv.org/abs/1208.0806
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils import check_random_state

from vae_anomaly.calibration.methods import calibrate
from vae_anomaly.calibration.result import LEFT_OUT, Calibration
from vae_anomaly.errors import DataError
from vae_anomaly.fitted_model import FittedModel
from vae_anomaly.fitting.fit import fit_model
from vae_anomaly.fitting.groups import Groups
from vae_anomaly.fitting.thresholds import DEFAULT_FALSE_ALARM_RATE
from vae_anomaly.fitting.training_scores import leaves_out_own_row
from vae_anomaly.model.build import Choices
from vae_anomaly.registry import PRIORS
from vae_anomaly.scoring.attribution import Explanation
from vae_anomaly.storage.rows import Rows

if TYPE_CHECKING:
    import pandas as pd

N_FOLDS = 5
MIN_ROWS = 10
CHUNK_ROWS = 1_000  # explained at a time


@dataclass(frozen=True, kw_only=True)
class OutOfFold:
    """What K models say of N rows, each of those that it was not fitted on.

    Parameters
    ----------
    models
        The K models.
    folds
        Which of them scored each row, ``(N,)`` int.
    scores
        As `FittedModel.score_table_of` has them, ``(N,)`` by column; decisions are by `calibration`.
    held_out
        ``anomaly_score``, ``reconstruction`` and ``kl`` of the rows that the threshold rests on, ``(M,)`` each: of all
        models' held-out normals, by the model that they were held out from, or of all rows, left out.
    calibration
        The threshold on all anomaly scores.
    """

    models: list[FittedModel]
    folds: np.ndarray
    scores: dict[str, np.ndarray]
    held_out: dict[str, np.ndarray]
    calibration: Calibration

    @classmethod
    def decided(
        cls,
        models: list[FittedModel],
        folds: np.ndarray,
        scores: dict[str, np.ndarray],
        contamination: str | float,
        held_out: dict[str, np.ndarray] | None = None,
    ) -> Self:
        """The same with decisions, by the threshold of a contamination as `fit_out_of_fold` has it.

        ``held_out`` is None for the held-out normals of the models.
        """
        held_out = held_out or {
            "anomaly_score": -np.concatenate([model.calibration_scores for model in models]),
            "reconstruction": np.concatenate([model.held_out_scores["reconstruction"] for model in models]),
            "kl": -np.concatenate([model.held_out_scores["kl"] for model in models]),
        }
        calibration = threshold_of(held_out["anomaly_score"], scores["anomaly_score"], contamination)
        decision = (scores["anomaly_score"] > calibration.threshold).astype(int)
        return cls(
            models=models,
            folds=folds,
            scores=scores | {"decision": decision},
            held_out=held_out,
            calibration=calibration,
        )

    def explain(
        self, rows: Rows, table: pd.DataFrame | None, wanted: np.ndarray
    ) -> Iterator[tuple[np.ndarray, Explanation]]:
        """Explanations of rows by the models that scored them, a chunk at a time.

        Parameters
        ----------
        rows, table
            All N, flat, and what they came from, as `FittedModel.explain` has them.
        wanted
            Indices of the rows ``(n,)``; they come in the order of their models.

        Yields
        ------
        indices, explanation
            Which rows ``(m,)`` are explained, and the explanation of these.
        """
        for fold, model in enumerate(self.models):
            own = wanted[self.folds[wanted] == fold]
            for start in range(0, len(own), CHUNK_ROWS):
                some = own[start : start + CHUNK_ROWS]
                yield some, model.explain(rows[some], None if table is None else table.iloc[some])


def fit_out_of_fold(
    X: Rows,
    parameters: Mapping[str, Any],
    n_folds: int = N_FOLDS,
    on_fold: Callable[[str, int, float], None] | None = None,
    groups: Groups | None = None,
) -> OutOfFold:
    """Fit a model for each fold, and score its rows.

    Parameters
    ----------
    X : Rows of shape (N, D), (N, H, W) or (N, H, W, C)
        At least 10 samples, most of them normal.
    parameters
        All of `VAEDetector`'s, by name. The threshold is that of `contamination`: a share of all scores, or "auto" for
        at most 5 % false alarms by the held-out normals of all models.
    n_folds
        How many; fewer where there are fewer than two rows for each.
    on_fold
        Is given a fold that is done, such as ``1 of 5``, how many rows its model was fitted on, and the seconds.
    groups
        Which samples stay together, in folds and within them, and whether folds are stretches of time.

    Raises
    ------
    DataError
        If there are too few rows, and as `fit_model`.
    """
    rows = X.loaded().computable().flat()
    if len(rows) < MIN_ROWS:
        raise DataError(f"{X.source}: has {len(rows)} sample(s), and a minimum of {MIN_ROWS} is required")
    contamination = parameters["contamination"]
    choices = Choices(parameters, X.shape[1:], rows.columns)
    if groups is None and leaves_out_own_row(PRIORS[choices.prior], choices.score):
        return fit_once(X, rows, parameters)
    n_folds = min(n_folds, len(rows) // 2)
    random = check_random_state(parameters["random_state"])
    if groups is None:
        folds = random.permutation(len(rows)) % n_folds
    else:
        folds = groups.folds(n_folds, random)
        n_folds = int(folds.max()) + 1
    models, parts = [], []
    for fold in range(n_folds):
        started = time.perf_counter()
        own = np.flatnonzero(folds == fold)
        others = None if groups is None else groups.take(np.flatnonzero(folds != fold))
        model = fit_model(X.without(own), {**parameters, "contamination": "auto", "calibration_folds": 1}, others)
        parts.append(scored(model, rows, own))
        models.append(model)
        if on_fold is not None:
            on_fold(f"{fold + 1} of {n_folds}", len(rows) - len(own), time.perf_counter() - started)
    scores = {name: np.empty(len(rows), values.dtype) for name, values in parts[0].items()}
    for fold, part in enumerate(parts):
        for name, values in part.items():
            scores[name][folds == fold] = values
    return OutOfFold.decided(models, folds, scores, contamination)


def fit_once(X: Rows, rows: Rows, parameters: Mapping[str, Any]) -> OutOfFold:
    """One model for all rows, which leaves each out of its own score; a p-value is the rank among all rows."""
    contamination = parameters["contamination"]
    share = DEFAULT_FALSE_ALARM_RATE if contamination == "auto" else contamination
    model = fit_model(X, {**parameters, "contamination": share, "calibration_folds": 1})  # some may be anomalies
    n, scores = len(rows), scored(model, rows, np.arange(len(rows)))
    n_lower = np.searchsorted(np.sort(scores["anomaly_score"]), scores["anomaly_score"])
    scores["p_value"] = (n - n_lower) / n
    all_rows = {name: scores[name] for name in ("anomaly_score", "reconstruction", "kl")}
    found = OutOfFold.decided([model], np.zeros(n, dtype=int), scores, contamination, all_rows)
    if contamination != "auto":  # its threshold flags a share of these rows and promises nothing of others
        return found
    return replace(found, calibration=replace(found.calibration, basis=LEFT_OUT))


def scored(model: FittedModel, rows: Rows, own: np.ndarray) -> dict[str, np.ndarray]:
    """The score table of the rows with these indices, no more of them in memory at a time than may be."""
    step = rows.max_rows_in_memory()
    parts = [model.score_table_of(rows[own[start : start + step]]) for start in range(0, len(own), step)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def threshold_of(held_out: np.ndarray, anomaly_score: np.ndarray, contamination: str | float) -> Calibration:
    """The threshold by held-out normals, or of a share of all scores."""
    if isinstance(contamination, str):
        rate = max(DEFAULT_FALSE_ALARM_RATE, 1 / (len(held_out) + 1))
        return calibrate("conformal", held_out, np.zeros(len(held_out), dtype=int), rate=rate)
    n = len(anomaly_score)
    return calibrate("contamination", anomaly_score, np.zeros(n, dtype=int), rate=float(contamination))
