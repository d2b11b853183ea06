"""Resamples, and what cannot be evaluated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from vae_anomaly.errors import DataError
from vae_anomaly.evaluation import compare, evaluate, precision_recall_band, roc_auc, roc_band
from vae_anomaly.evaluation.bootstrap import OrderedScores

Pair = Callable[..., tuple[np.ndarray, np.ndarray]]


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([1.0, 2.0], [0], "one length"),
        ([1.0, np.nan], [0, 1], "1 of 2 scores are NaN"),
        ([1.0, 2.0], [1, -1], "labels must be 1"),
        ([1.0, 2.0], [1, 1], "0 normal and 2 anomalous"),
    ],
)
def test_unusable_input_is_refused(scores: list[float], labels: list[int], message: str) -> None:
    for function in (roc_auc, evaluate, roc_band, precision_recall_band, lambda s, y: compare(s, s, y)):
        with pytest.raises(DataError, match=message):
            function(np.array(scores), np.array(labels))


def test_a_resample_keeps_how_many_there_are_of_each_kind(mixed: Pair) -> None:
    scores, labels = mixed(80)
    ordered = OrderedScores(scores, labels)
    values, n = -ordered.distinct, len(ordered.distinct)
    for anomalous, normal in (ordered.counts(), ordered.resampled_counts(np.random.default_rng(0))):
        assert (len(anomalous), anomalous.sum(), len(normal), normal.sum()) == (n, labels.sum(), n, 80 - labels.sum())
    anomalous, normal = ordered.counts()
    np.testing.assert_array_equal(anomalous, [(scores[labels == 1] == value).sum() for value in values])
    np.testing.assert_array_equal(normal, [(scores[labels == 0] == value).sum() for value in values])
