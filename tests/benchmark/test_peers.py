"""Peers: one interface, one scaling, no trace in global state."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import LocalOutlierFactor
from sklearn.preprocessing import StandardScaler

from vae_anomaly.benchmark import peers
from vae_anomaly.benchmark.peers import PEERS, scaled_rows
from vae_anomaly.evaluation import roc_auc

PYOD = [name for name, peer in PEERS.items() if peer.requires == "pyod"]
OURS = [name for name in PEERS if name not in PYOD]


@pytest.fixture(scope="module")
def samples(make_table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    normal = make_table(220)
    rows = scaled_rows(normal[:120])
    anomalies = 3 * np.random.default_rng(1).normal(size=(50, 6))
    return rows(normal[:120]), rows(normal[120:]), rows(anomalies)


@pytest.mark.parametrize("name", PEERS)
def test_anomalies_score_lower_and_global_state_stays(name: str, samples, global_random_state, capfd) -> None:
    if name in PYOD:
        pytest.importorskip("pyod")
    training, normal, anomalous = samples
    state, hash_seed = global_random_state(), os.environ.get("PYTHONHASHSEED")
    scores = []
    for _ in range(2):
        peer = PEERS[name].build(3)
        peer.fit(training)
        scores.append(peer.score_samples(np.concatenate([normal, anomalous])))
    np.testing.assert_array_equal(*scores)
    assert global_random_state() == state
    assert os.environ.get("PYTHONHASHSEED") == hash_seed
    assert capfd.readouterr() == ("", "")
    assert scores[0].shape == (150,)
    assert roc_auc(-scores[0], np.repeat([0, 1], [100, 50])).value > 0.8


@pytest.mark.parametrize("name", PEERS)
def test_the_seed_matters_only_where_it_is_said_to(name: str, samples) -> None:
    if name in PYOD:
        pytest.importorskip("pyod")
    training, normal, _ = samples

    def scores(seed: int) -> np.ndarray:
        peer = PEERS[name].build(seed)
        peer.fit(training)
        return peer.score_samples(normal)

    assert np.array_equal(scores(0), scores(1)) == (len(training) <= PEERS[name].deterministic_up_to)


# PyOD's VAE scores by one draw for each row of a batch, so where the last batch begins matters
@pytest.mark.parametrize("name", [name for name in PEERS if not name.startswith("pyod_vae")])
def test_only_a_transductive_peer_looks_at_the_other_rows(name: str, samples) -> None:
    if name in PYOD:
        pytest.importorskip("pyod")
    training, normal, anomalous = samples
    peer = PEERS[name].build(0)
    peer.fit(training)
    alone, together = peer.score_samples(normal), peer.score_samples(np.concatenate([normal, anomalous]))[:100]
    assert np.allclose(alone, together, rtol=1e-4, atol=1e-5) == (not PEERS[name].transductive)


def test_the_support_vector_machine_takes_at_most_so_many_rows(samples, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "SVM_ROWS", 50)
    a, again, b = (PEERS["one_class_svm"].build(seed) for seed in (0, 0, 1))
    for peer in (a, again, b):
        peer.fit(samples[0])
        assert peer.svm_.shape_fit_ == (50, 6)
    np.testing.assert_array_equal(a.score_samples(samples[1]), again.score_samples(samples[1]))
    assert (a.score_samples(samples[1]) != b.score_samples(samples[1])).any()


def test_neighbours_by_hand() -> None:
    training = np.array([[0.0], [1.0], [3.0], [6.0], [10.0]])
    for k, expected in (("1-nn", 1.0), ("5-nn", (4 + 3 + 1 + 2 + 6) / 5)):
        peer = PEERS[k].build(0)
        peer.fit(training)
        assert peer.score_samples(np.array([[4.0]])) == pytest.approx([-expected])


def test_images_share_one_range_and_rows_are_standardised(make_images, make_table) -> None:
    images = make_images(10)
    rows = scaled_rows(images)(images)
    assert (rows.shape, rows.dtype) == ((10, 72), np.float32)
    np.testing.assert_allclose(rows, images.reshape(10, -1) / 255, rtol=1e-6)
    table = make_table(100)
    table[:, 2] = 5.0
    rows = scaled_rows(table[:50])(table)
    np.testing.assert_allclose(rows, StandardScaler().fit(table[:50]).transform(table), rtol=1e-4, atol=1e-6)
    assert (rows[:, 2] == 0).all()


def test_a_peer_is_available_where_its_package_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(PEERS[name].available for name in OURS)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert all(PEERS[name].available for name in OURS)
    assert not any(PEERS[name].available for name in PYOD)


@pytest.mark.parametrize("name", PEERS)
def test_training_scores_and_thresholds_are_those_of_the_authors(name: str, samples) -> None:
    if name in PYOD:
        pytest.importorskip("pyod")
    training = samples[0]
    peer = PEERS[name].build(0)
    peer.fit(training)
    scores = getattr(peer, "training_scores_", None)
    offset = getattr(peer, "offset_", None)
    if name == "lof":
        np.testing.assert_array_equal(scores < offset, LocalOutlierFactor().fit_predict(training) == -1)
    elif name == "isolation_forest":
        np.testing.assert_array_equal(peer.score_samples(training) < offset, peer.predict(training) == -1)
    elif name == "one_class_svm":
        np.testing.assert_array_equal(peer.score_samples(training) < offset, peer.svm_.predict(training) == -1)
    elif name in PYOD:
        np.testing.assert_array_equal(scores < offset, peer.detector_.labels_ == 1)
    elif name in ("1-nn", "5-nn"):
        distance = np.sort(np.linalg.norm(training[:, None].astype(float) - training, axis=2), axis=1)
        np.testing.assert_allclose(-scores, distance[:, 1 : peer.k + 1].mean(axis=1), rtol=1e-3, atol=1e-4)
    else:
        assert name in ("pca", "pca-30")
        assert (scores, offset) == (None, None)


def test_categories_and_gaps_become_numbers_for_every_peer() -> None:
    table = pd.DataFrame({"size": [1.0, 2.0, None, 3.0] * 5, "colour": ["red", "blue", "red", None] * 5})
    rows = scaled_rows(table)
    scaled = rows(table)
    assert (scaled.shape, scaled.dtype) == ((20, 4), np.float32)
    np.testing.assert_allclose(scaled[:4, 0], [-np.sqrt(1.5), 0, 0, np.sqrt(1.5)], atol=1e-6)
    assert sorted(map(tuple, scaled[:4, 1:].T.tolist())) == [(0, 0, 0, 0), (0, 1, 0, 0), (1, 0, 1, 0)]
    np.testing.assert_array_equal(rows(table[5:9]), scaled[5:9])
    objects = table.to_numpy(dtype=object)
    np.testing.assert_array_equal(scaled_rows(objects)(objects), scaled)
