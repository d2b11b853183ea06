"""``vae-anomaly report``, and the report that ``fit`` writes, by their files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers import run
from vae_anomaly import VAEDetector
from vae_anomaly.datasets import load_named

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of digits and the report that came with it."""
    folder = tmp_path_factory.mktemp("fitted")
    result = run("fit", "--normal", "0,1,2", "--dataset", "digits", "--epochs", 3, "--output", folder / "model.vae")
    assert result.exit_code == 0, result.output
    assert f"wrote      {folder / 'model.vae'}, {folder / 'model.scores.csv'}" in result.stdout
    assert str(folder / "model.report" / "report.html") in result.stdout
    return folder


def test_fit_reports_on_its_test_part(fitted: Path) -> None:
    report = fitted / "model.report"
    assert {path.name for path in report.iterdir()} == {"report.html", "report.json", "scores.csv", "figures"}
    assert (report / "scores.csv").read_bytes() == (fitted / "model.scores.csv").read_bytes()
    numbers = json.loads((report / "report.json").read_text())
    assert numbers["provenance"]["model SHA-256"] == hashlib.sha256((fitted / "model.vae").read_bytes()).hexdigest()
    assert numbers["provenance"]["command"].startswith("vae-anomaly fit --normal 0,1,2")
    assert numbers["provenance"]["seed"] == "0"
    assert numbers["test"]["roc_auc"]["n_normal"] == (pd.read_csv(report / "scores.csv")["anomaly"] == 0).sum()


def test_a_report_of_a_named_data_set_says_what_evaluate_says(fitted: Path, own_folder: Path) -> None:
    result = run("report", fitted / "model.vae", "--dataset", "digits")
    assert (result.exit_code, result.stdout) == (0, "wrote report/report.html\n")
    numbers = json.loads(Path("report/report.json").read_text())
    evaluated = json.loads(run("evaluate", "--dataset", "digits", "--model", fitted / "model.vae", "--json").stdout)[
        "test"
    ]
    for name in ("roc_auc", "average_precision", "decisions", "per_group", "promised_false_alarms"):
        assert numbers["test"][name] == evaluated[name]
    scores = pd.read_csv("report/scores.csv")
    detector = VAEDetector.load(fitted / "model.vae")
    _, test = load_named("digits")
    np.testing.assert_array_equal(scores["anomaly_score"], -detector.score_samples(test.X))
    np.testing.assert_array_equal(scores["p_value"], detector.p_values(test.X))
    assert len(list(Path("report/figures").glob("*.svg"))) == 12


def test_a_report_needs_no_labels_and_takes_another_score(fitted: Path) -> None:
    _, test = load_named("digits")
    np.save("new.npy", test.X[:60])
    result = run("report", fitted / "model.vae", "new.npy", "--score", "latent_neighbours", "--output", "out")
    assert result.exit_code == 0, result.output
    scores = pd.read_csv("out/scores.csv")
    detector = VAEDetector.load(fitted / "model.vae").set_params(score_name="latent_neighbours")
    np.testing.assert_array_equal(scores["anomaly_score"], -detector.score_samples(test.X[:60]))
    np.testing.assert_array_equal(scores["decision"], detector.predict(test.X[:60]) == -1)
    assert "label" not in scores
    assert json.loads(Path("out/report.json").read_text())["test"] is None


def test_a_report_on_a_table_names_its_features(make_table) -> None:
    frame = pd.DataFrame(make_table(150), columns=[f"<i>{letter}</i>" for letter in "abcdef"])
    frame.to_csv("normal.csv", index=False)
    assert run("fit", "--data", "normal.csv", "--epochs", 2, "--output", "t.vae").exit_code == 0
    page = Path("t.report/report.html").read_text(encoding="utf-8")
    assert "There is no test part" in page
    assert "&lt;i&gt;a&lt;/i&gt;" in page
    assert "<i>a</i>" not in page
    assert not Path("t.scores.csv").exists()
    frame.assign(label=["1"] * 5 + ["0"] * 145).to_csv("labelled.csv", index=False)
    assert run("report", "t.vae", "labelled.csv", "--label-column", "label", "--all-rows").exit_code == 0
    assert json.loads(Path("report/report.json").read_text())["test"]["roc_auc"]["n_anomalous"] == 5


def test_labels_of_one_kind_make_a_report_without_curves(fitted: Path) -> None:
    training, _ = load_named("digits")
    for name, labels in (("normal", "0"), ("anomalous", "1")):
        np.save("X.npy", training.X[:30])
        Path("y.csv").write_text(f"{labels}\n" * 30)
        result = run("report", fitted / "model.vae", "X.npy", "--labels", "y.csv", "--normal", "0", "--output", name)
        if labels == "0":
            assert result.exit_code == 0, result.output
            assert json.loads(Path("normal/report.json").read_text())["test"] is None
            assert (pd.read_csv("normal/scores.csv")["anomaly"] == 0).all()
        else:
            assert "has no samples of class 0" in result.stderr


def test_mistakes_get_one_message(fitted: Path, own_folder: Path) -> None:
    model = fitted / "model.vae"
    np.save("X.npy", load_named("digits")[1].X[:9])
    Path("taken").mkdir()
    Path("taken/notes.txt").write_text("mine")
    for code, message, arguments in (
        (2, "give either DATA or --dataset", (model,)),
        (2, "give either DATA or --dataset", (model, "X.npy", "--dataset", "digits")),
        (2, "--normal needs labels", (model, "X.npy", "--normal", "0")),
        (1, "nowhere.vae does not exist", ("nowhere.vae", "X.npy")),
        (1, "taken is not replaced, for notes.txt in it is of no report", (model, "X.npy", "--output", "taken")),
        (1, "there is no folder", (model, "X.npy", "--output", "no/where")),
    ):
        result = run("report", *arguments)
        assert result.exit_code == code, result.output
        assert message in result.stderr
        assert "Traceback" not in result.stderr
    assert {path.name for path in own_folder.iterdir()} == {"X.npy", "taken"}


def test_fit_refuses_the_report_folder_before_training(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("model.report").mkdir()
    Path("model.report/notes.txt").write_text("mine")
    monkeypatch.setattr(VAEDetector, "fit", lambda *args: pytest.fail("trained for nothing"))
    result = run("fit", "--normal", "0", "--dataset", "digits")
    assert result.exit_code == 1
    assert "model.report is not replaced, for notes.txt in it is of no report" in result.stderr
    assert [path.name for path in own_folder.iterdir()] == ["model.report"]
