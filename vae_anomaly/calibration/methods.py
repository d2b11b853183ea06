"""From scores to a threshold, with what to expect from it: what all calibration methods share, and how to call one.

Scores here are anomaly scores: higher is more anomalous. All methods agree on ties: a sample is flagged when its score
lies strictly above the threshold, which is (except with `pareto.PeaksOverThreshold`) the largest of the given scores
that is not flagged.

A method is a class under ``@CALIBRATION_METHODS.register(name, ...)`` in any module of this package, or registered at
run time. Its facts are

- ``parameters``: what its constructor takes, each by name with its default and a phrase that says what it is. The
  command ``calibrate`` makes its options of them;
- ``promise``: what it promises in words, in which ``{rate}``, ``{delta}`` and ``{n_samples}`` (those that it was given)
  are filled in; ``promise_with_delta`` replaces it where a ``delta`` was asked for, and
  ``promise_if_nearly`` where rows set the threshold that the model was fitted to;
- ``needs_anomalies``: whether some labelled anomalies are needed; by default they are not.
"""

from __future__ import annotations

import inspect
from typing import Any, Self

import numpy as np

from vae_anomaly.calibration.conformal import finite_scores
from vae_anomaly.calibration.intervals import clopper_pearson
from vae_anomaly.calibration.result import Calibration
from vae_anomaly.errors import DataError
from vae_anomaly.registry import CALIBRATION_METHODS


