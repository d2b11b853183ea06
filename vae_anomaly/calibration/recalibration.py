"""Another threshold for a model that has one: what its held-out normals are afterwards, and what they weigh."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vae_anomaly.calibration.methods import calibrate
from vae_anomaly.calibration.result import Calibration
from vae_anomaly.calibration.weighted import Target, normalised
from vae_anomaly.errors import DataError

WEIGHTED = "weighted"


class HeldOut(NamedTuple):
    """Normals as new ones have it, by one score.

    Parameters
    ----------
    calibration
        The threshold that they give.
    scores
        ``score_samples`` of each, ``(n,)``.
    weights
        What each weighs among the rows to be scored, ``(n,)`` of mean 1; None: all weigh the same.
    """

    calibration: Calibration
    scores: np.ndarray
    weights: np.ndarray | None


def target_before(own: HeldOut) -> Target | None:
    """The target that a model's held-out normals are weighted for, if they are."""
    n_rows, auc = own.calibration.n_target, own.calibration.target_auc
    if own.weights is None or n_rows is None or auc is None:
        return None
    return Target(weights=own.weights, n_rows=n_rows, auc=auc)


def checked_signs(n: int, y: ArrayLike | None) -> np.ndarray:
    """Signs of n samples, +1 for normals and -1 for anomalies; None: all are normal.

    Raises
    ------
    DataError
        If there is not one for each.
    """
    signs = np.ones(n) if y is None else np.asarray(y)
    if signs.shape != (n,) or not np.isin(signs, (-1, 1)).all():
        raise DataError(f"y must hold +1 (normal) or -1 (anomaly) for each of the {n} samples")
    return signs


def by_sign(scores: np.ndarray | None, y: ArrayLike | None) -> tuple[np.ndarray | None, np.ndarray]:
    """Scores of normals, None if there are none, and of anomalies, from signs +1 and -1 ``(N,)``; None: all normal.

    Raises
    ------
    DataError
        If there is not one sign for each score.
    """
    if scores is None:
        if y is not None:
            raise DataError("y was given without X")
        return None, np.empty(0)
    signs = checked_signs(len(scores), y)
    return scores[signs == 1] if (signs == 1).any() else None, scores[signs == -1]


def recalibrate(
    own: HeldOut, normal: np.ndarray | None, anomalous: np.ndarray, method: str | None, **options: Any
) -> HeldOut:
    """Choose a threshold by other normals, or by a model's own again, which keep their weights.

    Parameters
    ----------
    own
        The model's own.
    normal, anomalous
        ``score_samples`` of normals ``(n,)`` and of anomalies ``(m,)``, of which m may be 0; None: the model's own.
    method, options
        As `calibration.methods.calibrate` has them. None: "weighted" where there are weights, or else "conformal".

    Raises
    ------
    DataError
        If method and weights do not go together, and whatever `calibration.methods.calibrate` raises.
    """
    before = target_before(own) if normal is None else None
    target = options.pop("target", None) or before
    method = method or ("conformal" if target is None else WEIGHTED)
    if (method == WEIGHTED) != (target is not None):
        raise DataError(
            "method 'weighted' needs --target (in Python, target=): rows that stand for those to be scored"
            if target is None
            else f"method {method!r} knows no weights: "
            + (
                "this model's held-out normals are weighted for a target; give other normals, or the model from before"
                if target is before
                else "leave out the method, or the target"
            )
        )
    scores = own.scores if normal is None else normal
    labels = np.repeat([0, 1], [len(scores), len(anomalous)])
    options |= {} if target is None else {"target": target}
    found = calibrate(method, -np.concatenate([scores, anomalous]), labels, **options)
    weights = None if target is None else normalised(target.weights)
    return HeldOut(found.resting_as(own.calibration) if normal is None else found, scores, weights)
