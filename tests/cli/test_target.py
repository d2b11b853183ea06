"""``calibrate --target``: a threshold for a population whose normals come in other proportions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers import fails, run
from odd_rows import ok
from vae_anomaly import FittedModel, VAEDetector


def normals(n: int, share: float, seed: int) -> np.ndarray:
    """Rows in two modes, the second as often as said and twice as wide."""
    rng = np.random.default_rng(seed)
    loud = rng.random(n) < share
    X = rng.normal(size=(n, 4)) * np.where(loud, 2.0, 1.0)[:, None]
    X[:, 0] += 8 * loud
    return X


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of rows of which a tenth are of the second mode, others like them, and some of which most are."""
    folder = tmp_path_factory.mktemp("target")
    for name, n, share in (("fitted", 3000, 0.1), ("normals", 1500, 0.1), ("target", 1000, 0.6), ("later", 3000, 0.6)):
        np.save(folder / f"{name}.npy", normals(n, share, len(name) + n))
    ok("fit", "--data", folder / "fitted.npy", "--epochs", 3, "--no-report", "--output", folder / "plain.vae")
    given = ("--data", folder / "normals.npy", "--target", folder / "target.npy")
    ok("calibrate", folder / "plain.vae", *given, "--output", folder / "weighted.vae")
    return folder


def flagged(folder: Path, model: str) -> float:
    out = folder / f"{model}.csv"
    ok("score", folder / "later.npy", "--model", folder / f"{model}.vae", "--output", out)
    table = pd.read_csv(out)
    np.testing.assert_array_equal(table["decision"] == 1, table["p_value"] <= 0.05)
    return float(table["decision"].mean())


def test_the_plain_rate_is_wrong_by_more_than_three_and_the_weighted_one_is_kept(folder: Path) -> None:
    assert flagged(folder, "plain") >= 3 * 0.05
    assert 0.01 <= flagged(folder, "weighted") <= 0.06


def test_it_says_what_the_threshold_is_for_and_how_much_is_known(folder: Path) -> None:
    given = ("--data", folder / "normals.npy", "--target", folder / "target.npy", "--output", folder / "again.vae")
    text = ok("calibrate", folder / "plain.vae", *given)
    promise = "a new normal of the target is flagged with probability at most 0.05, if the density ratio is right"
    said = json.loads(ok("calibrate", folder / "plain.vae", *given, "--json"))
    basis = (
        f"weighted for 1,000 rows of a target: 1,500 held-out normals count as {said['n_effective']:.0f} (effective "
        f"sample size); a classifier tells both apart with ROC-AUC {said['target_auc']:.3f}"
    )
    assert promise in text
    assert basis in text
    assert promise in ok("inspect", folder / "weighted.vae")
    assert basis in ok("inspect", folder / "weighted.vae")
    assert said["method"] == "weighted"
    assert said["n_target"] == 1000
    assert 200 < said["n_effective"] < 500  # 0.2 % of 1,500 by the true ratio, 6 in a tenth and 4/9 elsewhere: 397
    assert 0.7 < said["target_auc"] < 0.8
    assert set(said["fitted_on"]) == set(said["target_fitted_on"]) == {"models", "left_out"}
    assert (folder / "again.vae").read_bytes() == (folder / "weighted.vae").read_bytes()


def test_the_file_gives_the_same_bits(folder: Path) -> None:
    model, rows = FittedModel.load(folder / "weighted.vae"), np.load(folder / "later.npy")[:200]
    model.save(folder / "copy.vae")
    copy = FittedModel.load(folder / "copy.vae")
    assert (folder / "copy.vae").read_bytes() == (folder / "weighted.vae").read_bytes()
    for name, column in model.score_table(rows).items():
        np.testing.assert_array_equal(copy.score_table(rows)[name], column)
    assert model.calibration_weights is not None
    assert model.calibration_weights.mean() == pytest.approx(1)
    other = model.using("kl")
    assert (other.calibration.method, other.calibration_weights) == ("conformal", None)


def test_another_rate_keeps_the_weights_and_other_normals_drop_them(folder: Path) -> None:
    weighted = folder / "weighted.vae"
    said = json.loads(ok("calibrate", weighted, "--rate", 0.1, "--output", folder / "rate.vae", "--json"))
    before = json.loads(ok("inspect", weighted, "--json"))["calibrations"]["elbo"]
    assert said["method"] == "weighted"
    assert said["threshold"] < before["threshold"]
    assert (said["n_effective"], said["basis"]) == (before["n_effective"], before["basis"])
    plain = ("--data", folder / "normals.npy", "--output", folder / "dropped.vae")
    assert json.loads(ok("calibrate", weighted, *plain, "--json"))["n_effective"] is None
    assert FittedModel.load(folder / "dropped.vae").calibration_weights is None
    message = fails(1, "calibrate", weighted, "--method", "pot", "--output", folder / "no.vae")
    assert "method 'pot' knows no weights" in message
    assert not (folder / "no.vae").exists()


