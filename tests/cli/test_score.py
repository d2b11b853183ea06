"""``vae-anomaly score``, by the files it makes and the messages it gives."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers import python, run
from vae_anomaly import VAEDetector
from vae_anomaly.cli import options

QUICK = ["--epochs", "3", "--no-report"]

pytestmark = pytest.mark.usefixtures("own_folder")


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
    assert list(scores.columns) == ["row", "anomaly_score", "decision", "p_value", "reconstruction", "kl"]
    np.testing.assert_array_equal(scores["anomaly_score"], -VAEDetector.load(table_model).score_samples(X))


def test_scores_do_not_depend_on_the_chunks(table_model: Path, make_table, monkeypatch: pytest.MonkeyPatch) -> None:
    pd.DataFrame(make_table(1500, seed=1)).to_csv("X.csv", index=False, header=False)
    whole = run("score", "X.csv", "--model", table_model).stdout
    monkeypatch.setattr(options, "CHUNK_BYTES", 8 * 6 * 7)
    assert run("score", "X.csv", "--model", table_model).stdout == whole
    with open("X.csv", "rb") as file:
        assert run("score", "-", "--model", table_model, input=file.read()).stdout == whole
    assert whole.splitlines()[-1].startswith("1499,")


def test_score_reads_a_pipe_and_survives_a_closed_one(table_model: Path, make_table) -> None:
    pd.DataFrame(make_table(50_000, seed=1)).to_csv("X.csv", index=False, header=False)
    command = f"{sys.executable} -m vae_anomaly.cli score - --model {table_model} < X.csv | head -n 2"
    result = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)
    assert len(result.stdout.splitlines()) == 2
    assert result.stderr == "note: standard input is read with no header (columns are named 0 to 5)\n"


def test_fdr_decides_all_samples_together(table_model: Path, make_table, monkeypatch: pytest.MonkeyPatch) -> None:
    from vae_anomaly.calibration.conformal import benjamini_hochberg

    np.save("X.npy", np.vstack([make_table(80, seed=1), 20 * make_table(60, seed=2)]))
    whole = run("score", "X.npy", "--model", table_model, "--fdr", "0.1").stdout
    scores = pd.read_csv(io.StringIO(whole))
    flagged = benjamini_hochberg(scores["p_value"].to_numpy(), 0.1)
    assert 0 < flagged.sum() < 140
    np.testing.assert_array_equal(scores["decision"], flagged.astype(int))
    monkeypatch.setattr(options, "CHUNK_BYTES", 8 * 6 * 7)
    assert run("score", "X.npy", "--model", table_model, "--fdr", "0.1").stdout == whole


def test_arbitrary_dependence_decides_by_e_values_and_coarse_p_values_are_a_warning(make_table) -> None:
    from vae_anomaly import VAEDetector
    from vae_anomaly.calibration.e_values import e_benjamini_hochberg, e_values

    detector = VAEDetector(prior="normal", epochs=2).fit(make_table(200))
    detector.save("m.vae")
    np.save("X.npy", np.vstack([make_table(5, seed=1), 20 * make_table(60, seed=2)]))
    found = run("score", "X.npy", "--model", "m.vae", "--fdr", "0.5", "--dependence", "arbitrary")
    assert found.exit_code == 0, found.output
    scores = pd.read_csv(io.StringIO(found.stdout))
    n = len(detector.calibration_scores_)
    flagged = e_benjamini_hochberg(e_values(scores["p_value"].to_numpy(), n), 0.5)
    assert 0 < flagged.sum() < 65
    np.testing.assert_array_equal(scores["decision"], flagged.astype(int))
    assert "warning: of 65 samples decided together at --fdr 0.5, none or at least " in found.stderr
    none = run("score", "X.npy", "--model", "m.vae", "--fdr", "0.001")
    assert "none can be flagged, since 20 held-out normals give no p-value below 0.048" in none.stderr
    assert pd.read_csv(io.StringIO(none.stdout))["decision"].sum() == 0
    alone = run("score", "X.npy", "--model", "m.vae", "--dependence", "arbitrary")
    assert alone.exit_code == 2
    assert "--dependence goes with --fdr" in alone.stderr


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


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["s.csv"],
        ["s.jsonl"],
        ["s.npy"],
        ["s.csv", "--resume"],
        ["s.csv", "--stream", "--fdr", "0.5", "--state", "s.json"],
    ],
    ids=" ".join,
)
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
    assert python(code, *arguments).startswith("row,anomaly_score,") != bool(words)
