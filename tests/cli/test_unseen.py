"""Rows that a model was fitted on never judge it silently: they are left out and counted, or the output says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers import fails, run, table
from odd_rows import ok
from vae_anomaly import FittedModel, VAEDetector
from vae_anomaly.storage import model_file

LABELLED = ("--label-column", "label")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``all.csv``, of which a tenth are anomalies, two models fitted on it, and ``new.csv`` of the same kind."""
    folder = tmp_path_factory.mktemp("unseen")
    for name, n, start in (("all.csv", 400, 0), ("new.csv", 200, 400)):
        X, label = table(600)[start : start + n].copy(), np.arange(n) % 10 == 0
        X[label] += 3
        pd.DataFrame(X, columns=list("abcdef")).assign(label=label.astype(int)).to_csv(folder / name, index=False)
    for name, seed in (("a.vae", 0), ("b.vae", 1)):
        quick = ("--epochs", 2, "--no-report", "--seed", seed, "--output", folder / name)
        ok("fit", "--data", folder / "all.csv", *LABELLED, *quick)
    return folder


def parts_of(folder: Path, name: str = "a.vae") -> tuple[np.ndarray, np.ndarray, FittedModel]:
    """The part of each row of ``all.csv``, which are normal, and the model."""
    frame, model = pd.read_csv(folder / "all.csv"), FittedModel.load(folder / name)
    assert model.fitted_on is not None
    return model.fitted_on.overlap([model.rows(frame.drop(columns="label"))]).parts, frame["label"].to_numpy(), model


def test_evaluate_leaves_out_what_was_fitted_on_and_says_so(folder: Path) -> None:
    parts, label, _ = parts_of(folder)
    arguments = ("evaluate", folder / "all.csv", *LABELLED, "--model", folder / "a.vae")
    assert np.bincount(parts).tolist() == [230, 29, 29, 112]
    said = json.loads(ok(*arguments, "--json"))
    assert said["fitted_on"] == {
        "models": {
            str(folder / "a.vae"): {
                "n_rows": 400, "training": 230, "validation": 29, "calibration": 29, "unknown": 0,
                "more_than_chance": True,
            }
        },
        "left_out": 259,
    }  # fmt: skip
    assert said["test"]["roc_auc"]["n_normal"] == (parts[label == 0] >= 2).sum() == 101
    assert said["test"]["roc_auc"]["n_anomalous"] == 40
    text = ok(*arguments)
    note = f"259 of 400 rows are rows that {folder / 'a.vae'} was fitted on (230 trained it, 29 stopped the training)"
    assert f"{note}: left out, 141 remain, 29 of which set its threshold (--all-rows keeps all)" in text
    everything = json.loads(ok(*arguments, "--json", "--all-rows"))
    assert everything["test"]["roc_auc"]["n_normal"] == 360
    assert everything["fitted_on"]["left_out"] == 0
    assert f"{note}: figures on them are too good" in ok(*arguments, "--all-rows")
    # what is left is judged as if nothing else had been given
    pd.read_csv(folder / "all.csv")[parts >= 2].to_csv(folder / "rest.csv", index=False)
    rest = json.loads(ok("evaluate", folder / "rest.csv", *LABELLED, "--model", folder / "a.vae", "--json"))
    assert rest["test"] == said["test"]


def test_new_rows_are_all_kept_and_nothing_is_said(folder: Path) -> None:
    said = json.loads(ok("evaluate", folder / "new.csv", *LABELLED, "--model", folder / "a.vae", "--json"))
    assert said["test"]["roc_auc"]["n_normal"] == 180
    assert said["fitted_on"]["left_out"] == 0
    result = run("score", folder / "new.csv", *LABELLED, "--model", folder / "a.vae")
    assert "fitted on" not in ok("evaluate", folder / "new.csv", *LABELLED, "--model", folder / "a.vae") + result.stderr


def test_compare_leaves_out_what_either_was_fitted_on(folder: Path) -> None:
    both = np.minimum(parts_of(folder, "a.vae")[0], parts_of(folder, "b.vae")[0])
    models = (folder / "a.vae", folder / "b.vae")
    said = json.loads(ok("compare", *models, "--data", folder / "all.csv", *LABELLED, "--json"))
    assert said["fitted_on"]["left_out"] == (both < 2).sum() > 259
    assert said["a"]["n_normal"] + said["a"]["n_anomalous"] == (both >= 2).sum()
    assert "b.vae was fitted on" in ok("compare", *models, "--data", folder / "all.csv", *LABELLED)
    scores = folder / "a.scores.csv", folder / "b.scores.csv"
    assert "--all-rows" not in fails(2, "compare", *scores, "--label-column", "label")
    assert "score files need --labels alone" in fails(2, "compare", *scores, "--all-rows")


