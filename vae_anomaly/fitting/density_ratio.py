r"""How often rows like each held-out normal come in a target: a density ratio, by a classifier.

If a classifier gives a row x the odds o(x) of being one of m rows of the target and not one of n held-out normals, the
ratio of their densities is :math:`q(x) / p(x) = o(x) \, n / m`. The classifier here is a logistic regression on a few
features of the fitted model and their squares, so that it finds the ratio of two Gaussians with independent features,
and modes that come in other proportions:

- a model of at most 16 plain numbers a row: these numbers, as the fit scales them, gaps as their mean;
- any other model (images, wide tables, categories): the latent means.

Features are standardised, and a row of the target that lies outside of all held-out normals in a feature counts as
lying at their end: what is there is no matter of weights. The penalty has the lowest loss in five folds, and a row's
ratio comes from the fold that did not see it. Only held-out normals need one: `vae_anomaly.calibration.weighted` says
why. The heaviest hundredth of them share their weight: a logistic regression goes on rising where the ratio does not,
which would make every p-value larger, and the two heaviest weigh the same, as the exact promise asks for.

References
----------
Density Ratio Estimation in Machine Learning (Sugiyama, Suzuki & Kanamori, 2012), chapter 4
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from vae_anomaly.calibration.recalibration import checked_signs
from vae_anomaly.calibration.weighted import Target, normalised
from vae_anomaly.errors import DataError
from vae_anomaly.fitted_rows import count_common
from vae_anomaly.model.vae import VAE

if TYPE_CHECKING:
    from vae_anomaly.fitted_model import FittedModel

MAX_COLUMNS = 16
FOLDS = 5
FEWEST = 20
HEAVIEST = 0.01  # of the held-out normals share their weight
SMALLEST = -30.0  # logarithm of a ratio to the largest: below it none counts
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # inverse, as scikit-learn has them


def weighed(model: FittedModel, rows: np.ndarray | None, y: ArrayLike | None, target: np.ndarray) -> Target:
    """What a target says of the normals among some rows.

    Parameters
    ----------
    model
        Gives the features.
    rows, target
        ``(N, D)`` and ``(m, D)``, as `FittedModel.rows` gives them, on which the model was not fitted.
    y
        +1 for the normals among the rows, -1 for anomalies, ``(N,)``; None: all are normal.

    Raises
    ------
    DataError
        If there are no rows, signs do not fit them, or there are fewer than 20 normals or rows of the target.
    """
    if rows is None:
        raise DataError(
            "a target needs normals to weigh, and a model keeps the scores of its held-out ones, not their rows: give "
            "X, other normals than it was fitted on"
        )
    normal = rows[checked_signs(len(rows), y) == 1]
    return density_ratio(features_of(model, normal), features_of(model, target))


def note_on_common(model: FittedModel, rows: np.ndarray, target: np.ndarray) -> list[str]:
    """What a user must know if some rows of a target ``(m, D)`` are among other rows ``(n, D)``: a line, or none."""
    n_common = count_common(target, rows, np.dtype(str(model.vae.scaling.loc.dtype).removeprefix("torch.")))
    if not n_common:
        return []
    return [
        f"{n_common:,} of {len(target):,} rows of the target equal rows that are weighed: the shift looks smaller than "
        "it is, unless rows are equal by chance"
    ]


def features_of(model: FittedModel, rows: np.ndarray) -> np.ndarray:
    """What the classifier sees of rows ``(N, D)``, ``(N, d)`` float64; the module says what that is."""
    if model.columns is not None or model.image_shape is not None or model.n_features > MAX_COLUMNS:
        return model.transform(rows).astype(np.float64)
    return np.nan_to_num(model.by_block(rows, scaled)[0].astype(np.float64), nan=0.0)


def scaled(vae: VAE, x: Tensor, noise: Tensor) -> tuple[Tensor]:
    """The scaled rows themselves."""
    return (x,)


def density_ratio(normal: np.ndarray, target: np.ndarray) -> Target:
    """Weights of mean 1 for the held-out normals, from features ``(n, d)`` of them and ``(m, d)`` of the target.

    Raises
    ------
    DataError
        If there are fewer than 20 of either.
    """
    from sklearn.linear_model import LogisticRegression  # delayed: it takes a second, and only a target needs it

    n, m = len(normal), len(target)
    if min(n, m) < FEWEST:
        raise DataError(
            f"a density ratio needs at least {FEWEST} held-out normals and {FEWEST} rows of the target, there are "
            f"{n:,} and {m:,}: give more"
        )
    X, y = design(normal, target), np.repeat([0, 1], [n, m])
    rng = np.random.default_rng(0)
    fold = np.concatenate([rng.permutation(np.arange(size) % FOLDS) for size in (n, m)])
    logits = np.empty((len(PENALTIES), n + m))
    for k in range(FOLDS):
        fitted: Any = LogisticRegression(warm_start=True, max_iter=500)
        for i, penalty in enumerate(PENALTIES):
            fitted.set_params(C=penalty).fit(X[fold != k], y[fold != k])
            logits[i, fold == k] = fitted.decision_function(X[fold == k])
    losses = np.logaddexp(0, np.where(y == 1, -logits, logits)).mean(axis=1)
    best = logits[np.argmin(losses)]
    auc = np.mean([rank_auc(best[(fold == k) & (y == 0)], best[(fold == k) & (y == 1)]) for k in range(FOLDS)])
    ratio = np.exp(np.maximum(best[:n] - best[:n].max(), SMALLEST))
    heaviest = np.argsort(-ratio, kind="stable")[: max(2, round(HEAVIEST * n))]
    ratio[heaviest] = ratio[heaviest].mean()
    return Target(weights=normalised(ratio), n_rows=m, auc=float(auc))


def design(normal: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Standardised features of both and their squares, ``(n + m, 2 d)``, within the range of the held-out normals'."""
    both = np.clip(np.concatenate([normal, target]), normal.min(axis=0), normal.max(axis=0))
    spread = both.std(axis=0)
    z = (both - both.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return np.concatenate([z, np.square(z)], axis=1)


def rank_auc(low: np.ndarray, high: np.ndarray) -> float:
    """Probability that one of ``high`` is above one of ``low``, ties counted half."""
    ordered = np.sort(low)
    below, up_to = (np.searchsorted(ordered, high, side=side).mean() for side in ("left", "right"))
    return float(below + up_to) / (2 * len(low))
