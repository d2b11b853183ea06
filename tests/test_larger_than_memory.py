"""Fits of what memory does not hold: the rules of those in memory, on any kind of file, within a measured bound."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from sklearn.metrics import roc_auc_score

from helpers import Make, run
from vae_anomaly import VAEDetector
from vae_anomaly.cli.data import row_bar
from vae_anomaly.datasets import load_named, locate
from vae_anomaly.errors import DataError
from vae_anomaly.fitting import batches as shuffling
from vae_anomaly.fitting import exemplars, fit, mixture, post_training, prior_fit, recipe
from vae_anomaly.model.priors import exemplars as prior_exemplars
from vae_anomaly.scoring import BLOCK_ROWS
from vae_anomaly.storage import rows
from vae_anomaly.storage.rows import RowsOnDisk
from vae_anomaly.storage.spool import spool

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is too large to load, blocks and samples are small, and reading more than scores do at once fails."""
    monkeypatch.setattr(rows, "LOADED_BYTES", 0)
    monkeypatch.setattr(rows, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(rows, "SAMPLE_ROWS", 50)
    for module, names in {
        exemplars: ("LIKELIHOOD_ROWS",),
        prior_exemplars: ("MAX_EXEMPLARS", "MORE_EXEMPLARS"),
        mixture: ("MIXTURE_ROWS",),
        post_training: ("MAX_ROWS", "LIKELIHOOD_ROWS"),
        prior_fit: ("MORE_ROWS",),
    }.items():
        for name in names:
            monkeypatch.setattr(module, name, 100)
    monkeypatch.setattr(shuffling, "CHUNK_ROWS", 4)
    monkeypatch.setattr(shuffling, "WINDOW_CHUNKS", 8)
    read = RowsOnDisk.read

    def bounded(self: RowsOnDisk, index: np.ndarray, out: np.ndarray) -> None:
        assert len(index) <= BLOCK_ROWS, "read too much at once"
        read(self, index, out)

    monkeypatch.setattr(RowsOnDisk, "read", bounded)


def scores(detector: VAEDetector, X: np.ndarray) -> np.ndarray:
    return detector.set_params(score_name="combined").score_samples(X)


@pytest.mark.parametrize("kind", ["f8", "f4", "i4", "images"])
def test_what_is_small_is_fitted_as_an_array_is(make_table: Make, make_images: Make, kind: str) -> None:
    X = make_images(80) if kind == "images" else (10 * make_table()).astype(kind)
    np.save("X.npy", X)
    whole = VAEDetector(epochs=2).fit(X)
    for again in (
        VAEDetector(epochs=2).fit_file("X.npy"),
        VAEDetector(epochs=2).fit_batches(np.array_split(X, 7)),
    ):
        np.testing.assert_array_equal(scores(again, X), scores(whole, X))
        assert again.image_shape_ == whole.image_shape_
        assert again.calibrations_ == whole.calibrations_


@pytest.mark.usefixtures("nothing_is_loaded")
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"prior": "mixture"},
        {"prior": "normal", "preprocessing": "unit_range", "validation_fraction": 0.4},
        {"preprocessing": "standardize_globally", "contamination": 0.2},
        {"architecture": "article"},
    ],
)
def test_no_part_of_a_fit_reads_all_at_once(make_table: Make, parameters: dict[str, Any]) -> None:
    X = make_table(1000)
    np.save("X.npy", X)
    fitted = VAEDetector(epochs=2, **parameters).fit_file("X.npy")
    by_batches = VAEDetector(epochs=2, **parameters).fit_batches(np.array_split(X, 3))
    np.testing.assert_array_equal(scores(fitted, X), scores(by_batches, X))
    fitted.save("model.vae")
    np.testing.assert_array_equal(scores(VAEDetector.load("model.vae"), X), scores(fitted, X))
    assert not np.array_equal(scores(VAEDetector(epochs=2, **parameters).fit(X), X), scores(fitted, X))
    if "contamination" in parameters:
        assert (fitted.set_params(score_name="elbo").predict(X) == -1).mean() == pytest.approx(0.2, abs=0.005)