def test_calibrate_takes_rows_that_nothing_was_fitted_on(folder: Path, tmp_path: Path) -> None:
    parts, label, model = parts_of(folder)
    arguments = ("calibrate", folder / "a.vae", "--data", folder / "all.csv", *LABELLED, "--output", tmp_path / "c.vae")
    said = json.loads(ok(*arguments, "--json"))
    assert said["n_normal"] == 101
    assert said["fitted_on"]["left_out"] == 259
    rows = model.rows(pd.read_csv(folder / "all.csv").drop(columns="label"))
    kept = FittedModel.load(tmp_path / "c.vae").calibration_scores
    np.testing.assert_array_equal(kept, model.score_samples(rows[(parts >= 2) & (label == 0)]))
    assert "left out, 141 remain" in ok(*arguments)
    assert json.loads(ok(*arguments, "--json", "--all-rows"))["n_normal"] == 360
    few = fails(1, *arguments, "--rate", "0.005")
    assert "left out, 141 remain" in few
    assert "needs at least 199 held-out normals, there are 101" in few
    assert "--all-rows go with --data" in fails(2, "calibrate", folder / "a.vae", "--all-rows")
    trained = pd.read_csv(folder / "all.csv")[parts == 0]
    trained.to_csv(tmp_path / "t.csv", index=False)
    nothing = ("--data", tmp_path / "t.csv", *LABELLED, "--normal", "0", "--output", tmp_path / "d.vae")
    assert "no other is left; give other samples, or --all-rows" in fails(1, "calibrate", folder / "a.vae", *nothing)
    anomalies = pd.read_csv(folder / "all.csv")[label == 1]
    pd.concat([trained, anomalies]).to_csv(tmp_path / "t.csv", index=False)
    message = fails(1, "evaluate", tmp_path / "t.csv", *LABELLED, "--model", folder / "a.vae")
    assert "no normal is left; give other samples, or --all-rows" in message


def test_report_score_and_find_say_so(folder: Path, tmp_path: Path) -> None:
    with_labels = ok("report", folder / "a.vae", folder / "all.csv", *LABELLED, "--output", tmp_path / "r")
    assert "note: 259 of 400 rows are rows that" in with_labels
    report = json.loads((tmp_path / "r/report.json").read_text())
    assert report["test"]["roc_auc"]["n_normal"] == 101
    assert "left out, 141 remain" in (tmp_path / "r/report.html").read_text()
    assert len(pd.read_csv(tmp_path / "r/scores.csv")) == 141
    unlabelled = tmp_path / "u.csv"
    pd.read_csv(folder / "all.csv").drop(columns="label").to_csv(unlabelled, index=False)
    assert "figures on them are too good" in ok("report", folder / "a.vae", unlabelled, "--output", tmp_path / "u")
    assert len(pd.read_csv(tmp_path / "u/scores.csv")) == 400  # without labels nothing is measured: all are shown
    scored = run("score", unlabelled, "--model", folder / "a.vae", "--output", tmp_path / "s.csv")
    assert "note: 259 of 400 rows equal rows that the model was fitted on: their scores are too good" in scored.stderr
    quick = ("--epochs", 2, "--no-report", "--output", tmp_path / "f.csv")
    found = run("find", unlabelled, "--train", unlabelled, *quick)
    assert "note: 360 of 400 rows equal rows that the model of" in found.stderr


def test_drift_knows_its_own_scores(folder: Path, tmp_path: Path) -> None:
    texts: dict[str, Any] = {}
    for name in ("all", "new"):
        ok(
            "score",
            folder / f"{name}.csv",
            *LABELLED,
            "--model",
            folder / "a.vae",
            "--output",
            tmp_path / f"{name}.csv",
        )
        texts[name] = ok("drift", folder / "a.vae", tmp_path / f"{name}.csv")
        texts[f"{name}.json"] = json.loads(ok("drift", folder / "a.vae", tmp_path / f"{name}.csv", "--json"))
    assert "288 of the 288 scores that" in texts["all"]
    assert "cannot show drift; score rows that came later" in texts["all"]
    assert "note" not in texts["new"]
    assert (texts["all.json"]["own_scores"], texts["new.json"]["own_scores"]) == (288, 0)


def test_files_of_earlier_versions_judge_as_before(folder: Path, tmp_path: Path) -> None:
    tensors, config, _ = model_file.read(folder / "a.vae")
    tensors = {name: value for name, value in tensors.items() if not name.startswith("fitted_on")}
    model_file.write(tmp_path / "old.vae", tensors, {**config, "fitted_on": None})
    said = json.loads(ok("evaluate", folder / "all.csv", *LABELLED, "--model", tmp_path / "old.vae", "--json"))
    assert said["test"]["roc_auc"]["n_normal"] == 360
    assert said["fitted_on"] == {"models": {str(tmp_path / "old.vae"): None}, "left_out": 0}
    assert "fitted on" not in run("score", folder / "all.csv", *LABELLED, "--model", tmp_path / "old.vae").stderr
    assert "fitted on" not in ok("inspect", tmp_path / "old.vae")
    ok("drift", tmp_path / "old.vae", folder / "a.scores.csv")


def test_python_warns_where_a_threshold_would_rest_on_rows_fitted_on() -> None:
    X = table(120)
    detector = VAEDetector(epochs=1).fit(X[:100])
    with pytest.warns(UserWarning, match=r"90 of 100 rows are rows that this model was fitted on .* too good"):
        detector.calibrate(X[:100], rate=0.1)
    detector.calibrate(X[100:], rate=0.1)
