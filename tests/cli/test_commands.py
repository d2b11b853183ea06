"""The command line, by the files it makes and the messages it gives."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from sklearn.metrics import roc_auc_score

from vae_anomaly import VAEDetector
from vae_anomaly.cli import main, options
from vae_anomaly.datasets import NAMED, load_named

QUICK = ["--epochs", "3", "--no-report"]


def run(*arguments: object, **kwargs: Any) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], **kwargs)


def fails(code: int, *arguments: object, **kwargs: Any) -> str:
    """Run a command that must fail with this exit code and one message, never a traceback."""
    result = run(*arguments, **kwargs)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, result.stderr
    assert "Traceback" not in result.stderr
    return errors[0]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def digits_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digits") / "digits.vae"
    result = run("fit", "--normal", "0,1,2", "--dataset", "digits", "--output", path, "--seed", 1, "--no-report")
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture(scope="module")
def table_model(tmp_path_factory: pytest.TempPathFactory, make_table) -> Path:
    folder = tmp_path_factory.mktemp("table")
    np.save(folder / "normal.npy", make_table(300))
    result = run("fit", "--data", folder / "normal.npy", "--output", folder / "table.vae", *QUICK)
    assert result.exit_code == 0, result.output
    return folder / "table.vae"


def test_names_agree_with_the_library() -> None:
    assert tuple(NAMED) == options.DATASETS


def test_fit_defaults_agree_with_the_detector() -> None:
    parameters = VAEDetector().get_params()
    given = main.commands["fit"].make_context("fit", ["--normal", "0"]).params
    shared = set(given) & set(parameters)
    assert len(shared) >= 12
    assert {name: given[name] for name in shared} == {name: parameters[name] for name in shared}
    assert given["seed"] == parameters["random_state"]


@pytest.mark.parametrize("command", ["", *sorted(main.commands)])
def test_every_help_answers_without_torch(command: str) -> None:
    code = (
        "import sys; from vae_anomaly.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: assert not {'torch', 'numpy', 'sklearn', 'pandas', 'matplotlib'} & set(sys.modules)"
    )
    arguments = [*([command] if command else []), "--help"]
    result = subprocess.run([sys.executable, "-P", "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("Usage: ")
    for option in main.commands[command].params if command else []:
        if isinstance(option, click.Option):
            assert option.opts[-1] in result.stdout


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
    np.testing.assert_array_equal(scores["anomaly_score"], scores["kl"] - scores["reconstruction"])
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


def test_digits_are_told_apart(digits_model: Path) -> None:
    result = run("evaluate", "--dataset", "digits", "--model", digits_model, "--json")
    assert json.loads(result.stdout)["test"]["roc_auc"]["value"] > 0.9
    text = run("evaluate", "--dataset", "digits", "--model", digits_model).stdout
    assert "ROC-AUC 0.9" in text
    assert "false alarms" in text


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
    assert json.loads(evaluated.stdout)["test"]["roc_auc"]["n_normal"] == 200


def test_fit_without_labels_takes_everything_as_normal(table_model: Path) -> None:
    assert not table_model.with_suffix(".scores.csv").exists()
    text = run("inspect", table_model).stdout
    assert "normal.npy" in text
    assert "conformal: a new normal is flagged with probability at most 0.05" in text
    assert "from 30 samples" in text


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


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "npy", "parquet"])
def test_score_writes_every_format(table_model: Path, make_table, suffix: str) -> None:
    X = make_table(30, seed=1)
    np.save("X.npy", X)
    result = run("score", "X.npy", "--model", table_model, "--output", f"scores.{suffix}")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    path = f"scores.{suffix}"
    readers = {"csv": pd.read_csv, "npy": lambda file: pd.DataFrame(np.load(file)), "parquet": pd.read_parquet}
    scores = (
        readers[suffix](path)
        if suffix in readers
        else pd.DataFrame(map(json.loads, Path(path).read_text().splitlines()))
    )
    assert list(scores.columns) == ["index", "anomaly_score", "decision", "p_value", "reconstruction", "kl"]
    np.testing.assert_array_equal(scores["anomaly_score"], -VAEDetector.load(table_model).score_samples(X))


def test_scores_do_not_depend_on_the_chunks(table_model: Path, make_table, monkeypatch: pytest.MonkeyPatch) -> None:
    pd.DataFrame(make_table(1500, seed=1)).to_csv("X.csv", index=False, header=False)
    whole = run("score", "X.csv", "--model", table_model).stdout
    monkeypatch.setattr(options, "CHUNK_BYTES", 8 * 6 * 7)
    assert run("score", "X.csv", "--model", table_model).stdout == whole
    with open("X.csv", "rb") as file:
        assert run("score", "-", "--model", table_model, input=file.read()).stdout == whole
    assert whole.splitlines()[-1].startswith("1499,")


def test_score_reads_a_pipe_and_stands_a_closed_one(table_model: Path, make_table) -> None:
    pd.DataFrame(make_table(50_000, seed=1)).to_csv("X.csv", index=False, header=False)
    command = f"{sys.executable} -m vae_anomaly.cli score - --model {table_model} < X.csv | head -n 2"
    result = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)
    assert len(result.stdout.splitlines()) == 2
    assert result.stderr == ""


def test_calibrate_writes_another_model(digits_model: Path, own_folder: Path) -> None:
    before = digits_model.read_bytes()
    result = run("calibrate", digits_model, "--rate", "0.2", "--output", "c.vae")
    assert result.exit_code == 0, result.output
    assert "a new normal is flagged with probability at most 0.2" in result.stdout
    assert "% of 36 held-out normals lie above" in result.stdout
    assert digits_model.read_bytes() == before
    old, new = VAEDetector.load(digits_model), VAEDetector.load("c.vae")
    assert new.offset_ > old.offset_
    assert new.metadata_ == old.metadata_
    _, test = load_named("digits")
    np.testing.assert_array_equal(new.score_samples(test.X), old.score_samples(test.X))
    assert "needs at least 99 held-out normals, there are 36" in fails(1, "calibrate", digits_model, "--rate", "0.01")
    np.save("X.npy", test.X)
    np.save("y.npy", test.labels)
    with_data = ("--data", "X.npy", "--labels", "y.npy", "--normal", "0,1,2", "--output", "d.vae", "--json")
    summary = json.loads(run("calibrate", digits_model, "--method", "cost", "--miss", "5", *with_data).stdout)
    assert (summary["n_normal"], summary["n_anomalous"]) == (172, 427)
    assert summary["detection_rate"] > 0.9
    assert summary["threshold"] == VAEDetector.load("d.vae").calibration_.threshold
    assert "method 'youden' does not take rate" in fails(
        1, "calibrate", digits_model, "--method", "youden", "--rate", "0.1", *with_data
    )


@pytest.mark.parametrize("name", ["kl", "latent_neighbours", "likelihood_regret"])
def test_any_command_takes_another_score(table_model: Path, own_folder: Path, make_table, name: str) -> None:
    X = np.concatenate([make_table(60, seed=1), 9 + make_table(20)])
    np.save("X.npy", X)
    np.save("y.npy", np.repeat([0, 1], [60, 20]))
    detector = VAEDetector.load(table_model).set_params(score_name=name)
    assert run("score", "X.npy", "--model", table_model, "--score", name, "--output", "s.csv").exit_code == 0
    table = pd.read_csv("s.csv")
    np.testing.assert_array_equal(table["anomaly_score"], -detector.score_samples(X))
    np.testing.assert_array_equal(table["decision"], (detector.predict(X) == -1).astype(int))
    np.testing.assert_array_equal(table["p_value"], detector.p_values(X))
    judged = json.loads(
        run("evaluate", "X.npy", "--labels", "y.npy", "--model", table_model, "--score", name, "--json").stdout
    )
    assert judged["test"]["roc_auc"]["value"] == pytest.approx(roc_auc_score(np.load("y.npy"), table["anomaly_score"]))
    made = run("calibrate", table_model, "--rate", "0.2", "--score", name, "--output", "c.vae")
    assert made.exit_code == 0, made.output
    assert VAEDetector.load("c.vae").get_params()["score_name"] == name
    assert f"score={name}" in run("inspect", "c.vae").stdout
    for model in (("--model", "c.vae"), ("--model", table_model, "--score", name)):
        assert run("review", "s.csv", *model).exit_code == 0
    assert run("drift", table_model, "s.csv", "--score", name).stdout == run("drift", "c.vae", "s.csv").stdout
    fitted = run("fit", "--data", "X.npy", "--score", name, "--output", "f.vae", *QUICK)
    assert f"score      {name}" in fitted.stdout
    assert VAEDetector.load("f.vae").get_params()["score_name"] == name


def test_options_of_calibrate_agree_with_the_library() -> None:
    import inspect

    from vae_anomaly.registry import CALIBRATION_METHODS as METHODS

    taken = {name for method in METHODS.values() for name in inspect.signature(method).parameters}
    offered = {option.name for option in main.commands["calibrate"].params}
    assert taken <= offered


def test_review_and_back_into_calibrate(digits_model: Path, own_folder: Path) -> None:
    _, test = load_named("digits")
    np.save("X.npy", test.X)
    assert run("score", "X.npy", "--model", digits_model, "--output", "scores.csv").exit_code == 0
    result = run("review", "scores.csv", "-k", 15, "--model", digits_model)
    assert result.exit_code == 0, result.output
    table = pd.read_csv("review.csv")
    scores = pd.read_csv("scores.csv")
    assert table["reason"].value_counts().to_dict() == {"anomalous": 15, "uncertain": 15}
    assert table["anomaly_score"].tolist()[:15] == scores["anomaly_score"].nlargest(15).tolist()
    assert table["index"].is_unique
    threshold = VAEDetector.load(digits_model).calibration_.threshold
    nearest = (scores["anomaly_score"] - threshold).abs().nsmallest(15).index
    assert set(table["index"][15:]) == set(nearest)
    assert table["label"].isna().all()
    table["label"] = (~np.isin(test.labels[table["index"]], ["0", "1", "2"])).astype(int)
    table.loc[3, "label"] = np.nan
    table.to_csv("review.csv", index=False)
    calibrated = run(
        "calibrate", digits_model, "--reviewed", "review.csv", "--method", "youden", "--output", "r.vae", "--json"
    )
    assert calibrated.exit_code == 0, calibrated.output
    summary = json.loads(calibrated.stdout)
    assert summary["n_normal"] == 36
    assert summary["n_anomalous"] == (table["label"] == 1).sum()
    table.assign(label=0).to_csv("zeros.csv", index=False)
    assert "no row is labelled 1" in fails(1, "calibrate", digits_model, "--reviewed", "zeros.csv")
    table["label"] = "yes"
    table.to_csv("review.csv", index=False)
    assert "labels must be 1 (anomaly), 0 (normal) or nothing" in fails(
        1, "calibrate", digits_model, "--reviewed", "review.csv"
    )
    pd.DataFrame({"a": [1]}).to_csv("other.csv", index=False)
    assert "has no column anomaly_score" in fails(1, "review", "other.csv", "--model", digits_model)


def test_fdr_decides_the_whole_batch(table_model: Path, make_table, monkeypatch: pytest.MonkeyPatch) -> None:
    from vae_anomaly.calibration.conformal import benjamini_hochberg

    np.save("X.npy", np.vstack([make_table(80, seed=1), 20 * make_table(60, seed=2)]))
    whole = run("score", "X.npy", "--model", table_model, "--fdr", "0.1").stdout
    scores = pd.read_csv(io.StringIO(whole))
    flagged = benjamini_hochberg(scores["p_value"].to_numpy(), 0.1)
    assert 0 < flagged.sum() < 140
    np.testing.assert_array_equal(scores["decision"], flagged.astype(int))
    monkeypatch.setattr(options, "CHUNK_BYTES", 8 * 6 * 7)
    assert run("score", "X.npy", "--model", table_model, "--fdr", "0.1").stdout == whole


def test_fdr_on_a_folder_of_images(own_folder: Path, make_images) -> None:
    from PIL import Image

    (own_folder / "images").mkdir()
    for i, image in enumerate(make_images(30)):
        Image.fromarray(image).save(own_folder / "images" / f"{i:02}.png")
    assert run("fit", "--data", "images", *QUICK).exit_code == 0
    scores = pd.read_csv(io.StringIO(run("score", "images", "--fdr", "0.3").stdout))
    assert scores["file"].tolist() == [f"{i:02}.png" for i in range(30)]


def test_fail_on_anomaly_sets_the_exit_code(table_model: Path, make_table) -> None:
    np.save("far.npy", 50 * make_table(5, seed=1))
    np.save("near.npy", np.zeros((1, 6)))
    arguments = ("--model", table_model, "--fail-on-anomaly", "--output", "s.csv")
    assert run("score", "far.npy", *arguments).exit_code == 3
    assert pd.read_csv("s.csv")["decision"].all()
    assert run("score", "near.npy", *arguments).exit_code == 0


def test_compare_models_and_score_files(digits_model: Path, own_folder: Path) -> None:
    fitted = run("fit", "--normal", "0,1,2", "--dataset", "digits", "--output", "b.vae", *QUICK)
    assert fitted.exit_code == 0
    a_scores = digits_model.with_suffix(".scores.csv")
    files = json.loads(run("compare", a_scores, "b.scores.csv", "--json").stdout)
    assert files["difference"]["value"] == files["a"]["value"] - files["b"]["value"] > 0
    _, test = load_named("digits")
    np.save("X.npy", test.X)
    np.save("y.npy", test.labels)
    labelled = ("--data", "X.npy", "--labels", "y.npy", "--normal", "0,1,2", "--json")
    assert json.loads(run("compare", digits_model, "b.vae", *labelled).stdout) == files
    by_labels = run("compare", a_scores, "b.scores.csv", "--labels", "y.npy", "--normal", "0,1,2")
    assert f"difference {files['difference']['value']:+.4f}" in by_labels.stdout
    assert "two models need --data" in fails(2, "compare", digits_model, "b.vae")
    assert "two models or two score files" in fails(2, "compare", digits_model, "b.scores.csv")


def test_drift_against_a_model_and_a_score_file(table_model: Path, make_table) -> None:
    rows = make_table(300)
    rng = np.random.default_rng(1)
    np.save("same.npy", rows.mean(axis=0) + (rng.normal(size=(300, 300)) @ (rows - rows.mean(axis=0))) / 300**0.5)
    np.save("moved.npy", 2 * make_table(300, seed=3))
    for name in ("same", "moved"):
        assert run("score", f"{name}.npy", "--model", table_model, "--output", f"{name}.csv").exit_code == 0
    quiet = run("drift", table_model, "same.csv", "--fail-on-drift")
    assert quiet.exit_code == 0
    assert "no alarm" in quiet.stdout
    moved = run("drift", "same.csv", "moved.csv", "--fail-on-drift")
    assert moved.exit_code == 3
    assert "ALARM at row" in moved.stdout
    assert json.loads(run("drift", "same.csv", "moved.csv", "--json").stdout)["alarm"] is not None


def test_evaluate_saves_everything(digits_model: Path) -> None:
    result = run("evaluate", "--dataset", "digits", "--model", digits_model, "--output", "e.json")
    assert result.exit_code == 0, result.output
    saved = json.loads(Path("e.json").read_text())["test"]
    assert saved["roc"]["y"][-1] == 1
    assert saved["p_value_check"]["p_value"] > 0
    assert f"average precision {saved['average_precision']['value']:.4f}" in result.stdout


def test_sample_draws_grids_and_tables(digits_model: Path, table_model: Path) -> None:
    assert run("sample", "-n", 9, "--output", "grid.png", "--model", digits_model).exit_code == 0
    assert Path("grid.png").read_bytes().startswith(b"\x89PNG")
    assert run("sample", "-n", 5, "--output", "s.npy", "--model", digits_model).exit_code == 0
    assert np.load("s.npy").shape == (5, 8, 8)
    assert run("sample", "-n", 5, "--output", "s.csv", "--model", table_model).exit_code == 0
    assert pd.read_csv("s.csv", header=None).shape == (5, 6)
    assert "no images that a .png can show" in fails(1, "sample", "--output", "t.png", "--model", table_model)


def test_inspect_tells_what_a_model_is(digits_model: Path) -> None:
    text = run("inspect", digits_model).stdout
    for part in ("digits (built into scikit-learn), normal: 0, 1, 2", "8 x 8", "float32", "random_state=1", "torch 2."):
        assert part in text
    config = json.loads(run("inspect", digits_model, "--json").stdout)
    assert config["metadata"]["data"]["name"] == "digits"


def test_inspect_needs_no_torch(digits_model: Path) -> None:
    code = (
        "import sys; from vae_anomaly.cli import main\n"
        "try: main(['inspect', sys.argv[1]])\n"
        "finally: assert not {'torch', 'sklearn', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-P", "-c", code, str(digits_model)], check=True, capture_output=True)


@pytest.mark.parametrize("words", [[], ["s.csv"], ["s.jsonl"], ["s.npy"], ["s.csv", "--resume"]], ids=" ".join)
def test_scores_of_an_array_need_neither_scikit_learn_nor_pandas(
    digits_model: Path, own_folder: Path, words: list[str]
) -> None:
    np.save("X.npy", np.zeros((3, 8, 8)))
    code = (
        "import sys; from vae_anomaly.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: assert not {'sklearn', 'scipy', 'pandas', 'pyarrow', 'matplotlib'} & set(sys.modules)"
    )
    arguments = ["score", "X.npy", "--model", str(digits_model), *(["--output", *words] if words else [])]
    result = subprocess.run([sys.executable, "-P", "-c", code, *arguments], check=True, capture_output=True, text=True)
    assert result.stdout.startswith("index,anomaly_score,") != bool(words)


def test_datasets_tells_what_is_on_disk(monkeypatch: pytest.MonkeyPatch, own_folder: Path) -> None:
    monkeypatch.delenv("VAE_ANOMALY_DATA", raising=False)
    monkeypatch.setenv("VAE_ANOMALY_CACHE", str(own_folder))
    output = run("datasets").stdout
    assert "built in" in output
    assert output.count("not on disk") == 3
    for file in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (own_folder / "kmnist").mkdir(exist_ok=True)
        (own_folder / "kmnist" / f"{file}-ubyte").touch()
    assert str(own_folder / "kmnist") in run("datasets").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit"], "say which classes are normal, such as --normal 0,1,2, or give --data"),
        (["fit", "--normal", "0,,1"], "'0,,1' is not a list of class names"),
        (["fit", "--normal", "0", "--dataset", "cifar"], "'cifar' is not one of"),
        (["fit", "--normal", "0", "--epochs", "0"], "0 is not in the range x>=1"),
        (["fit", "--normal", "0", "--labels", "."], "--labels and --label-column go with --data"),
        (["fit", "--data", "missing.npy"], "'missing.npy' does not exist"),
        (["fit", "--data", ".", "--dataset", "digits"], "not both"),
        (["fit", "--normal", "0", "--contamination", "0.9"], "neither 'auto' nor a number in (0, 0.5]"),
        (["fit", "--normal", "0", "--scores", "s.xlsx"], "s.xlsx is none of .csv, .jsonl, .npy, .parquet"),
        (["fit", "--normal", "0", "--image-shape", "28"], "not a shape such as 28x28"),
        (["fit", "--normal", "0", "--data-dir", "nowhere"], "'nowhere' does not exist"),
        (["score"], "Missing argument 'DATA'"),
        (["evaluate"], "give either DATA or --dataset"),
        (["sample", "--output", "x.gif"], "neither .png, .npy nor .csv"),
        (["nonsense"], "No such command 'nonsense'"),
    ],
)
def test_usage_errors_exit_with_2(arguments: list[str], message: str) -> None:
    assert message in fails(2, *arguments)


def test_data_errors_exit_with_1(make_table, own_folder: Path, table_model: Path, digits_model: Path) -> None:
    np.save("X.npy", make_table(20))
    np.save("wide.npy", np.zeros((5, 9)))
    np.save("nan.npy", np.array([[1.0, np.nan]]))
    np.save("y.npy", np.arange(20) % 3)
    np.save("short.npy", np.zeros(3, int))
    np.save("flags.npy", np.arange(64) % 2)
    np.save("images.npy", np.zeros((64, 8, 8)))
    Path("broken.vae").write_bytes(table_model.read_bytes()[:-100])
    cases = {
        "no samples of class 12; its classes are 0, 1": ("fit", "--normal", "0,12", "--dataset", "digits"),
        "row 0, column 1 is nan": ("fit", "--data", "nan.npy"),
        "has 3 labels, X.npy has 20 samples": ("fit", "--data", "X.npy", "--labels", "short.npy"),
        "name the normal ones, such as --normal 0": ("fit", "--data", "X.npy", "--labels", "y.npy"),
        "needs images of at least 8 x 8": ("fit", "--data", "X.npy", "--architecture", "conv"),
        "device='toaster' cannot be used": ("fit", "--data", "X.npy", "--device", "toaster"),
        "nowhere/model.vae cannot be written: there is no folder nowhere": (
            "fit",
            "--data",
            "X.npy",
            "--output",
            "nowhere/model.vae",
        ),
        "model.vae does not exist: run 'vae-anomaly fit' first": ("score", "X.npy"),
        "broken.vae is damaged: its table of tensors": ("score", "X.npy", "--model", "broken.vae"),
        "broken.vae is damaged: its table of tensors is wrong": ("inspect", "broken.vae"),
        "X has 9 features, but VAEDetector is expecting 6": ("score", "wide.npy", "--model", table_model),
        "scores are written as": ("score", "X.npy", "--model", table_model, "--output", "s.xlsx"),
        "say which are normal with --normal": (
            *("evaluate", "images.npy", "--labels", "flags.npy", "--model", digits_model),
        ),
    }
    before = sorted(own_folder.iterdir())
    for message, arguments in cases.items():
        assert message in fails(1, *arguments)
    assert sorted(own_folder.iterdir()) == before


def test_labels_are_asked_for(table_model: Path, make_table) -> None:
    np.save("X.npy", make_table(20))
    assert "give --labels or --label-column" in fails(2, "evaluate", "X.npy", "--model", table_model)
    assert "--normal needs labels" in fails(2, "fit", "--data", "X.npy", "--normal", "0")


def test_an_unwritable_folder_is_noticed_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *args: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr("vae_anomaly.fitting.fit.fit_model", lambda *args: pytest.fail("trained for nothing"))
    assert fails(1, "fit", "--normal", "0", "--dataset", "digits") == "Error: model.vae: Permission denied"


def test_bugs_show_one_line_unless_debugging(monkeypatch: pytest.MonkeyPatch, table_model: Path) -> None:
    def bug(*args: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(options, "load_model", bug)
    np.save("X.npy", np.zeros((2, 2)))
    assert "unexpected ZeroDivisionError: oops (set VAE_ANOMALY_DEBUG=1" in fails(1, "score", "X.npy")
    monkeypatch.setenv("VAE_ANOMALY_DEBUG", "1")
    assert isinstance(run("score", "X.npy").exception, ZeroDivisionError)


def test_version_is_the_packages() -> None:
    from importlib.metadata import version

    assert run("--version").stdout == f"vae-anomaly, version {version('vae-anomaly')}\n"


@pytest.mark.parametrize(
    ("given", "count"),
    [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_idle_threads_soon_sleep_unless_the_user_says_otherwise(given: dict[str, str], count: str) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    code = "import os, vae_anomaly.cli; print(os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=kept | given, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == count
