"""Results as JSON and as frames."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np

from vae_anomaly.evaluation import evaluate

Pair = Callable[..., tuple[np.ndarray, np.ndarray]]


def test_results_turn_into_json_and_frames(mixed: Pair) -> None:
    scores, labels = mixed()
    result = evaluate(scores, labels, np.where(labels == 1, "odd", "even"), threshold=0.0)
    assert json.loads(result.to_json())["roc_auc"]["value"] == result.roc_auc.value
    assert "roc" not in result.to_dict()
    assert json.loads(result.to_json(curves=True))["roc"]["x"] == result.roc.x.tolist()
    frame = result.to_frame()
    assert frame["group"].tolist() == ["all", "odd"]
    assert frame["value"].tolist() == [result.roc_auc.value] * 2
