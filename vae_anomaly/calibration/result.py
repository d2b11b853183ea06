"""`Calibration`: a threshold with what to expect from it; `calibration.methods` makes them.

Reading one and describing it needs no NumPy and no SciPy.
"""

from __future__ import annotations

from dataclasses import dataclass

from vae_anomaly.registry import CALIBRATION_METHODS


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A threshold, what was asked for, and what to expect from it; intervals cover 95 %.

    Parameters
    ----------
    method
        Name of the method, a key of `vae_anomaly.registry.CALIBRATION_METHODS`.
    threshold, threshold_low, threshold_high
        Anomaly score above which a sample is flagged, with its bootstrap interval.
    rate
        The rate asked for, where the method takes one.
    delta
        Share of calibration sets for which a conditional promise may fail.
    false_alarm_rate, false_alarm_low, false_alarm_high
        Share of new normals to expect above the threshold, with an exact interval.
    detection_rate, detection_low, detection_high
        The same for anomalies, where some were given.
    n_normal, n_anomalous
        Scores it rests on.
    note
        A warning, or None.
    """

    method: str
    threshold: float
    threshold_low: float
    threshold_high: float
    rate: float | None
    delta: float | None
    false_alarm_rate: float
    false_alarm_low: float
    false_alarm_high: float
    detection_rate: float | None
    detection_low: float | None
    detection_high: float | None
    n_normal: int
    n_anomalous: int
    note: str | None

    def promise(self) -> str:
        """What the method promises of the threshold, in words, from what it was registered with."""
        if self.method not in CALIBRATION_METHODS:
            return "a method that is not installed here"
        entry = CALIBRATION_METHODS.entry(self.method)
        template = entry.facts.get("promise", entry.help)
        if self.delta is not None:
            template = entry.facts.get("promise_with_delta", template)
        rate, delta = ("an unknown share" if share is None else f"{share:.3g}" for share in (self.rate, self.delta))
        text: str = template.format(rate=rate, delta=delta, n_samples=f"{self.n_normal + self.n_anomalous:,}")
        return text
