"""Whatever a configuration says, under a hash that fits: the file can be used, or is refused in one sentence."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from vae_anomaly import FittedModel, VAEDetector
from vae_anomaly.calibration.methods import promised_alarms
from vae_anomaly.cli.inspect import description_lines
from vae_anomaly.errors import ModelFileError
from vae_anomaly.history import best_epoch
from vae_anomaly.reports.plots.model_plots import plot_history
from vae_anomaly.storage import model_file
from vae_anomaly.storage.model_schema import check_config, read_description

REMOVED = object()
VALUES = (
    REMOVED, None, True, 0, 1, -1, 0.5, 1.5, 1e-320, 1e308, -1e308, 2**62, "NaN", "", "conformal", [], [0], [[]], {},
    {"a": 1},
)  # fmt: skip
KEPT_SCORES = ("elbo", "kl")


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory, table_detector: VAEDetector) -> tuple[dict[str, Any], Any]:
    """Configuration and tensors of a real model with two scores, one of them weighted, and two epochs."""
    path = tmp_path_factory.mktemp("model") / "model.vae"
    table_detector.save(path)
    tensors, config, _ = model_file.read(path)
    config["history"] = config["history"][:2]
    config["calibrations"] = {name: config["calibrations"][name] for name in KEPT_SCORES}
    config["calibrations"]["elbo"] |= {"delta": 0.1, "rate": 0.3}
    config["calibrations"]["kl"] |= {"detection_rate": 0.5, "detection_low": 0.1, "detection_high": 0.9}
    n = tensors["held_out.kl"].numel()
    config["calibrations"]["kl"] |= {
        "method": "weighted", "n_effective": float(n), "n_target": 30, "target_auc": 0.6,
    }  # fmt: skip
    tensors["weights.kl"] = torch.ones(n, dtype=torch.float64)
    config["metadata"] = {"data": {"source": "a", "normal": ["0"]}}
    config["feature_names"] = list("abcdef")
    kept = {n: t for n, t in tensors.items() if not n.startswith("held_out") or n.partition(".")[2] in KEPT_SCORES}
    return config, kept


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a value has parts, to any depth."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield (*place, key)
        yield from places(part, (*place, key))


def with_value(config: dict[str, Any], place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A copy that has another value at a place, or none."""
    config = inside = copy.deepcopy(config)
    for key in place[:-1]:
        inside = inside[key]
    if value is REMOVED:
        del inside[place[-1]]
    else:
        inside[place[-1]] = value
    return config


def use(path: Path) -> None:
    """What commands do with a model file."""
    description_lines(path, read_description(path))
    model = FittedModel.load(path, device="cpu")
    rows = pd.DataFrame(np.ones((2, 6)), columns=model.feature_names)
    for score in model.scores:
        other = model.using(score)
        table = other.score_table(rows)
        assert all(np.isfinite(column).all() for column in table.values())
        assert np.isfinite(promised_alarms(other.calibration, 100) or 0).all()
        assert other.calibration.promise()
    assert best_epoch(model.history) >= 1


def outcome(path: Path) -> str:
    """What becomes of a model file."""
    try:
        use(path)
    except ModelFileError as error:
        return "refused" if "\n" not in str(error) else repr(error)
    except Exception as error:
        return repr(error)
    return "usable"


def test_any_field_with_any_value_is_usable_or_refused(known, tmp_path: Path, monkeypatch) -> None:
    config, tensors = known
    path, outcomes = tmp_path / "model.vae", Counter[str]()
    for place in places(config):
        for value in VALUES:
            changed = with_value(config, place, value)
            monkeypatch.setattr(model_file, "versions", lambda changed=changed: changed.get("versions"))
            model_file.write(path, tensors, changed)
            found = outcome(path)
            assert found in ("usable", "refused"), (place, value)
            outcomes[found] += 1
    assert min(outcomes["usable"], outcomes["refused"]) > 100
    assert outcomes.total() >= 1_500


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("calibrations", "elbo", "delta"), 0, "calibration of elbo: delta must be a number between 0 and 1, or None"),
        (("calibrations", "elbo", "delta"), 1, "got 1"),
        (("calibrations", "kl", "rate"), 1.5, "calibration of kl: rate must be a number between 0 and 1, or None"),
        (("calibrations", "kl", "n_normal"), 0, "n_normal must be an int of at least 1, got 0"),
        (("calibrations", "kl", "detection_low"), None, "must all be None, or none"),
        (("calibrations", "kl", "method"), REMOVED, "calibration of kl: fields method are missing"),
        (("calibrations", "kl", "n_effective"), 0, "n_effective must be a number above 0, or None, got 0"),
        (("calibrations", "kl", "n_target"), 0, "n_target must be an int of at least 1, or None, got 0"),
        (("calibrations", "kl", "target_auc"), 1.5, "target_auc must be a number in .0, 1., or None"),
        (
            ("calibrations", "kl", "target_auc"),
            None,
            "must all be None, or none where the method",
        ),
        (("calibrations", "kl", "method"), "conformal", "must all be None, or none where the method"),
        (("history", 1, "kl"), REMOVED, "history's epoch 2: fields kl are missing"),
        (("history", 0, "epoch"), 7, "history's epoch 1 does not fit"),
        (("history", 1, "validation_reconstruction"), "NaN", "validation_reconstruction must be a"),
        (("history",), [], "its history does not fit"),
        (("feature_names",), [], "its feature_names do not fit"),
        (("parameters", "n_draws"), 0, "n_draws must be an int from 1 to 1,000"),
    ],
)
def test_the_sentence_names_field_constraint_and_value(known, place, value, message: str) -> None:
    check_config(known[0] | {"versions": {}})
    with pytest.raises(ValueError, match=message):
        check_config(with_value(known[0], place, value) | {"versions": {}})


def test_a_history_that_is_let_in_can_be_drawn(known) -> None:
    plot_history(known[0]["history"])
