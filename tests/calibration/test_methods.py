"""Laws of all calibration methods, and what they refuse."""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from helpers import python
from vae_anomaly import VAEDetector
from vae_anomaly.calibration.methods import Method, calibrate, promised_alarms
from vae_anomaly.calibration.result import Calibration
from vae_anomaly.errors import DataError
from vae_anomaly.registry import CALIBRATION_METHODS as METHODS

Mixed = Callable[..., tuple[np.ndarray, np.ndarray]]


ALL = [("conformal", {"delta": 0.1}), ("cost", {"miss": 5.0}), *((name, {}) for name in METHODS)]


@pytest.mark.parametrize(("method", "options"), ALL)
def test_every_method_reports_and_agrees_on_order_sign_and_scale(method: str, options: dict, mixed: Mixed) -> None:
    scores, labels = mixed(400, 40)
    calibration = calibrate(method, scores, labels, **options)
    low, high = calibration.threshold_low, calibration.threshold_high
    assert (low is None and high is None) == (method in ("youden", "f_beta", "cost", "weighted"))
    assert low is None or low <= calibration.threshold
    assert high is None or calibration.threshold <= high
    assert 0 <= calibration.false_alarm_low <= calibration.false_alarm_rate <= calibration.false_alarm_high <= 1
    assert calibration.detection_low <= calibration.detection_rate <= calibration.detection_high
    assert (calibration.n_normal, calibration.n_anomalous) == (400, 40)
    order = np.random.default_rng(0).permutation(len(scores))
    assert calibrate(method, scores[order], labels[order], **options) == calibration
    doubled = calibrate(method, 2 * scores + 1, labels, **options)
    assert doubled.threshold == pytest.approx(2 * calibration.threshold + 1, abs=1e-6)
    np.testing.assert_array_equal(2 * scores + 1 > doubled.threshold, scores > calibration.threshold)


