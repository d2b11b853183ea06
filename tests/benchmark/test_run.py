"""The runner leaves nothing out, and a method that fails ends nothing."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from vae_anomaly import VAEDetector
from vae_anomaly.benchmark.cases import Case, SplitCase
from vae_anomaly.benchmark.peers import PEERS, Neighbours, Peer
from vae_anomaly.benchmark.run import Key, metrics, run
from vae_anomaly.errors import DataError
from vae_anomaly.reports import record_frame
from vae_anomaly.reports.benchmark_table import summary


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
    return SplitCase("made", "up", X[:120], X[120:], parts, pooled=True)


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
    monkeypatch.setattr("vae_anomaly.benchmark.run.fit_peer", lambda *_: pytest.fail("fitted again"))
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
