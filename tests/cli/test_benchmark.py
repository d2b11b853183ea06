"""``benchmark``: every protocol ends in a table, and a run that was cut ends in the same one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor

from helpers import run
from vae_anomaly import VAEDetector
from vae_anomaly.benchmark import run as benchmark
from vae_anomaly.benchmark.corruptions import CORRUPTIONS
from vae_anomaly.benchmark.peers import PEERS, Neighbours, Peer, scaled_rows
from vae_anomaly.benchmark.planted import ERRORS
from vae_anomaly.cli.benchmark import chosen_methods
from vae_anomaly.datasets import NAMED, load_named

FAST = "pca,1-nn,isolation_forest"


def command(*arguments: object) -> Result:
    return run("benchmark", *arguments)


@pytest.fixture(autouse=True)
def no_data(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VAE_ANOMALY_DATA", raising=False)
    monkeypatch.setenv("VAE_ANOMALY_CACHE", str(own_folder / "cache"))


DIGITS = ("--dataset", "digits", "--methods", FAST)


@pytest.mark.parametrize(
    ("arguments", "cases", "tests"),
    [
        (["one-class", *DIGITS, "--cases", "8,1"], ["8", "1"], ["all"]),
        (["multi", "--dataset", "digits", "--normal", "0,1,2", "--methods", FAST], ["0+1+2"], ["all", *"3456789"]),
        (["leave-one-out", *DIGITS, "--quick"], ["0", "1"], ["all"]),
        (["ood", *DIGITS], ["digits"], list(CORRUPTIONS)),
    ],
)
def test_every_image_protocol_ends_in_three_files(arguments: list[str], cases: list[str], tests: list[str]) -> None:
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    protocol, seeds = arguments[0], 1 if "--quick" in arguments else 3
    table = pd.read_csv(f"benchmark/{protocol}.csv", dtype={"case": str})
    assert table["case"].unique().tolist() == cases
    assert table["test"].unique().tolist() == tests
    runs = table.groupby("method")["seed"].agg(lambda seed: sorted(set(seed)))
    assert runs.to_dict() == {"pca": [0], "1-nn": [0], "isolation_forest": list(range(seeds))}
    content = json.loads(Path(f"benchmark/{protocol}.json").read_text())
    assert set(content) == {"command", "date", "settings", "environment", "summary", "records"}
    assert content["command"] == " ".join(["vae-anomaly benchmark", *arguments])
    assert content["environment"]["packages"]["torch"]
    assert len(content["records"]) == len(table)
    text = Path(f"benchmark/{protocol}.md").read_text()
    assert "## ROC-AUC" in text
    assert result.stdout.split("\n\n")[-2] in text
    assert ("quick look" in text) == ("quick look" in result.stdout) == ("--quick" in arguments)


def test_defects_are_in_images_that_are_made_and_in_digits() -> None:
    arguments = ("--dataset", "digits", "--methods", "pca-30,isolation_forest", "--seeds", 2, "--side", 32)
    result = command("defects", *arguments, "--cases", "digit-7,weave")
    assert result.exit_code == 0, result.output
    table = pd.read_csv("benchmark/defects.csv")
    assert table.groupby("case", sort=False)["test"].unique().map(list).to_dict() == {
        "digit-7": ["spot", "missing_piece"],
        "weave": ["blob", "scratch", "missing_thread"],
    }
    assert set(table["seed"]) == {0, 1}
    assert table.loc[table["score"] == "own", "region_overlap"].isna().all()
    assert table.loc[table["score"] == "largest_of_map", "region_overlap"].between(0, 1).all()
    text = Path("benchmark/defects.md").read_text()
    sections = dict(section.split("\n", 1) for section in text.split("\n## ")[1:])
    assert "isolation_forest" in sections["False alarms at 5 %, weave"]
    assert "isolation_forest" not in sections["Per-region overlap (PRO), weave"]
    assert "] |" in sections["ROC-AUC, digit-7 with 95 % interval"]


def test_blurred_images_look_more_normal_to_a_likelihood_but_not_to_ours() -> None:
    arguments = ("--dataset", "digits", "--methods", "vae,vae-plain,pca", "--scores", "elbo", "--quick")
    assert command("ood", *arguments).exit_code == 0
    table = pd.read_csv("benchmark/ood.csv").set_index(["method", "test"])["roc_auc"]
    assert table[("vae-plain", "blurred")] < 0.5
    assert table[("pca", "blurred")] < 0.5
    assert table[("vae", "blurred")] > 0.5  # a blur of half a pixel, at 8 x 8
    assert (table["vae"].drop("blurred") > 0.99).all()
    assert "**0." in Path("benchmark/ood.md").read_text()


def test_data_sets_are_set_against_each_other_in_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NAMED, "twin", NAMED["digits"])
    assert command("ood", "--dataset", "digits", "--methods", "1-nn").exit_code == 0
    table = pd.read_csv("benchmark/ood.csv").set_index(["case", "test"])
    assert len(table) == 2 * (1 + len(CORRUPTIONS))
    assert table.loc[("digits", "twin"), "roc_auc"] == table.loc[("twin", "digits"), "roc_auc"] == pytest.approx(0.5)
    text = Path("benchmark/ood.md").read_text()
    assert "## ROC-AUC, digits normal" in text
    assert "## ROC-AUC, twin normal" in text


def test_pyod_takes_part_where_it_is_installed() -> None:
    pytest.importorskip("pyod")
    methods = "pyod_ecod,pyod_knn,pyod_autoencoder"
    result = command("one-class", "--dataset", "digits", "--methods", methods, "--cases", "0", "--quick")
    assert result.exit_code == 0, result.output
    assert (pd.read_csv("benchmark/one-class.csv").set_index("method")["roc_auc"][methods.split(",")] > 0.5).all()


def test_the_detector_takes_part_with_its_defaults() -> None:
    arguments = ("--dataset", "digits", "--methods", "vae", "--scores", "elbo", "--cases", "0", "--quick")
    result = command("one-class", *arguments)
    assert result.exit_code == 0, result.output
    (record,) = pd.read_csv("benchmark/one-class.csv").to_dict("records")
    training, test = load_named("digits")
    detector = VAEDetector(random_state=0, score_name="elbo").fit(training.X[training.labels == "0"])
    some = np.sort(np.random.default_rng(0).permutation((test.labels != "0").sum())[: benchmark.QUICK_ROWS])
    X = np.concatenate([test.X[test.labels == "0"], test.X[test.labels != "0"][some]])
    y = np.repeat([0, 1], [(test.labels == "0").sum(), len(some)])
    assert record["score"] == "elbo"
    assert record["roc_auc"] == pytest.approx(roc_auc_score(y, -detector.score_samples(X)))


def test_tables_of_a_folder(own_folder: Path, make_table) -> None:
    (own_folder / "tables").mkdir()
    for name in ("b", "a"):
        X = np.concatenate([make_table(60), np.random.default_rng(0).normal(size=(20, 6))])
        np.savez(own_folder / "tables" / f"{name}.npz", X=X, y=np.repeat([0, 1], [60, 20]))
    result = command("tabular", "--data", "tables", "--methods", "pca,isolation_forest")
    assert result.exit_code == 0, result.output
    table = pd.read_csv("benchmark/tabular.csv")
    assert len(table) == 2 * 2 * 5
    assert (table["n_train"] == 30).all()
    assert table["case"].unique().tolist() == ["a", "b"]
    assert pd.read_json("benchmark/tabular.json", typ="series")["summary"][-1]["std_over_seeds"] > 0


def write_tables(folder: Path, make_table) -> None:
    """Two .npz files of 60 normal rows and 6 others."""
    folder.mkdir()
    for name in ("b", "a"):
        X = np.concatenate([make_table(60), 4 * np.random.default_rng(0).normal(size=(6, 6))])
        np.savez(folder / f"{name}.npz", X=X, y=np.repeat([0, 1], [60, 6]))


def test_contaminated_tables_are_learnt_from_whole(own_folder: Path, make_table) -> None:
    write_tables(own_folder / "tables", make_table)
    result = command("contaminated", "--data", "tables", "--methods", "lof,pca", "--seeds", 2)
    assert result.exit_code == 0, result.output
    table = pd.read_csv("benchmark/contaminated.csv")
    assert len(table) == 2 * 2 * 2
    assert set(zip(table["n_train"], table["n_normal"], table["n_anomalous"], strict=True)) == {(66, 60, 6)}
    with np.load("tables/a.npz") as arrays:
        X, y = arrays["X"], arrays["y"]
    flags = LocalOutlierFactor().fit_predict(scaled_rows(X)(X)) == -1
    record = table[(table["case"] == "a") & (table["method"] == "lof")].iloc[0]
    assert record["flagged"] == pytest.approx(flags.mean())
    assert record["anomalies_flagged"] == pytest.approx(flags[y == 1].mean())
    assert record["others_flagged"] == pytest.approx(flags[y == 0].mean())
    assert table.loc[table["method"] == "pca", "flagged"].isna().all()
    assert "| Share flagged | Anomalies flagged | Other rows flagged |" in Path("benchmark/contaminated.md").read_text()


def test_errors_are_planted_among_the_normal_rows_of_a_folder(own_folder: Path, make_table) -> None:
    write_tables(own_folder / "tables", make_table)
    arguments = ["planted", "--data", "tables", "--methods", "lof,pca", "--seeds", 1, "--errors", 3]
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    table = pd.read_csv("benchmark/planted.csv")
    assert table["test"].unique().tolist() == [kind for kind in ERRORS if kind != "swapped_category"]
    assert set(zip(table["n_train"], table["n_normal"], table["n_anomalous"], strict=True)) == {(60, 57, 3)}
    assert "## ROC-AUC, a\n" in Path("benchmark/planted.md").read_text()
    again = command(*arguments[:-1], 4)
    assert again.exit_code == 1
    assert "differs in errors (3 there, 4 here)" in again.stderr


def test_errors_are_planted_in_a_table_of_ones_own(own_folder: Path) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"size": rng.normal(9, 1, 80).round(1), "colour": rng.choice(["red", "blue"], 80)})
    table["weight"] = (2 * table["size"] + rng.normal(size=80)).round(2)
    table["wrong"] = np.repeat([0, 1], [70, 10])
    table.loc[3, "weight"] = None
    table.to_csv("own.csv", index=False)
    shared = ["planted", "--data", "own.csv", "--label-column", "wrong", "--methods", "isolation_forest", "--seeds", 1]
    result = command(*shared, "--kinds", "swapped_category,sentinel")
    assert result.exit_code == 0, result.output
    found = pd.read_csv("benchmark/planted.csv").set_index("test")
    assert found.index.tolist() == ["swapped_category", "sentinel"]
    assert found["n_train"].tolist() == [70, 70]
    assert found.loc["sentinel", "roc_auc"] > 0.9
    numbers = command(*shared, "--only-numbers", "--kinds", "swapped_category", "--output", "other")
    assert numbers.exit_code == 1
    assert "only 0 of 70 rows can have an error swapped_category" in numbers.stderr


@pytest.mark.parametrize("protocol", ["tabular", "contaminated"])
def test_a_table_without_labels_is_refused(own_folder: Path, protocol: str) -> None:
    np.save("own.npy", np.zeros((9, 2)))
    result = command(protocol, "--data", "own.npy", "--methods", "pca")
    assert result.exit_code == 1
    assert "own.npy has no labels: needs y, 1 = anomaly (--label-column names" in result.stderr


def without_times(path: str) -> pd.DataFrame:
    return pd.read_csv(path).drop(columns=["fit_seconds", "score_seconds"])


def test_a_run_that_was_cut_goes_on_and_ends_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["one-class", *DIGITS, "--cases", "3,4"]
    assert command(*arguments).exit_code == 0
    whole = without_times("benchmark/one-class.csv")
    log = Path("benchmark/one-class.records.jsonl")
    lines = log.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + 2 * (1 + 1 + 3)
    log.write_bytes(b"".join(lines[:5]) + lines[5][:30])
    for path in Path("benchmark").glob("one-class.[cm]*"):
        path.unlink()

    fitted = []
    original: Callable[..., Any] = benchmark.fit_peer
    monkeypatch.setattr(benchmark, "fit_peer", lambda X, *who: fitted.append(who) or original(X, *who))
    assert command(*arguments).exit_code == 0
    assert fitted == [("isolation_forest", 2)] + [("pca", 0), ("1-nn", 0)] + [("isolation_forest", i) for i in range(3)]
    pd.testing.assert_frame_equal(without_times("benchmark/one-class.csv"), whole)

    fitted.clear()
    assert command(*arguments).exit_code == 0
    assert fitted == []
    assert command(*arguments, "--fresh").exit_code == 0
    assert len(fitted) == 10


class Broken(Neighbours):
    def fit(self, X: np.ndarray) -> Any:
        raise MemoryError("no\nroom")


def test_what_failed_is_reported_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEERS, "broken_fit", Peer(lambda seed: Broken(1)))
    arguments = ["one-class", "--dataset", "digits", "--cases", "0", "--methods", "broken_fit,pca"]
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    assert "1 of 1" in result.stdout
    assert "- broken_fit, 0, seed 0: MemoryError: no room" in Path("benchmark/one-class.md").read_text()
    monkeypatch.setitem(PEERS, "broken_fit", PEERS["1-nn"])
    assert "1 of 1" not in command(*arguments).stdout
    assert len(pd.read_csv("benchmark/one-class.csv")) == 2


def test_other_settings_in_the_same_folder_are_refused() -> None:
    arguments = ["one-class", *DIGITS, "--cases", "0"]
    assert command(*arguments, "--quick").exit_code == 0
    result = command(*arguments)
    assert result.exit_code == 1
    assert (
        "belongs to another run, which differs in quick (True there, False here): give another --output"
        in result.stderr
    )
    assert "--fresh" in result.stderr
    assert command(*arguments, "--fresh").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tabular"], "tabular, contaminated and planted need --data"),
        (["one-class", "--data", "."], "tabular, contaminated and planted need --data"),
        (["one-class", *DIGITS, "--normal", "0"], "--normal goes with multi"),
        (["one-class", *DIGITS, "--cases", "0,eleven"], "no case eleven: there are 0, 1, 2"),
        (["multi", *DIGITS, "--normal", "eleven"], "no samples of class eleven"),
        (["one-class", "--dataset", "digits", "--methods", "magic"], "no method 'magic'"),
        (["one-class", *DIGITS, "--scores", "magic"], "no score magic: there are elbo"),
        (["tabular", "--data", "."], "holds no .npz files"),
        (["planted", "--data", ".", "--kinds", "magic"], "no kind magic: there are transposed_digits"),
        (["tabular", "--data", ".", "--kinds", "sentinel"], "--kinds goes with planted"),
        (["planted"], "planted need --data"),
        (["contaminated", "--data", ".", "--errors", 3], "--errors goes with planted"),
        (["defects", *DIGITS, "--side", 20], "defects need at least 32 pixels"),
        (["one-class", *DIGITS, "--side", 64], "--side goes with defects"),
        (["defects", "--data", "."], "tabular, contaminated and planted need --data"),
        (["one-class", *DIGITS, "--only-numbers"], "--only-numbers goes with contaminated, planted"),
    ],
)
def test_mistakes_are_one_message(arguments: list[object], message: str) -> None:
    result = command(*arguments)
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not Path("benchmark").exists()


def test_all_methods_means_those_that_are_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert chosen_methods(("all",)) == ["vae", *(name for name, peer in PEERS.items() if peer.requires is None)]
    assert "left out, PyOD is not installed: pyod_vae, " in capsys.readouterr().err
