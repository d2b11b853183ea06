"""``vae-anomaly fit``, by the files it makes and the messages it gives."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from helpers import fails, run
from vae_anomaly import VAEDetector
from vae_anomaly.datasets import NAMED, load_named

QUICK = ["--epochs", "3", "--no-report"]

pytestmark = pytest.mark.usefixtures("own_folder")


def test_fit_evaluates_and_writes_model_and_scores(own_folder: Path) -> None:
    result = run("fit", "--normal", "0,1,2", "--dataset", "digits", "--json", *QUICK)
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert sorted(path.name for path in own_folder.iterdir()) == ["model.scores.csv", "model.vae"]
    scores = pd.read_csv("model.scores.csv", dtype={"label": str})
    _, test = load_named("digits")
    assert scores["label"].tolist() == test.labels.tolist()
    assert (scores["anomaly"] == ~scores["label"].isin(["0", "1", "2"])).all()
    detector = VAEDetector.load("model.vae")
    np.testing.assert_array_equal(scores["anomaly_score"], -detector.score_samples(test.X))
    np.testing.assert_array_equal(scores["decision"], (detector.predict(test.X) == -1).astype(int))
    elbo = VAEDetector.load("model.vae").set_params(score_name="elbo").score_samples(test.X)
    np.testing.assert_array_equal(elbo, scores["reconstruction"] - scores["kl"])
    auc = summary["test"]["roc_auc"]
    assert auc["value"] == pytest.approx(roc_auc_score(scores["anomaly"], scores["anomaly_score"]))
    assert sorted(summary["test"]["per_group"]) == list("3456789")
    np.testing.assert_array_equal(scores["p_value"], detector.p_values(test.X))
    assert summary["data"]["name"] == "digits"
    assert summary["threshold"]["threshold"] == -detector.offset_


def test_same_seed_same_files(own_folder: Path) -> None:
    for name in ("a", "b"):
        assert run("fit", "--normal", "0", "--dataset", "digits", "--output", f"{name}.vae", *QUICK).exit_code == 0
    assert Path("a.vae").read_bytes() == Path("b.vae").read_bytes()
    assert Path("a.scores.csv").read_bytes() == Path("b.scores.csv").read_bytes()


def test_without_mnist_it_says_so_and_runs_on_digits(monkeypatch: pytest.MonkeyPatch, own_folder: Path) -> None:
    monkeypatch.delenv("VAE_ANOMALY_DATA", raising=False)
    monkeypatch.setenv("VAE_ANOMALY_CACHE", str(own_folder / "cache"))
    from dataclasses import replace

    monkeypatch.setitem(NAMED, "mnist", replace(NAMED["mnist"], mirrors=("http://127.0.0.1:9/",)))
    result = run("fit", "--normal", "0,1,2", *QUICK)
    assert result.exit_code == 0, result.output
    notes = [line for line in result.stderr.splitlines() if "digits" in line]
    assert len(notes) == 1
    assert "MNIST is neither on disk nor reachable" in notes[0]
    assert "digits (built into scikit-learn)" in result.stdout
    assert "digits" in run("inspect", "model.vae").stdout
    message = fails(1, "fit", "--normal", "0,1,2", "--dataset", "mnist")
    assert "mnist is not on disk and could not be downloaded" in message
    assert "--data-dir DIR or set VAE_ANOMALY_DATA=DIR" in message


def test_fit_on_own_tables_with_labels(make_table, own_folder: Path) -> None:
    frame = pd.DataFrame(make_table(200), columns=list("abcdef"))
    frame["label"] = 0
    anomalies = pd.DataFrame(9 * np.random.default_rng(0).normal(size=(30, 6)), columns=list("abcdef")).assign(label=1)
    pd.concat([frame, anomalies]).to_csv("all.csv", index=False)
    result = run("fit", "--data", "all.csv", "--label-column", "label", "--json", *QUICK)
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["data"]["n_normal"] == 160
    assert summary["test"]["roc_auc"]["n_normal"] == 40
    assert summary["test"]["roc_auc"]["n_anomalous"] == 30
    assert summary["test"]["roc_auc"]["value"] > 0.9
    assert VAEDetector.load("model.vae").feature_names_in_.tolist() == list("abcdef")
    evaluated = run("evaluate", "all.csv", "--label-column", "label", "--json")
    assert json.loads(evaluated.stdout)["test"]["roc_auc"]["n_normal"] == 40 + 16  # tested, and of the threshold


def test_fit_without_labels_takes_everything_as_normal(table_model: Path) -> None:
    assert not table_model.with_suffix(".scores.csv").exists()
    text = run("inspect", table_model).stdout
    assert "normal.npy" in text
    assert "conformal: a new normal is flagged with a probability near 0.05" in text
    assert "from 300 samples" in text


def test_fit_on_folders_of_classes(own_folder: Path, make_images) -> None:
    from PIL import Image

    for name in ("good", "bad"):
        (own_folder / "images" / name).mkdir(parents=True)
    for i, image in enumerate(make_images(40)):
        Image.fromarray(image).save(own_folder / "images" / "good" / f"{i:02}.png")
        Image.fromarray(255 - image).save(own_folder / "images" / "bad" / f"{i:02}.png")
    result = run("fit", "--data", "images", "--normal", "good", "--architecture", "conv", "--json", *QUICK)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["test"]["roc_auc"]["value"] > 0.9
    scores = pd.read_csv(io.StringIO(run("score", "images/bad").stdout))
    assert scores["file"].tolist()[:2] == ["00.png", "01.png"]
    assert scores["decision"].all()


def test_an_unwritable_folder_is_noticed_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *args: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr("vae_anomaly.fitting.fit.fit_model", lambda *args: pytest.fail("trained for nothing"))
    assert fails(1, "fit", "--normal", "0", "--dataset", "digits") == "Error: model.vae: Permission denied"
