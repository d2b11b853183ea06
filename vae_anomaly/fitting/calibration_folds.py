r"""Scores of all rows, each by a model that was fitted without it, for a threshold that rests on all of them.

A tenth of few rows is a handful: of 60 rows six, which can promise no rate below 1/7. So the n rows are cut into K
folds at random, or by whole groups. K models are fitted, each without one fold, and score that fold: n scores as new
rows have them, of which the threshold is the conformal quantile. New rows are scored by a model that has a tenth of
all rows held out from its networks, as without folds. Each of the K trains on nearly as many: a share
:math:`(K - 1) / K` of the rows, of which it holds out only those that stop the training.

Images have one split only: their ELBO differs from model to model by more than from image to image, as the scale of
their noise is fitted to few of them. Of 100 images of three digits thresholds by folds flagged no anomaly by ELBO.

*What is promised.* If new rows were scored by all K models, each against its own fold, they would be flagged with a
probability of at most about twice the rate (Barber et al., 2021). By one model there is no such bound; the rate is kept
as far as the models are alike, on average over fits. `docs/refits.md` has what it is for whole fits of few rows.

References
----------
Cross-conformal predictors (Vovk, 2015), https://arxiv.org/abs/1208.0806
Predictive inference with the jackknife+ (Barber, Candès, Ramdas & Tibshirani, 2021), https://arxiv.org/abs/1905.02928
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from vae_anomaly.calibration.result import BY_FOLDS
from vae_anomaly.errors import DataError
from vae_anomaly.fitted_model import FittedModel
from vae_anomaly.fitting.groups import MIN_GROUPS, Groups
from vae_anomaly.fitting.thresholds import (
    DEFAULT_FALSE_ALARM_RATE,
    MAX_ROWS_FOR_SLOW_SCORES,
    offered_scores,
    some_of,
)
from vae_anomaly.progress import progress_bar
from vae_anomaly.registry import SCORES
from vae_anomaly.storage.rows import Rows, RowsInMemory

N_FOLDS = 5
MIN_ROWS = 10
ENOUGH = round(1 / DEFAULT_FALSE_ALARM_RATE) - 1  # rows that can promise the rate


class Fitted(Protocol):
    """What a fit gives."""

    @property
    def model(self) -> FittedModel:
        """Without thresholds."""


Fit = Callable[[Rows, Mapping[str, Any], Groups | None, int], Fitted]


def folds_of(
    parameters: Mapping[str, Any],
    rows: Rows,
    groups: Groups | None,
    random: np.random.Generator,
    *,
    are_images: bool = False,
) -> np.ndarray | None:
    """The fold of each row, ``(N,)`` int, or None if the calibration rows are to set the threshold.

    Raises
    ------
    DataError
        If folds are asked for that there cannot be.
    """
    asked, n = parameters["calibration_folds"], len(rows)
    is_ordered = groups is not None and groups.in_order
    if asked == "auto":
        n_held_out = max(1, round(parameters["calibration_fraction"] * n))
        if n_held_out >= ENOUGH or n < MIN_ROWS or is_ordered or are_images:
            return None
    elif asked == 1:
        return None
    elif are_images:
        raise DataError(
            f"{rows.source}: calibration_folds={asked} is for tables, as scores of images by several models are not of "
            "one level: leave calibration_folds='auto'"
        )
    elif is_ordered or not rows.in_memory or n < MIN_ROWS:
        in_order = "rows that are not in order of time, since a fold would be scored by a model of later rows"
        enough = f"at least {MIN_ROWS} rows, got {n:,} rows"
        what = in_order if is_ordered else enough if n < MIN_ROWS else "rows that fit in memory"
        raise DataError(f"{rows.source}: calibration_folds={asked} needs {what}: leave calibration_folds='auto'")
    n_folds = N_FOLDS if asked == "auto" else min(asked, n // 2)
    if groups is None:
        return np.asarray(random.permutation(n) % n_folds)
    folds = groups.folds(n_folds, random)
    fewest = len(groups) - max(len(np.unique(groups.of_rows[folds == fold])) for fold in np.unique(folds))
    if fewest >= MIN_GROUPS:
        return folds
    if asked == "auto":
        return None
    raise DataError(
        f"{rows.source}: of {len(groups)} groups, {fewest} would be left without one of {n_folds} folds, and "
        f"{MIN_GROUPS} are needed: leave calibration_folds='auto'"
    )


def score_by_folds(
    model: FittedModel,
    fit: Fit,
    X: Rows,
    parameters: Mapping[str, Any],
    groups: Groups | None,
    folds: np.ndarray,
    random: np.random.Generator,
) -> dict[str, str]:
    """Fill ``model.held_out_scores``: each score of all rows ``(N,)`` in their order, slow ones of at most 512 of them.

    Parameters
    ----------
    model
        Fitted to all rows.
    fit
        Fits a model without thresholds to rows, by parameters, groups and a seed.
    X, parameters, groups
        As `fitting.fit.fit_model` has them, the parameters with what they leave open.
    folds
        From `folds_of`.
    random
        Draws the seeds.

    Returns
    -------
    dict of str to str
        What the scores rest on, for `fitting.thresholds.set_thresholds`.
    """
    rows, n_folds = X.flat(), int(folds.max()) + 1
    own_part = {"calibration_fraction": 1 / len(rows), "checkpoint_dir": None, "resume": False, "verbose": False}
    own_part["precision"] = model.parameters["precision"]  # measured once
    by_fold: list[dict[str, np.ndarray]] = []
    with progress_bar("calibrating by folds", n_folds, unit="folds", shown=bool(parameters["verbose"])) as progress:
        for fold in range(n_folds):
            own = np.flatnonzero(folds == fold)
            seed = int(random.integers(2**31 - 1))
            others = None if groups is None else groups.take(np.flatnonzero(folds != fold))
            without = fit(X.without(own), {**parameters, **own_part}, others, seed).model
            by_fold.append(scores_of(without, rows[own], MAX_ROWS_FOR_SLOW_SCORES // n_folds))
            progress.update()
    order = np.argsort(np.concatenate([np.flatnonzero(folds == fold) for fold in range(n_folds)]))
    joined = {name: np.concatenate([scores[name] for scores in by_fold]) for name in by_fold[0]}
    model.held_out_scores = {
        name: scores[order] if len(scores) == len(rows) else scores for name, scores in joined.items()
    }
    return dict.fromkeys(joined, BY_FOLDS)


def scores_of(model: FittedModel, values: np.ndarray, most: int) -> dict[str, np.ndarray]:
    """Each score that the model offers, of rows ``(n, D)``; slow ones of at most so many of them."""
    offered, slow = offered_scores(model), SCORES.where(slow=True)
    scores = model.scores_of(values, [name for name in offered if name not in slow])
    few = some_of(RowsInMemory(values, None, "rows"), max(1, most))
    scores |= model.scores_of(few, [name for name in offered if name in slow])
    return {name: scores[name] for name in offered}
