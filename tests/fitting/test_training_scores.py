"""Laws of the scores of training rows: exchangeable with those of new rows, or they say that they are not."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest

from helpers import Make
from vae_anomaly import VAEDetector
from vae_anomaly.calibration.result import LEFT_OUT
from vae_anomaly.cli.text import describe_calibration
from vae_anomaly.fitting.fit import FEW_ROWS
from vae_anomaly.fitting.thresholds import note_on
from vae_anomaly.registry import PRIORS, SCORES

NAMES = SCORES.where(leaves_out_own_row=True)


def clusters(n: int, seed: int) -> np.ndarray:
    """Rows of three clusters of different width, ``(n, 4)``."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, n)
    return 4 * kind[:, None] + np.array([0.5, 1.0, 2.0])[kind, None] * rng.normal(size=(n, 4))


@pytest.fixture(scope="module")
def ranks() -> dict[str, np.ndarray]:
    """By score, the share of new rows that score lower than each training row, pooled over fits."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in (*NAMES, "training_scores_")}
    for seed in range(6):
        X, new = clusters(150, seed), clusters(2_000, 100 + seed)
        detector = VAEDetector(epochs=15, random_state=seed).fit(X)
        model = detector.model_
        scores = {name: (model.score_samples(X, name), model.score_samples(new, name)) for name in NAMES}
        scores["training_scores_"] = detector.training_scores_, detector.score_samples(new)
        for name, (own, others) in scores.items():
            found[name].append(np.searchsorted(np.sort(others), own) / len(others))
    return {name: np.concatenate(parts) for name, parts in found.items()}


@pytest.mark.parametrize("name", [*NAMES, "training_scores_"])
def test_training_rows_are_scored_as_new_ones(ranks: dict[str, np.ndarray], name: str) -> None:
    assert kstest(ranks[name], "uniform").pvalue > 0.001
    assert abs(ranks[name].mean() - 0.5) < 0.06


def test_what_knows_its_rows_says_so(make_images: Make, make_table: Make) -> None:
    assert not any(PRIORS[name].leaves_out_own_row for name in ("normal", "mixture"))
    for detector, X in (
        (VAEDetector(epochs=1), make_images(40)),
        (VAEDetector(epochs=1, prior="normal"), make_table(40)),
        (VAEDetector(epochs=1, score_name="activation_path"), make_table(40)),
    ):
        detector.fit(X)
        with pytest.raises(AttributeError, match="no scores of its training samples as if they were new"):
            _ = detector.training_scores_


def test_anomalies_of_a_kind_are_found_among_the_training_rows() -> None:
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(488, 5)), 1.9 + 0.02 * rng.normal(size=(12, 5))])
    detector = VAEDetector(epochs=15).fit(X)
    assert (np.argsort(detector.training_scores_)[:12] >= 488).all()
    assert (np.argsort(detector.score_samples(X))[:12] < 488).all()  # where they are each other's nearest neighbours
    assert np.sort(detector.training_scores_) == pytest.approx(np.sort(detector.score_samples(X)))
    X[488:] += 4
    share = VAEDetector(epochs=15, contamination=0.024).fit(X)
    assert ((share.predict(X) == -1) == (np.arange(500) >= 488)).all()


def test_training_scores_keep_the_order_of_the_rows_and_of_a_refit(make_table: Make) -> None:
    frame = pd.DataFrame(make_table(60), columns=list("abcdef"))
    first, second = (VAEDetector(epochs=2).fit(frame).training_scores_ for _ in range(2))
    np.testing.assert_array_equal(first, second)
    odd = frame.copy()
    odd.loc[17] = 30.0
    assert VAEDetector(epochs=2).fit(odd).training_scores_.argmin() == 17


def test_large_tables_set_the_threshold_by_held_out_rows_alone(make_table: Make) -> None:
    detector = VAEDetector(epochs=1).fit(make_table(FEW_ROWS))
    assert len(detector.calibration_scores_) == FEW_ROWS // 10
    assert len(detector.training_scores_) == FEW_ROWS


def test_a_fit_notes_too_few_rows_and_rows_far_off(make_images: Make, make_table: Make) -> None:
    few = VAEDetector(epochs=1).fit(make_images(60)).calibration_
    assert few.note == (
        "6 held-out samples can promise no rate below 1/7; 5% takes 19: give more samples or a larger "
        "calibration_fraction"
    )
    X = make_table(200)
    assert VAEDetector(epochs=1).fit(X).calibration_.note is None
    X[[3, 50]] *= 1e3
    note = VAEDetector(epochs=1).fit(X).calibration_.note
    assert note is not None
    assert note.startswith("2 of 200 samples that set the threshold are far off all others")
    assert note_on(np.arange(19.0), 0.05) is None


@pytest.mark.parametrize("kind", ["images", "table"])  # images are known to their networks, rows left out of scores
def test_what_a_contamination_expects_of_new_samples_rests_on_unseen_ones(
    kind: str, make_images: Make, make_table: Make
) -> None:
    X = (make_images if kind == "images" else make_table)(200)
    detector = VAEDetector(epochs=20, contamination=0.1).fit(X)
    calibration, unseen = detector.calibration_, detector.calibration_scores_
    assert calibration.n_unseen == calibration.n_counted == len(unseen) == 20
    assert calibration.basis is None
    assert calibration.false_alarm_rate == (unseen < detector.offset_).mean()
    assert "from 20 samples" in describe_calibration(asdict(calibration))[2]
    assert (detector.predict(X) == -1).mean() == 0.1


def test_what_rests_on_left_out_rows_says_so_until_others_set_the_threshold(make_table: Make) -> None:
    detector = VAEDetector(epochs=1).fit(make_table(200))
    assert detector.calibration_.basis == LEFT_OUT
    assert detector.calibration_.promise() == "a new normal is flagged with a probability near 0.05"
    assert detector.calibrate(rate=0.1).calibration_.basis == LEFT_OUT
    assert detector.calibrate(rate=0.2).calibration_.basis == LEFT_OUT
    new = make_table(60, seed=5)
    assert detector.calibrate(new).calibration_.basis is None
    assert detector.calibration_.promise() == "a new normal is flagged with probability at most 0.05"
    assert detector.calibrate(rate=0.1).calibration_.basis is None
    assert VAEDetector(epochs=1, prior="normal").fit(make_table(200)).calibration_.basis is None