def test_what_cannot_be_is_refused_in_one_sentence(folder: Path) -> None:
    given = ("--data", folder / "normals.npy", "--target", folder / "target.npy", "--output", folder / "no.vae")
    assert "effective sample size" in fails(1, "calibrate", folder / "plain.vae", *given, "--rate", 0.001)
    assert "'quantile' knows no weights" in fails(1, "calibrate", folder / "plain.vae", *given, "--method", "quantile")
    assert "--target needs --data" in fails(2, "calibrate", folder / "plain.vae", "--target", folder / "target.npy")
    assert "needs --target" in fails(1, "calibrate", folder / "plain.vae", "--method", "weighted")
    np.save(folder / "few.npy", np.zeros((3, 4)))
    few = ("--data", folder / "normals.npy", "--target", folder / "few.npy")
    assert "there are 1,500 and 3" in fails(1, "calibrate", folder / "plain.vae", *few)
    trained = ("--data", folder / "normals.npy", "--target", folder / "fitted.npy", "--output", folder / "t.vae")
    assert "target     2,700 of 3,000 rows are rows that" in ok("calibrate", folder / "plain.vae", *trained)
    same = (*given[:4], "--output", folder / "target.npy")
    assert "would replace --target" in fails(2, "calibrate", folder / "plain.vae", *same)
    scores = folder / "scores.csv"
    ok("score", folder / "later.npy", "--model", folder / "weighted.vae", "--output", scores)
    assert "weighted for a target" in fails(1, "drift", folder / "weighted.vae", scores)
    together = ("score", folder / "later.npy", "--model", folder / "weighted.vae", "--fdr", 0.2)
    assert "add --dependence arbitrary" in fails(1, *together)
    assert run(*together, "--dependence", "arbitrary", "--output", folder / "fdr.csv").exit_code == 0


def test_rows_that_are_in_both_are_counted_and_no_shift_is_named(folder: Path) -> None:
    mixed = np.concatenate([np.load(folder / "normals.npy")[:40], normals(800, 0.1, 7)])
    np.save(folder / "mixed.npy", mixed)
    given = ("--data", folder / "normals.npy", "--target", folder / "mixed.npy", "--output", folder / "mixed.vae")
    text = ok("calibrate", folder / "plain.vae", *given)
    assert "target     40 of 840 rows of the target equal rows that are weighed" in text
    assert "no sign of a shift" in text


def test_evaluate_and_report_judge_by_the_weights(folder: Path) -> None:
    later = np.load(folder / "later.npy")[:600]
    judged = folder / "judged.npz"
    np.savez(judged, X=np.concatenate([later, later[:60] + 30]), y=np.repeat([0, 1], [600, 60]))
    weighted, plain = (
        json.loads(ok("evaluate", judged, "--model", folder / name, "--json")) for name in ("weighted.vae", "plain.vae")
    )
    assert weighted["test"]["p_value_check"] is None
    assert weighted["test"]["promised_false_alarms"] is None
    assert plain["test"]["p_value_check"]["p_value"] < 0.01
    assert weighted["test"]["roc_auc"] == plain["test"]["roc_auc"]
    ok("report", folder / "weighted.vae", judged, "--output", folder / "report")
    page = (folder / "report" / "report.html").read_text(encoding="utf-8")
    assert "held-out normals, weighted" in page
    assert "for 1,000 samples of a target" in page


def test_in_python_too(folder: Path) -> None:
    detector = VAEDetector.load(folder / "plain.vae")
    X, target, later = (np.load(folder / f"{name}.npy") for name in ("normals", "target", "later"))
    detector.calibrate(X, target=target)
    assert detector.calibration_ == VAEDetector.load(folder / "weighted.vae").calibration_
    np.testing.assert_array_equal(detector.predict(later) == -1, detector.p_values(later) <= 0.05)
    with pytest.warns(UserWarning, match="1,000 of 1,000 rows of the target equal rows that are weighed"):
        detector.calibrate(np.concatenate([X, target]), target=target)
    with pytest.raises(ValueError, match="a target needs normals to weigh"):
        detector.calibrate(target=target)
    with pytest.raises(ValueError, match=r"y must hold \+1"):
        detector.calibrate(X, np.ones(3), target=target)
    weighted = detector.calibration_
    detector.calibrate(X)
    with pytest.raises(ValueError, match="this threshold is for a target"):
        detector.set_calibration(weighted)
    plain = detector.calibration_
    detector.calibrate(X, target=target).set_calibration(plain)
    assert detector.model_.calibration_weights is None
    detector.save(folder / "set.vae")
    assert VAEDetector.load(folder / "set.vae").calibration_ == plain
