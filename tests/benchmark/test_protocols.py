"""Protocols split as they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vae_anomaly.benchmark import protocols
from vae_anomaly.benchmark.corruptions import CORRUPTIONS
from vae_anomaly.benchmark.run import run


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
