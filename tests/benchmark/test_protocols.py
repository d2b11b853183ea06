"""Protocols split as they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from vae_anomaly import VAEDetector
from vae_anomaly.benchmark import protocols
from vae_anomaly.benchmark.corruptions import CORRUPTIONS
from vae_anomaly.benchmark.peers import PEERS, Peer
from vae_anomaly.benchmark.planted import ERRORS
from vae_anomaly.benchmark.run import run
from vae_anomaly.errors import DataError


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
        (protocols.one_class(*labelled(), ["1", "3"]), {"1": ({1}, {0, 2, 3}), "3": ({3}, {0, 1, 2})}),
        (protocols.multi(*labelled(), ["0", "2"]), {"0+2": ({0, 2}, {1, 3})}),
        (protocols.leave_one_out(*labelled(), ["1"]), {"1": ({0, 2, 3}, {1})}),
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
    (case,) = protocols.multi(*labelled(), ["0", "2"])
    assert case.tests == {"all": ("1", "3"), "1": ("1",), "3": ("3",)}


def test_tables_are_split_in_half_anew_for_each_seed() -> None:
    X, y = np.arange(25.0)[:, None], np.repeat([0, 1], [20, 5])
    first, second = protocols.tabular("t", X, y, range(2))
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
    (case,) = protocols.out_of_distribution("bars", make_images(20), make_images(10), {"other": make_images(7, (5, 5))})
    assert list(case.tests) == ["other", *CORRUPTIONS]
    assert {X.shape[1:] for X in case.anomalous.values()} == {(9, 8)}
    assert {X.dtype for X in case.anomalous.values()} == {np.dtype(np.uint8)}


def test_contaminated_learns_from_all_rows_and_judges_them() -> None:
    X, y = np.arange(25.0)[:, None], np.repeat([0, 1], [20, 5])
    (case,) = protocols.contaminated("t", X, y, [7])
    np.testing.assert_array_equal(case.X_train, X)
    assert (case.only_seed, case.test_names, case.n_normal, case.n_anomalous("all")) == (7, ("all",), 20, 5)
    assert [(record["seed"], record["n_train"]) for record in run([case], ["pca"], seeds=range(9))] == [(7, 25)]


def test_large_tables_are_drawn_from_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "MAX_TABLE_ROWS", 30)
    X = np.arange(1.0, 101)[:, None]
    y = (X[:, 0] > 80).astype(int)
    first, second = protocols.contaminated("t", X, y, range(2))
    for case in (first, second):
        assert len(np.unique(case.X_train)) == 30
        assert case.n_anomalous("all") == (case.X_train > 80).sum()
    assert set(first.X_train.ravel()) != set(second.X_train.ravel())
    (planted,) = protocols.planted("t", X, ["sentinel"], 3, [1])
    assert len(planted.X_train) == 30
    assert len(set(planted.X_train.ravel()) - set(second.X_train.ravel())) == 1


def test_planted_has_a_case_for_each_kind_that_applies_and_seed() -> None:
    X = np.random.default_rng(0).normal(size=(60, 4))
    cases = list(protocols.planted("t", X, None, 5, range(2)))
    kinds = [kind for kind in ERRORS if kind != "swapped_category"]
    assert [(case.test_names, case.only_seed) for case in cases] == [((k,), seed) for seed in range(2) for k in kinds]
    for case in cases:
        assert case.n_anomalous(case.test_names[0]) == 5
        assert case.n_normal == 55
    few = [case.shrunk(10) for case in cases]
    assert {(case.n_normal, case.n_anomalous(case.test_names[0])) for case in few} == {(10, 5)}
    with pytest.raises(DataError, match="only 0 of 60 rows can have an error swapped_category"):
        list(protocols.planted("t", X, ["swapped_category"], 5, [0]))


class Knowing:
    """Knows which rows are anomalous, and says so of its training rows alone."""

    offset_ = -0.5

    def __init__(self, is_anomalous: np.ndarray) -> None:
        self.training_scores_ = -is_anomalous.astype(float)

    def fit(self, X: np.ndarray) -> None:
        """Nothing to learn."""

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        return np.zeros(len(X))


class Undecided(Knowing):
    """Knows as much, and has no threshold."""

    offset_ = None


def test_who_knows_the_anomalies_is_perfect(monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.random.default_rng(0).normal(size=(60, 4))
    for case in protocols.planted("t", X, None, 5, [0]):
        monkeypatch.setitem(PEERS, "knowing", Peer(lambda seed, case=case: Knowing(case.is_anomalous)))
        monkeypatch.setitem(PEERS, "undecided", Peer(lambda seed, case=case: Undecided(case.is_anomalous)))
        knowing, undecided = run([case], ["knowing", "undecided"], seeds=[0])
        assert (knowing["roc_auc"], knowing["average_precision"], knowing["fpr_at_95_tpr"]) == (1, 1, 0)
        assert (knowing["anomalies_flagged"], knowing["others_flagged"]) == (1, 0)
        assert knowing["flagged"] == pytest.approx(5 / 60)
        assert (undecided["roc_auc"], undecided["anomalies_flagged"], undecided["others_flagged"]) == (1, None, None)


def test_our_detector_is_judged_by_predict_and_by_its_training_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.random.default_rng(0).normal(size=(80, 4))
    (case,) = protocols.planted("t", X, ["factor_10"], 5, [0])
    is_planted = case.is_anomalous
    detector = VAEDetector(random_state=0).fit(case.X_train)
    expected = roc_auc_score(is_planted, -getattr(detector, "training_scores_", detector.score_samples(case.X_train)))
    flags = detector.predict(case.X_train) == -1
    (record,) = run([case], ["vae"], seeds=[0], scores=["elbo"])
    assert record["roc_auc"] == pytest.approx(expected)
    assert record["anomalies_flagged"] == pytest.approx(flags[is_planted].mean())
    assert record["others_flagged"] == pytest.approx(flags[~is_planted].mean())

    kept = property(lambda self: -is_planted.astype(float), lambda self, scores: None)
    monkeypatch.setattr(VAEDetector, "training_scores_", kept, raising=False)
    elbo, kl = run([case], ["vae"], seeds=[0], scores=["elbo", "kl"])
    assert elbo["roc_auc"] == 1
    detector.set_params(score_name="kl")
    assert kl["roc_auc"] == pytest.approx(roc_auc_score(is_planted, -detector.score_samples(case.X_train)))