class Method:
    """A way to choose a threshold.

    ``fit(scores, labels)`` takes anomaly scores ``(N,)`` and labels (1 = anomaly, 0 = normal; None: all normal), sets
    ``threshold_`` and ``calibration_``. Laws: the same scores in another order give the same threshold; a strictly
    increasing transformation of the scores moves the threshold along (for `PeaksOverThreshold`, an affine one).

    A subclass implements `choose_threshold`; the rest has defaults.
    """

    rate: float | None = None
    delta: float | None = None

    @property
    def name(self) -> str:
        """The name that it is registered under."""
        return CALIBRATION_METHODS.name_of(type(self))

    def choose_threshold(self, normal: np.ndarray, anomalous: np.ndarray) -> float:
        """The threshold from the sorted scores of normals ``(n,)`` and of anomalies ``(m,)``, of which m may be 0."""
        raise NotImplementedError

    def expected_false_alarms(self, normal: np.ndarray) -> tuple[float, float, float]:
        """Share of new normals to expect above the threshold, with its interval; by default that of those given."""
        return clopper_pearson(int((normal > self.threshold_).sum()), len(normal))

    def expected_detections(self, anomalous: np.ndarray) -> tuple[float, float, float]:
        """Share of new anomalies to expect above the threshold, with its interval; by default that of those given."""
        return clopper_pearson(int((anomalous > self.threshold_).sum()), len(anomalous))

    def expected_rates(
        self, normal: np.ndarray, anomalous: np.ndarray
    ) -> tuple[tuple[float, float, float], tuple[float, float, float] | tuple[None, None, None]]:
        """False alarms and detections to expect, each with its interval; the latter None where no anomaly is given."""
        detected = self.expected_detections(anomalous) if len(anomalous) else (None, None, None)
        return self.expected_false_alarms(normal), detected

    def basis(self, anomalous: np.ndarray) -> str | None:
        """How the rates to expect were found, where that is not a count above the threshold."""
        return None

    def threshold_interval(self, normal: np.ndarray, anomalous: np.ndarray) -> tuple[float | None, float | None]:
        """Interval of the threshold that all normals and anomalies would give; an end is None where nothing bounds it.

        By default both are: there is no interval.
        """
        return None, None

    def warning(self, normal: np.ndarray) -> str | None:
        """A warning for the user, or None, from the sorted scores of the normals."""
        return None

    @staticmethod
    def promised_false_alarms(calibration: Calibration, n_new: int) -> tuple[float, float] | None:
        """Interval for the share of ``n_new`` new normals that a threshold of this method flags; None: no promise."""
        return None

    def fit(self, scores: np.ndarray, labels: np.ndarray | None = None) -> Self:
        """Choose the threshold.

        Raises
        ------
        DataError
            If scores are not finite, normals or (where needed) anomalies are missing, or too few for what is asked.
        """
        normal, anomalous = self._by_label(scores, labels)
        self.threshold_ = self.choose_threshold(normal, anomalous)
        low, high = self.threshold_interval(normal, anomalous)
        alarms, detected = self.expected_rates(normal, anomalous)
        self.calibration_ = Calibration(
            method=self.name,
            threshold=self.threshold_,
            threshold_low=low,
            threshold_high=high,
            rate=self.rate,
            delta=self.delta,
            false_alarm_rate=alarms[0],
            false_alarm_low=alarms[1],
            false_alarm_high=alarms[2],
            detection_rate=detected[0],
            detection_low=detected[1],
            detection_high=detected[2],
            n_normal=len(normal),
            n_anomalous=len(anomalous),
            note=self.warning(normal),
            basis=self.basis(anomalous),
        )
        return self

    def _by_label(self, scores: np.ndarray, labels: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Sorted scores of the normals and of the anomalies, checked."""
        scores = finite_scores(scores, self.name)
        labels = np.zeros(len(scores), int) if labels is None else np.asarray(labels)
        if labels.shape != scores.shape or not np.isin(labels, (0, 1)).all():
            raise DataError(
                f"{self.name}: needs one label, 0 (normal) or 1 (anomaly), for each of {len(scores)} scores"
            )
        normal, anomalous = np.sort(scores[labels == 0]), np.sort(scores[labels == 1])
        if not len(normal):
            raise DataError(f"{self.name}: needs scores of normals, got none")
        if CALIBRATION_METHODS.entry(self.name).facts.get("needs_anomalies", False) and not len(anomalous):
            raise DataError(f"{self.name}: needs some labelled anomalies, got none")
        return normal, anomalous


def around(interval: tuple[float | None, float | None], value: float) -> tuple[float | None, float | None]:
    """An interval, widened where it would not hold the value that it goes with."""
    low, high = interval
    return (None if low is None else min(low, value)), (None if high is None else max(high, value))


def check_share(name: str, value: float) -> float:
    """A number strictly between 0 and 1.

    Raises
    ------
    DataError
        If it is not.
    """
    if not 0 < value < 1:
        raise DataError(f"{name} must lie between 0 and 1, got {value:g}")
    return float(value)


def calibrate(method: str, scores: np.ndarray, labels: np.ndarray | None = None, **options: Any) -> Calibration:
    """Fit the named method; the options are arguments of its constructor.

    Parameters
    ----------
    method
        A key of `vae_anomaly.registry.CALIBRATION_METHODS`.
    scores
        Anomaly scores ``(N,)``.
    labels
        1 = anomaly, 0 = normal, ``(N,)``; None: all are normal.

    Raises
    ------
    DataError
        If the method is unknown or does not take an option, and whatever its ``fit`` raises.
    """
    if method not in CALIBRATION_METHODS:
        raise DataError(f"method must be one of {', '.join(CALIBRATION_METHODS)}, got {method!r}")
    kind: type[Method] = CALIBRATION_METHODS[method]
    known = inspect.signature(kind).parameters
    unknown = [name for name in options if name not in known]
    if unknown:
        raise DataError(
            f"method {method!r} does not take {', '.join(unknown)}: it takes {', '.join(known) or 'nothing'}"
        )
    return kind(**options).fit(scores, labels).calibration_


def promised_alarms(calibration: Calibration, n_new: int) -> tuple[float, float] | None:
    """Interval for the share of ``n_new`` new normals that the threshold flags; None where the method promises none."""
    if calibration.method not in CALIBRATION_METHODS:
        return None
    kind: type[Method] = CALIBRATION_METHODS[calibration.method]
    return kind.promised_false_alarms(calibration, n_new)
