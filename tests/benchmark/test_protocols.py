"""Protocols split as they say, the runner leaves nothing out, and a run that was cut ends in the same table."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from vae_anomaly import VAEDetector
from vae_anomaly.benchmark import protocols as benchmark
from vae_anomaly.benchmark.corruptions import CORRUPTIONS
from vae_anomaly.benchmark.peers import PEERS, Neighbours, Peer
from vae_anomaly.benchmark.protocols import Case, Key, metrics, run
from vae_anomaly.cli import main
from vae_anomaly.cli.benchmark import chosen_methods
from vae_anomaly.datasets import NAMED, load_named
from vae_anomaly.errors import DataError
from vae_anomaly.reports import RecordLog, record_frame, summary_table, write_benchmark
from vae_anomaly.reports.benchmark_table import matrices, summary

FAST = "pca,1-nn,isolation_forest"


def labelled() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Samples that carry their class and their part: 10 times the class, plus a hundred in the test part."""
    y = np.repeat(["0", "1", "2", "3"], 5)
    X = np.stack([10.0 * y.astype(int), np.arange(20.0)], axis=1)
    return X, y, X + 100, y


def classes_in(X: np.ndarray) -> set[int]:
    return set((X[:, 0] % 100 // 10).astype(int).tolist())


@pytest.mark.parametrize(
    ("cases", "expected"),
    [
        (benchmark.one_class(*labelled(), ["1", "3"]), {"1": ({1}, {0, 2, 3}), "3": ({3}, {0, 1, 2})}),
        (benchmark.multi(*labelled(), ["0", "2"]), {"0+2": ({0, 2}, {1, 3})}),
        (benchmark.leave_one_out(*labelled(), ["1"]), {"1": ({0, 2, 3}, {1})}),
    ],
)
def test_protocols_by_class(cases: Any, expected: dict[str, tuple[set[int], set[int]]]) -> None:
    found = {case.name: case for case in cases}
    assert set(found) == set(expected)
    for name, (normal, anomalous) in expected.items():
        case = found[name]
        assert classes_in(case.X_train) == classes_in(case.normal) == normal
        assert classes_in(np.concatenate(list(case.anomalous.values()))) == anomalous
        assert case.X_train[:, 0].max() < 100
        assert all(X[:, 0].min() >= 100 for X in (case.normal, *case.anomalous.values()))
        assert "all" in case.tests


def test_several_normal_classes_are_tested_class_by_class_and_by_all() -> None:
    (case,) = benchmark.multi(*labelled(), ["0", "2"])
    assert case.tests == {"all": ("1", "3"), "1": ("1",), "3": ("3",)}


def test_tables_are_split_in_half_anew_for_each_seed() -> None:
    X, y = np.arange(25.0)[:, None], np.repeat([0, 1], [20, 5])
    first, second = benchmark.tabular("t", X, y, range(2))
    for case in (first, second):
        assert len(case.X_train) == len(case.normal) == 10
        assert sorted(np.concatenate([case.X_train, case.normal]).ravel()) == list(range(20))
        np.testing.assert_array_equal(case.anomalous["all"], X[20:])
    assert set(first.X_train.ravel()) != set(second.X_train.ravel())
    assert [(record["seed"], record["method"]) for record in run([first, second], ["pca"], seeds=range(9))] == [
        (0, "pca"),
        (1, "pca"),
    ]


def test_out_of_distribution_has_the_others_and_every_corruption(make_images) -> None:
    (case,) = benchmark.out_of_distribution("bars", make_images(20), make_images(10), {"other": make_images(7, (5, 5))})
    assert list(case.tests) == ["other", *CORRUPTIONS]
    assert {X.shape[1:] for X in case.anomalous.values()} == {(9, 8)}
    assert {X.dtype for X in case.anomalous.values()} == {np.dtype(np.uint8)}


def test_metrics_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    normal, anomalous = rng.normal(size=200).round(1), rng.normal(1, size=90).round(1)
    y, scores = np.repeat([0, 1], [200, 90]), np.concatenate([normal, anomalous])
    found = metrics(normal, anomalous)
    assert found["roc_auc"] == pytest.approx(roc_auc_score(y, scores))
    assert found["average_precision"] == pytest.approx(average_precision_score(y, scores))
    fpr, tpr, _ = roc_curve(y, scores, drop_intermediate=False)
    assert found["fpr_at_95_tpr"] == pytest.approx(fpr[tpr >= 0.95].min())
    with pytest.raises(DataError, match="NaN"):
        metrics(np.array([np.nan]), anomalous)


@pytest.fixture
def case(make_table) -> Case:
    rng = np.random.default_rng(1)
    parts = {"near": 2 * rng.normal(size=(20, 6)), "far": 9 * rng.normal(size=(30, 6))}
    X = make_table(160)
    return Case("made", "up", X[:120], X[120:], parts, pooled=True)


def test_a_record_for_each_test_of_each_fit(case: Case) -> None:
    records = list(run([case], ["vae", "pca", "isolation_forest"], seeds=[0, 1], scores=["elbo", "kl"]))
    methods = ["vae"] * 12 + ["pca"] * 3 + ["isolation_forest"] * 6
    assert [record["method"] for record in records] == methods
    for record in records:
        assert record["error"] is None
        assert record["roc_auc"] > 0.5 or record["score"] == "kl"
        assert record["fit_seconds"] > 0
        assert (record["n_train"], record["n_normal"]) == (120, 40)
        assert record["n_anomalous"] == {"near": 20, "far": 30, "all": 50}[record["test"]]
    json.dumps(records, allow_nan=False)
    detector = VAEDetector(random_state=1).fit(case.X_train)
    for own in (r for r in records if (r["method"], r["test"], r["seed"]) == ("vae", "far", 1)):
        detector.set_params(score_name=own["score"])
        scores = -detector.score_samples(np.concatenate([case.normal, case.anomalous["far"]]))
        assert own["roc_auc"] == pytest.approx(roc_auc_score(np.repeat([0, 1], [40, 30]), scores))


def test_variants_leave_out_what_they_say(case: Case) -> None:
    records = list(run([case], ["vae-plain", "vae-plain-prior"], seeds=[0], scores=["elbo", "kl"]))
    assert {(r["method"], r["score"]) for r in records} == {("vae-plain", "elbo"), ("vae-plain-prior", "elbo")}
    detector = VAEDetector(likelihood="gaussian", prior="normal", input_noise=0.0).fit(case.X_train)
    scores = -detector.score_samples(np.concatenate([case.normal, case.anomalous["far"]]))
    (plain,) = (r for r in records if (r["method"], r["test"]) == ("vae-plain", "far"))
    assert plain["roc_auc"] == pytest.approx(roc_auc_score(np.repeat([0, 1], [40, 30]), scores))


def test_what_is_done_is_not_fitted_again(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    first = list(run([case], ["pca", "1-nn"], seeds=[0]))
    done = {Key(*(record[name] for name in Key._fields)) for record in first}
    monkeypatch.setattr(benchmark, "fit_peer", lambda *_: pytest.fail("fitted again"))
    assert list(run([case], ["pca", "1-nn"], seeds=[0, 1], done=done)) == []
    monkeypatch.undo()
    missing = {key for key in done if key.test == "near"}
    again = list(run([case], ["pca", "1-nn"], seeds=[0], done=done - missing))
    assert [(record["method"], record["test"]) for record in again] == [("pca", "near"), ("1-nn", "near")]


class Broken(Neighbours):
    """Fails, or gives scores that are no numbers."""

    def __init__(self, where: str) -> None:
        super().__init__(1)
        self.where = where

    def fit(self, X: np.ndarray) -> Any:
        if self.where == "fit":
            raise MemoryError("no\nroom")
        return super().fit(X)

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        return np.where(self.where == "nan", np.nan, super().score_samples(X))


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    for where in ("fit", "nan"):
        monkeypatch.setitem(PEERS, f"broken_{where}", Peer(lambda seed, where=where: Broken(where)))


@pytest.mark.usefixtures("broken")
def test_a_method_that_fails_does_not_end_the_run(case: Case) -> None:
    records = list(run([case], ["broken_fit", "broken_nan", "pca"], seeds=[0]))
    assert [record["error"] for record in records] == (
        ["MemoryError: no room"] * 3
        + [f"DataError: {40 + n} of {40 + n} scores are NaN" for n in (50, 20, 30)]
        + [None] * 3
    )
    assert all((record["roc_auc"] is None) == (record["error"] is not None) for record in records)
    table = summary(record_frame(records))
    assert table["method"].tolist() == ["pca", "broken_fit", "broken_nan"]
    assert table["n_failed"].tolist() == [0, 2, 2]


def test_a_transductive_peer_sees_each_test_by_itself(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    class Centred(Neighbours):
        def score_samples(self, X: np.ndarray) -> np.ndarray:
            sizes.append(len(X))
            return -np.linalg.norm(X - X.mean(axis=0), axis=1)

    sizes: list[int] = []
    monkeypatch.setitem(PEERS, "centred", Peer(lambda seed: Centred(1), transductive=True))
    assert len(list(run([case], ["centred"], seeds=[0]))) == 3
    assert sizes[-3:] == [90, 60, 70]


def test_methods_that_are_not_there_are_refused(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="no method 'magic': there are vae, vae-plain-likelihood, .*, pca"):
        list(run([case], ["magic"], seeds=[0]))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=re.escape("pip install 'vae-anomaly[bench]'")):
        list(run([case], ["pyod_knn"], seeds=[0]))


def made_records() -> pd.DataFrame:
    """Two methods, two cases; one draws, with seeds 0 and 1; the other does not."""
    rows = [("a", "x", 0, 0.9), ("a", "x", 1, 0.7), ("a", "y", 0, 0.5), ("a", "y", 1, 0.5)]
    rows += [("b", "x", 0, 0.4), ("b", "y", 0, 0.6)]
    return record_frame(
        {"protocol": "p", "case": c, "test": "all", "method": m, "score": "own", "seed": s, "roc_auc": auc}
        | {"average_precision": auc, "fpr_at_95_tpr": 0.0, "fit_seconds": 1.0, "score_seconds": 2.0, "error": None}
        for m, c, s, auc in rows
    )


def test_the_summary_is_the_mean_over_cases_of_the_means_over_seeds() -> None:
    table = summary(made_records()).set_index("method")
    assert table.index.tolist() == ["a", "b"]
    assert table["roc_auc"].tolist() == pytest.approx([0.65, 0.5])
    assert table.loc["a", "std_over_seeds"] == pytest.approx(np.std([0.7, 0.6], ddof=1))
    assert np.isnan(table.loc["b", "std_over_seeds"])
    assert table["worst_case"].tolist() == ["y", "x"]
    (matrix,) = matrices(made_records(), "roc_auc").values()
    assert matrix.columns.tolist() == ["x", "y", "mean"]
    assert matrix.loc[("b", "own")].tolist() == pytest.approx([0.4, 0.6, 0.5])
    text = summary_table(made_records())
    assert "**0.4000** (x)" in text
    assert len({len(line) for line in text.splitlines()}) == 1


def test_a_failed_seed_leaves_no_mean(tmp_path: Path) -> None:
    records = made_records()
    records["error"] = records["error"].astype(object)
    records.loc[0, ["roc_auc", "average_precision", "fpr_at_95_tpr", "error"]] = [np.nan, np.nan, np.nan, "Bad: luck"]
    table = summary(records).set_index("method")
    assert np.isnan(table.loc["a", "roc_auc"])
    assert table.loc["a", "n_failed"] == 1
    write_benchmark(tmp_path, "made", records, {"date": "today"}, ["a note"])
    assert "- a, x, seed 0: Bad: luck" in (tmp_path / "made.md").read_text()
    content = json.loads((tmp_path / "made.json").read_text())
    assert content["date"] == "today"
    assert content["records"][0]["roc_auc"] is None
    assert len(pd.read_csv(tmp_path / "made.csv")) == len(content["records"]) == 6


def test_the_log_forgets_a_torn_line_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = RecordLog(path, {"quick": True})
    log.append({"a": 1})
    log.append({"a": 2})
    whole = path.read_bytes()
    for cut in range(len(whole) - 1, len(whole) - len(b'{"a": 2}\n'), -1):
        path.write_bytes(whole[:cut])
        again = RecordLog(path, {"quick": True})
        assert again.records == [{"a": 1}]
        again.append({"a": 2})
        assert path.read_bytes() == whole
    path.write_bytes(whole[:5])
    assert RecordLog(path, {"quick": False}).records == []
    path.write_bytes(whole)
    with pytest.raises(DataError, match=re.escape("quick (True there, False here): give another")):
        RecordLog(path, {"quick": False})
    assert path.read_bytes() == whole
    assert RecordLog(path, {"quick": False}, fresh=True).records == []
    for damaged in (b"junk\n" + whole, b'{"a": 1}\n', whole[:-3] + b"\n", b'{"settings": null}\n', b"[" * 9999 + b"\n"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="--fresh begins anew"):
            RecordLog(path, {"quick": True})


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["benchmark", *map(str, arguments)])


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VAE_ANOMALY_DATA", raising=False)
    monkeypatch.setenv("VAE_ANOMALY_CACHE", str(tmp_path / "cache"))
    return tmp_path


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
    detector = VAEDetector(random_state=0).fit(training.X[training.labels == "0"])
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


@pytest.mark.usefixtures("broken")
def test_what_failed_is_told_and_tried_again() -> None:
    arguments = ["one-class", "--dataset", "digits", "--cases", "0", "--methods", "broken_fit,pca"]
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    assert "1 of 1" in result.stdout
    assert "- broken_fit, 0, seed 0: MemoryError: no room" in Path("benchmark/one-class.md").read_text()
    PEERS["broken_fit"] = PEERS["1-nn"]
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
        (["tabular"], "tabular needs --data FOLDER"),
        (["one-class", "--data", "."], "tabular needs --data FOLDER"),
        (["one-class", *DIGITS, "--normal", "0"], "--normal goes with multi"),
        (["one-class", *DIGITS, "--cases", "0,eleven"], "no case eleven: there are 0, 1, 2"),
        (["multi", *DIGITS, "--normal", "eleven"], "no samples of class eleven"),
        (["one-class", "--dataset", "digits", "--methods", "magic"], "no method 'magic'"),
        (["one-class", *DIGITS, "--scores", "magic"], "no score magic: there are elbo"),
        (["tabular", "--data", "."], "holds no .npz files"),
    ],
)
def test_mistakes_are_told_in_one_message(arguments: list[str], message: str) -> None:
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
