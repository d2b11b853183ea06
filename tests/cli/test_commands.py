"""What all commands share: help, another score, errors as one message, start-up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from helpers import fails, python, run
from vae_anomaly import VAEDetector
from vae_anomaly.cli import main, options
from vae_anomaly.datasets import NAMED

QUICK = ["--epochs", "3", "--no-report"]

pytestmark = pytest.mark.usefixtures("own_folder")


def test_names_agree_with_the_library() -> None:
    assert tuple(NAMED) == options.DATASETS


HELP = """
import contextlib, io, json, sys
from vae_anomaly.cli import main
printed = {}
for command in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
        main([*command.split(), "--help"])
    heavy = sorted({"torch", "numpy", "sklearn", "pandas", "matplotlib"} & set(sys.modules))
    printed[command] = text.getvalue(), heavy
print(json.dumps(printed))
"""


@pytest.fixture(scope="module")
def helps() -> dict[str, tuple[str, list[str]]]:
    """What each command's help prints in a new interpreter, and what heavy modules are loaded after it."""
    helps: dict[str, tuple[str, list[str]]] = json.loads(python(HELP, "", *sorted(main.commands)))
    return helps


@pytest.mark.parametrize("command", ["", *sorted(main.commands)])
def test_every_help_answers_without_torch(helps: dict[str, tuple[str, list[str]]], command: str) -> None:
    text, heavy = helps[command]
    assert heavy == []
    assert text.startswith("Usage: ")
    for option in main.commands[command].params if command else []:
        if isinstance(option, click.Option):
            assert option.opts[-1] in text


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
    evaluated = json.loads(
        run("evaluate", "X.npy", "--labels", "y.npy", "--model", table_model, "--score", name, "--json").stdout
    )
    auc = roc_auc_score(np.load("y.npy"), table["anomaly_score"])
    assert evaluated["test"]["roc_auc"]["value"] == pytest.approx(auc)
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit"], "say which classes are normal, such as --normal 0,1,2, or give --data"),
        (["fit", "--normal", "0,,1"], "'0,,1' is not a list of names"),
        (["fit", "--normal", "0", "--dataset", "cifar"], "'cifar' is not one of"),
        (["fit", "--normal", "0", "--epochs", "0"], "0 is not in the range x>=1"),
        (["fit", "--normal", "0", "--labels", "."], "--id-column, --group-column and --time-column go with --data"),
        (["fit", "--data", "missing.npy"], "'missing.npy' does not exist"),
        (["fit", "--data", ".", "--dataset", "digits"], "not both"),
        (["fit", "--normal", "0", "--contamination", "0.9"], "neither 'auto' nor a number in (0, 0.5]"),
        (["fit", "--normal", "0", "--scores", "s.xlsx"], "s.xlsx is none of .csv, .jsonl, .npy, .parquet"),
        (["fit", "--normal", "0", "--image-shape", "28"], "not a shape such as 28x28"),
        (["fit", "--normal", "0", "--data-dir", "nowhere"], "'nowhere' does not exist"),
        (["score"], "Missing argument 'DATA...'"),
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
    np.save("inf.npy", np.array([[1.0, np.inf]]))
    np.save("y.npy", np.arange(20) % 3)
    np.save("short.npy", np.zeros(3, int))
    np.save("flags.npy", np.arange(64) % 2)
    np.save("images.npy", np.zeros((64, 8, 8)))
    Path("broken.vae").write_bytes(table_model.read_bytes()[:-100])
    cases = {
        "no samples of class 12; its classes are 0, 1": ("fit", "--normal", "0,12", "--dataset", "digits"),
        "row 0, column 1 is inf": ("fit", "--data", "inf.npy"),
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