@pytest.mark.usefixtures("nothing_is_loaded")
@pytest.mark.parametrize("held", [1000, 30])
def test_held_out_rows_are_bounded_drawn_from_everywhere_and_never_trained_on(
    make_table: Make, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    monkeypatch.setattr(rows, "MEMORY_BYTES", held * 48)
    X, parts = make_table(1000), []
    split = fit.split

    def remembered(*arguments: Any) -> Any:
        parts.append(split(*arguments))
        return parts[-1]

    monkeypatch.setattr(fit, "split", remembered)
    fitted = VAEDetector(epochs=1).fit_batches([X])
    ((_, validation, calibration, _),) = parts
    with spool([X], "again") as again:
        training, *held_out = split(again, 0.1, 0.1, torch.Generator().manual_seed(1))[:3]
        together = np.concatenate([training[:500], training[500:], *(part.values for part in held_out)])
        np.testing.assert_array_equal(together[np.lexsort(together.T)], X[np.lexsort(X.T)])
    assert len(validation) == len(calibration) == len(fitted.calibration_scores_) == min(held, 100)
    places = np.flatnonzero((X[:, None] == calibration.values).all(axis=-1).any(axis=1))
    assert places.min() < 150
    assert places.max() > 850
    np.testing.assert_array_equal(
        np.sort(fitted.score_samples(calibration.values)), np.sort(fitted.calibration_scores_)
    )


@pytest.mark.usefixtures("nothing_is_loaded")
def test_statistics_are_those_of_the_rows_trained_on(make_table: Make) -> None:
    X = make_table(1000) * 7 + 3
    on_disk = VAEDetector(epochs=1, validation_fraction=0.01, calibration_fraction=0.01).fit_batches([X])
    np.testing.assert_allclose(on_disk.vae_.scaling.loc, X.mean(axis=0), atol=0.3)
    np.testing.assert_allclose(on_disk.vae_.scaling.scale, X.std(axis=0), rtol=0.02)
    X = np.clip(X, -50, 50)
    X[5] = -60
    X[6] = 90
    ranged = VAEDetector(epochs=1, preprocessing="unit_range").fit_batches([X]).vae_.scaling
    assert (float(ranged.loc), float(ranged.scale)) == (-60, 150)


@pytest.mark.usefixtures("nothing_is_loaded")
def test_a_model_from_disk_finds_anomalies(make_images: Make) -> None:
    X = make_images(600)
    fitted = VAEDetector(epochs=20).fit_batches(np.array_split(X, 5))
    assert fitted.image_shape_ == (9, 8, 1)
    new = make_images(200, seed=1)
    odd = new[:, :, ::-1].transpose(0, 2, 1).reshape(new.shape)
    anomaly_score = -fitted.score_samples(np.concatenate([new, odd]))
    assert roc_auc_score(np.repeat([0, 1], 200), anomaly_score) > 0.95


@pytest.mark.usefixtures("nothing_is_loaded")
def test_column_names_reach_the_model(make_table: Make) -> None:
    frame = pd.DataFrame(make_table(), columns=list("abcdef"))
    fitted = VAEDetector(epochs=1).fit_batches([frame[:50], frame[50:]])
    assert fitted.feature_names_in_.tolist() == list("abcdef")
    assert fitted.fit_batches([make_table()]).n_features_in_ == 6
    assert not hasattr(fitted, "feature_names_in_")


def test_scores_of_batches_are_those_of_the_whole(table_detector: VAEDetector, make_table: Make) -> None:
    X = make_table(700)
    batches = table_detector.score_batches(iter(np.array_split(X, 9)))
    first = next(batches)
    assert first.shape == (78,)
    np.testing.assert_array_equal(np.concatenate([first, *batches]), table_detector.score_samples(X))


@pytest.mark.usefixtures("nothing_is_loaded")
def test_bad_data_and_parameters_are_refused(make_table: Make) -> None:
    X = make_table()
    for n in (1, 2):
        with pytest.raises(DataError, match=rf"the data: has {n} sample\(s\), and a minimum of 3 is required"):
            VAEDetector().fit_batches([X[:n]])
    with pytest.raises(DataError, match="of 4 samples, .* leave none to train on: lower them"):
        VAEDetector(validation_fraction=0.9).fit_batches([X[:4]])
    with pytest.raises(DataError, match=r"needs values in \[0.0, 1.0\] after preprocessing"):
        VAEDetector(likelihood="bernoulli", preprocessing="none").fit_batches([X])
    with pytest.raises(DataError, match=r"image_shape=\(2, 2\) has 4 pixels, the samples have 6 features"):
        VAEDetector(image_shape=(2, 2)).fit_batches([X])
    with pytest.raises(DataError, match="too large to take their mean"):
        VAEDetector().fit_batches([np.sign(X) * 1.7e308])
    with pytest.raises(DataError, match="none.npy does not exist"):
        VAEDetector().fit_file("none.npy")


def test_passes_over_what_is_on_disk_are_bounded_by_steps(make_table: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "MAX_STEPS_FROM_DISK", 5)
    X = make_table(400)  # 320 to train: three steps a pass
    assert len(VAEDetector(patience=1).fit(X).history_) > 20
    monkeypatch.setattr(rows, "LOADED_BYTES", 0)
    assert len(VAEDetector().fit_batches([X]).history_) == 2
    assert len(VAEDetector(epochs=3).fit_batches([X]).history_) == 3


KINDS = ("npy", "csv", "parquet", "zarr")


def labelled(make_table: Make) -> tuple[np.ndarray, np.ndarray]:
    X, y = make_table(500), np.zeros(500, dtype=int)
    y[::10] = 1
    X[::10] += np.random.default_rng(1).normal(scale=5, size=(50, 6))
    return X, y


def write(kind: str, X: np.ndarray, y: np.ndarray) -> list[str]:
    """The options that name the data and its labels."""
    frame = pd.DataFrame(X, columns=list("abcdef")).assign(label=y)
    pd.Series(y).to_csv("labels.csv", index=False, header=False)
    if kind == "npy":
        np.save("X.npy", X)
    elif kind == "zarr":
        zarr.create_array("X.zarr", data=X, chunks=(64, 6), overwrite=True)
    elif kind == "csv":
        frame.to_csv("X.csv", index=False)
        return ["--data", "X.csv", "--label-column", "label"]
    else:
        frame.to_parquet("X.parquet", row_group_size=77)
        return ["--data", "X.parquet", "--label-column", "label"]
    return ["--data", f"X.{kind}", "--labels", "labels.csv"]


@pytest.mark.parametrize("loaded", [True, False])
def test_the_command_gives_the_same_for_any_kind_of_file(
    make_table: Make, monkeypatch: pytest.MonkeyPatch, loaded: bool
) -> None:
    if not loaded:
        monkeypatch.setattr(rows, "LOADED_BYTES", 0)
    found = []
    for kind in KINDS:
        result = run("fit", *write(kind, *labelled(make_table)), "--epochs", 15, "--json", "--no-report")
        assert result.exit_code == 0, result.output
        summary = json.loads(result.stdout)
        assert summary["data"].get("on_disk", False) != loaded
        assert summary["data"]["n_normal"] == 360
        auc = summary["test"]["roc_auc"]
        assert auc["value"] > 0.95
        assert (auc["n_normal"], auc["n_anomalous"]) == (90, 50)
        found.append(pd.read_csv("model.scores.csv"))
        pd.testing.assert_frame_equal(found[-1], found[0], check_exact=True)


@pytest.mark.usefixtures("nothing_is_loaded")
def test_the_test_part_is_bounded_too(make_table: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MEMORY_BYTES", 20 * 48)
    result = run("fit", *write("npy", *labelled(make_table)), "--epochs", 2, "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    auc = summary["test"]["roc_auc"]
    assert (auc["n_normal"], auc["n_anomalous"], summary["data"]["n_normal"]) == (20, 20, 430)
    assert Path(summary["files"]["report"]).exists()


@pytest.mark.usefixtures("nothing_is_loaded")
def test_without_labels_the_report_has_all_rows_and_the_true_worst(make_table: Make) -> None:
    X = make_table(500)
    np.save("X.npy", X)
    result = run("fit", "--data", "X.npy", "--epochs", 2)
    assert result.exit_code == 0, result.output
    assert "500 normal samples, 6 features; 10% held out" in result.stdout
    assert "set the threshold, at most 20,000 samples or 32 MiB each, the rest read from disk" in result.stdout
    scores = pd.read_csv("model.report/scores.csv")
    assert scores["row"].tolist() == list(range(500))
    worst = scores["anomaly_score"].idxmax()
    assert json.loads(Path("model.report/report.json").read_text())["gallery"]["most anomalous"][0] == worst
    assert "these are all 500 samples given" in Path("model.report/report.html").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_names_what_is_not_finite(make_table: Make, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(rows, "LOADED_BYTES", 0)
    X, y = labelled(make_table)
    X[487, 2] = np.inf
    result = run("fit", *write(kind, X, y))
    assert result.exit_code == 1
    assert re.fullmatch(rf"Error: X.{kind}: row 487, column (2|'c'|c) is inf: fill in or drop.*\n", result.stderr)
    assert not Path("model.vae").exists()


@pytest.mark.parametrize(("kind", "total"), [("npy", 500), ("parquet", 500), ("zarr", 500), ("csv", None)])
def test_the_bar_knows_its_end_where_the_file_does(make_table: Make, kind: str, total: int | None) -> None:
    write(kind, *labelled(make_table))
    with row_bar(Path(f"X.{kind}"), "scoring") as bar:
        assert bar.total == total


def test_labels_that_do_not_fit_are_refused_on_disk_too(make_table: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "LOADED_BYTES", 0)
    arguments = write("npy", *labelled(make_table))
    Path("labels.csv").write_text("0\n1\n")
    assert "labels.csv has 2 labels, X.npy has 500 samples" in run("fit", *arguments).stderr
    assert "--label-column is for .csv" in run("fit", "--data", "X.npy", "--label-column", "a").stderr
    assert "--normal needs labels" in run("fit", "--data", "X.npy", "--normal", "1").stderr


MEASURED = """
import re, sys
import pandas, torch
import vae_anomaly.reports
from vae_anomaly import VAEDetector
from vae_anomaly.cli import main
from vae_anomaly.cli.data import row_bar

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

before = peak()
main(sys.argv[1:], standalone_mode=False)
print(peak() - before, file=sys.stderr)
"""


def added_mebibytes(*arguments: object) -> float:
    words = [sys.executable, "-P", "-c", MEASURED, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    result = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    return float(result.stderr.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to measure the peak of memory")
def test_memory_stays_bounded_whatever_the_file_has(make_table: Make, capsys: pytest.CaptureFixture[str]) -> None:
    shape = (400_000, 784)
    with open("large.npy", "wb") as file:  # sparse, but for a real block at every hundredth part
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        start, rng = file.tell(), np.random.default_rng(0)
        for row in range(0, shape[0], shape[0] // 100):
            file.seek(start + row * 4 * shape[1])
            file.write(rng.random((100, shape[1]), dtype=np.float32).data)
        file.truncate(start + 4 * shape[0] * shape[1])
    assert Path("large.npy").stat().st_size > rows.LOADED_BYTES
    fit = added_mebibytes("fit", "--data", "large.npy", "--architecture", "article", "--epochs", 1)
    score = added_mebibytes("score", "large.npy", "--output", "scores.npy")
    with capsys.disabled():
        print(f"\nadded {fit:.0f} MiB by fit and {score:.0f} MiB by score, {Path('large.npy').stat().st_size:,} bytes")
    assert fit < 600
    assert score < 400


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to measure the peak of memory")
def test_scoring_a_table_takes_no_more_memory_for_more_rows(make_table: Make) -> None:
    np.save("some.npy", make_table(4_000, 64).astype("f4"))
    assert run("fit", "--data", "some.npy", "--epochs", 1, "--no-report").exit_code == 0
    np.save("many.npy", make_table(100_000, 64).astype("f4"))
    few, many = (added_mebibytes("score", name, "--output", "scores.npy") for name in ("some.npy", "many.npy"))
    assert many < few + 150  # for 24 MiB of data; half a GiB where freed blocks are not used again


@pytest.mark.slow
def test_rows_on_disk_train_as_good_a_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if locate("mnist") is None:
        pytest.skip("MNIST is not on disk")
    training, test = load_named("mnist")
    assert training.labels is not None
    assert test.labels is not None
    X = training.X[np.isin(training.labels, ["0", "1", "2"])]
    anomalous = ~np.isin(test.labels, ["0", "1", "2"])
    detectors = [VAEDetector(epochs=12, random_state=seed) for seed in range(2)]

    def mean_roc_auc() -> float:
        return float(np.mean([roc_auc_score(anomalous, -detector.score_samples(test.X)) for detector in detectors]))

    for detector in detectors:
        detector.fit(X)
    in_memory = mean_roc_auc()
    monkeypatch.setattr(rows, "LOADED_BYTES", 0)
    monkeypatch.setattr(shuffling, "CHUNK_BYTES", 1 << 16)  # as many windows as a much larger file has
    monkeypatch.setattr(shuffling, "WINDOW_CHUNKS", 16)
    for detector in detectors:
        detector.fit_batches(np.array_split(X, 9))
    from_disk = mean_roc_auc()
    with capsys.disabled():
        print(f"\nROC-AUC {in_memory:.4f} in memory, {from_disk:.4f} from disk")
    assert from_disk > in_memory - 0.002  # single seeds are up to 0.0024 apart, either way