@pytest.mark.parametrize(
    ("method", "scores", "labels", "options", "message"),
    [
        ("conformal", [], None, {}, "at least one score"),
        ("conformal", [1.0, np.nan], None, {}, "1 of 2 scores are NaN or infinite"),
        ("quantile", [1.0, 2.0], [0, 2], {}, "one label, 0 (normal) or 1 (anomaly)"),
        ("quantile", [1.0, 2.0], [0], {}, "one label"),
        ("quantile", [1.0, 2.0], [1, 1], {}, "needs scores of normals, got none"),
        ("youden", [1.0, 2.0], None, {}, "needs some labelled anomalies, got none"),
        ("best", [1.0], None, {}, "method must be one of conformal, quantile"),
        ("youden", [1.0, 2.0], [0, 1], {"rate": 0.1}, "method 'youden' does not take rate: it takes nothing"),
        ("quantile", [1.0], None, {"rate": 1.5}, "rate must lie between 0 and 1, got 1.5"),
        ("conformal", [1.0], None, {"delta": 0.0}, "delta must lie between 0 and 1"),
        ("contamination", [1.0], None, {"rate": 0.7}, "rate must lie in (0, 0.5], got 0.7"),
        ("f_beta", [1.0], None, {"beta": -1.0}, "beta must be a number above 0"),
        ("cost", [1.0], None, {"miss": 0.0}, "costs must be numbers above 0"),
        (
            "conformal",
            list(range(20)),
            None,
            {"rate": 0.05, "delta": 0.01},
            "cannot promise a rate of 0.05 for all but 0.01 of their draws, which takes 90",
        ),
    ],
)
def test_what_cannot_be_calibrated_is_refused(method, scores, labels, options, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        calibrate(method, np.array(scores, float), None if labels is None else np.array(labels), **options)


@pytest.mark.parametrize("method", METHODS)
def test_scores_that_are_all_alike_have_a_threshold_or_a_reason(method: str) -> None:
    scores, labels = np.ones(400), np.arange(400) % 2
    if method == "pot":
        with pytest.raises(DataError, match="the largest scores are all alike: there is no tail to fit"):
            calibrate(method, scores, labels)
    else:
        assert np.isfinite(calibrate(method, scores, labels).threshold)


@pytest.mark.parametrize("method", METHODS)
def test_what_a_method_is_registered_with_is_what_its_constructor_takes(method: str) -> None:
    taken = {name: parameter.default for name, parameter in inspect.signature(METHODS[method]).parameters.items()}
    facts = METHODS.entry(method).facts
    taken.pop("target", None)  # rows and no number: an option of its own
    assert {name: default for name, (default, _) in facts["parameters"].items()} == taken
    assert all(about for _, about in facts["parameters"].values())
    assert METHODS[method](**taken).name == method


@pytest.mark.parametrize("method", METHODS)
def test_only_methods_that_say_so_need_anomalies(method: str) -> None:
    normal = np.random.default_rng(0).normal(size=300)
    if METHODS.entry(method).facts.get("needs_anomalies", False):
        with pytest.raises(DataError, match=f"{method}: needs some labelled anomalies, got none"):
            calibrate(method, normal)
    else:
        assert calibrate(method, normal).n_anomalous == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_promise_in_words_names_what_was_asked_for(method: str, mixed: Mixed) -> None:
    calibration = calibrate(method, *mixed(400, 40))
    assert "{" not in calibration.promise()
    assert calibration.rate is None or f"{calibration.rate:.3g}" in calibration.promise()


def test_promises_in_words() -> None:
    scores = np.random.default_rng(0).normal(size=400)
    assert calibrate("conformal", scores, rate=0.1).promise() == "a new normal is flagged with probability at most 0.1"
    conditional = calibrate("conformal", scores, rate=0.1, delta=0.2).promise()
    assert conditional.endswith("at most 0.1, for all but 0.2 of the draws of held-out normals")
    assert "0.1 of the 400 samples" in calibrate("contamination", scores).promise()


@pytest.mark.parametrize("method", METHODS)
def test_a_promise_for_new_normals_is_an_interval_or_none(method: str, mixed: Mixed) -> None:
    calibration = calibrate(method, *mixed(400, 40))
    promised = promised_alarms(calibration, 100)
    assert (promised is None) == (method not in ("conformal", "quantile", "fixed_fpr"))
    if promised is not None:
        assert 0 <= promised[0] < calibration.false_alarm_rate < promised[1] <= 1


@pytest.fixture
def median(monkeypatch: pytest.MonkeyPatch) -> str:
    """A method that a user's own code registers."""
    for entries in ("_added", "_objects"):
        monkeypatch.setattr(METHODS, entries, dict(getattr(METHODS, entries)))

    @METHODS.register(
        "median",
        parameters={"factor": (1.0, "how many medians above 0")},
        promise="at {n_samples} samples' median",
    )
    class Median(Method):
        """A multiple of the normals' median."""

        def __init__(self, factor: float = 1.0) -> None:
            self.factor = factor

        def choose_threshold(self, normal: np.ndarray, anomalous: np.ndarray) -> float:
            return self.factor * float(np.median(normal))

    return "median"


def test_a_method_that_is_registered_at_run_time_is_one_like_the_others(median: str) -> None:
    scores = np.arange(101.0)
    calibration = calibrate(median, scores, factor=1.5)
    assert calibration.threshold == 75
    assert calibration.false_alarm_rate == 25 / 101
    assert calibration.promise() == "at 101 samples' median"
    assert promised_alarms(calibration, 10) is None
    with pytest.raises(DataError, match="method 'median' does not take rate: it takes factor"):
        calibrate(median, scores, rate=0.1)


def test_its_parameters_are_options_of_the_command(median: str, table_detector: VAEDetector, tmp_path: Path) -> None:
    spec = importlib.util.find_spec("vae_anomaly.cli.calibrate")
    module = importlib.util.module_from_spec(spec)  # another one than that which has its options already
    spec.loader.exec_module(module)
    command = module.calibrate
    table_detector.save(tmp_path / "m.vae")
    arguments = [str(tmp_path / "m.vae"), "--method", median, "--factor", "1.5", "--output", str(tmp_path / "new.vae")]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert "median: at 200 samples' median" in result.output
    assert "median: how many medians above 0 (default 1)." in CliRunner().invoke(command, ["--help"]).output
    calibration = VAEDetector.load(tmp_path / "new.vae").calibration_
    assert calibration.threshold == 1.5 * np.median(-table_detector.calibration_scores_)


def test_a_calibration_by_a_method_that_is_not_there_says_so() -> None:
    known = calibrate("quantile", np.arange(100.0))
    foreign = Calibration(**vars(known) | {"method": "theirs"})
    assert foreign.promise() == "a method that is not installed here"
    assert promised_alarms(foreign, 10) is None


def test_a_calibration_is_described_without_numpy() -> None:
    fields = vars(calibrate("conformal", np.arange(100.0), rate=0.02))
    script = (
        "import sys; from vae_anomaly.calibration.result import Calibration;"
        f"print(Calibration(**{fields!r}).promise()); print({{'numpy', 'scipy'}} & set(sys.modules))"
    )
    assert python(script).splitlines() == ["a new normal is flagged with probability at most 0.02", "set()"]
