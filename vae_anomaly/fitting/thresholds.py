"""The thresholds of a fit: one for each score, by scores of normals as new ones have them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from vae_anomaly.calibration.intervals import clopper_pearson
from vae_anomaly.calibration.methods import calibrate
from vae_anomaly.calibration.result import LEFT_OUT
from vae_anomaly.fitted_model import FittedModel
from vae_anomaly.registry import ARCHITECTURES, SCORES
from vae_anomaly.scoring import BLOCK_ROWS
from vae_anomaly.storage.rows import Rows

DEFAULT_FALSE_ALARM_RATE = 0.05
MAX_ROWS_FOR_SLOW_SCORES = BLOCK_ROWS  # of the calibration rows, for scores that optimise for every row
FAR_OFF = 30.0  # interquartile ranges below the median


def set_thresholds(model: FittedModel, rows: Rows, bases: Mapping[str, str]) -> None:
    """A threshold for every score, by ``model.held_out_scores`` or, if anomalies are expected, by their share of rows.

    Parameters
    ----------
    model
        With its held-out scores.
    rows
        All that it was fitted to.
    bases
        By score, what a threshold rests on where that is not rows that nothing was fitted on.
    """
    contamination = model.parameters["contamination"]
    if contamination == "auto":
        calibrate_scores(model)
    else:
        contaminate_scores(model, rows, float(contamination))
    for name in bases:
        if name in model.calibrations:
            model.calibrations[name] = replace(model.calibrations[name], basis=bases[name])


def score_held_out(model: FittedModel, calibration: Rows, everything: Rows | None = None) -> dict[str, str]:
    """Fill ``model.held_out_scores``: each score of the calibration rows, slow ones of at most 512 of them.

    Scores that leave a row out of its own are of the rows ``everything`` instead, if these are given.

    Returns
    -------
    dict of str to str
        What these rest on, for `set_thresholds`.
    """
    offered, slow = offered_scores(model), SCORES.where(slow=True)
    left_out: tuple[str, ...] = ()
    if everything is not None and model.vae.prior.leaves_out_own_row:
        left_out = SCORES.where(leaves_out_own_row=True)
    scores = model.scores_of(calibration, [name for name in offered if name not in {*slow, *left_out}])
    scores |= model.scores_of(
        some_of(calibration, MAX_ROWS_FOR_SLOW_SCORES), [name for name in slow if name in offered]
    )
    if everything is not None:
        scores |= model.scores_of(everything, left_out)
    model.held_out_scores = {name: scores[name] for name in offered}
    return dict.fromkeys(left_out, LEFT_OUT)


def offered_scores(model: FittedModel) -> list[str]:
    """The scores that such a model can have."""
    left_out = ARCHITECTURES.entry(model.parameters["architecture"]).facts.get("scores_left_out", ())
    needing_images = () if model.image_shape is not None else SCORES.where(needs_images=True)
    return [name for name in SCORES if name not in {*left_out, *needing_images}]


def some_of(rows: Rows, most: int) -> np.ndarray:
    """At most so many of the rows, evenly spaced, for slow scores: 512 are off a rate of 5 % by 1 % (one sigma)."""
    n = min(len(rows), most)
    return rows[np.arange(n) * len(rows) // n]


def note_on(held_out: np.ndarray, rate: float) -> str | None:
    """What a user should know of the scores ``(n,)`` that set the threshold: too few for the rate, or some far off."""
    n = len(held_out)
    if rate > DEFAULT_FALSE_ALARM_RATE:
        needed = math.ceil(1 / DEFAULT_FALSE_ALARM_RATE) - 1
        return (
            f"{n} held-out samples can promise no rate below 1/{n + 1}; {DEFAULT_FALSE_ALARM_RATE:.0%} takes {needed}: "
            "give more samples or a larger calibration_fraction"
        )
    low, median, high = np.quantile(held_out, (0.25, 0.5, 0.75))
    n_far = int((held_out < median - FAR_OFF * (high - low)).sum())
    if n_far == 0:
        return None
    return (
        f"{n_far:,} of {n:,} samples that set the threshold are far off all others: if they are anomalies, list them "
        "with vae-anomaly find, and fit without them or with contamination="
    )


def calibrate_scores(model: FittedModel) -> None:
    """Fill ``model.calibrations`` from the held-out scores."""
    for name, held_out in model.held_out_scores.items():
        rate = max(DEFAULT_FALSE_ALARM_RATE, 1 / (len(held_out) + 1))
        calibration = calibrate("conformal", -held_out, rate=rate)
        model.calibrations[name] = replace(calibration, note=calibration.note or note_on(held_out, rate))


def contaminate_scores(model: FittedModel, rows: Rows, contamination: float) -> None:
    """Fill ``model.calibrations`` from the scores of all ``rows``, a share of which is to be flagged.

    What to expect of new normals comes from the held-out scores. A slow score is that of at most 512 of the rows.
    """
    slow = SCORES.where(slow=True)
    scores_of_rows = model.scores_of(rows, [name for name in model.held_out_scores if name not in slow])
    scores_of_rows |= model.scores_of(some_of(rows, MAX_ROWS_FOR_SLOW_SCORES), slow)
    for name, scores in scores_of_rows.items():
        calibration, held_out = calibrate("contamination", -scores, rate=contamination), model.held_out_scores[name]
        n_flagged = int((-held_out > calibration.threshold).sum())
        rate, low, high = clopper_pearson(n_flagged, len(held_out))
        model.calibrations[name] = replace(
            calibration, false_alarm_rate=rate, false_alarm_low=low, false_alarm_high=high, n_unseen=len(held_out)
        )
