"""`Calibration`: a threshold with what to expect from it; `calibration.methods` makes them.

Reading one and describing it needs no NumPy and no SciPy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from vae_anomaly.registry import CALIBRATION_METHODS

LEFT_OUT = (  # docs/refits.md has the figures of 300 rows; those of fewer are of 50 fits like these
    "each row is left out of its own score, not of the networks: 5 % may be up to 8 % for 60 rows, 7 % for 100, 6 % "
    "for 300"
)
BY_FOLDS = (
    "each row is scored by a model that was fitted without it and its fold, new rows by one more: 5 % is 2 to 7 % for "
    "30 to 100 rows, of kl and likelihood_regret up to 14 %"
)
KEEPING_NEARLY = (LEFT_OUT, BY_FOLDS)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A threshold, what was asked for, and what to expect from it; intervals cover 95 %.

    Parameters
    ----------
    method
        Name of the method, a key of `vae_anomaly.registry.CALIBRATION_METHODS`.
    threshold, threshold_low, threshold_high
        Anomaly score above which a sample is flagged, with the interval of the threshold that all normals would give.
        An end is None where nothing bounds it; both are where there is no interval.
    rate
        The rate asked for, where the method takes one.
    delta
        Share of calibration sets for which a conditional promise may fail.
    false_alarm_rate, false_alarm_low, false_alarm_high
        Share of new normals to expect above the threshold, with its interval.
    detection_rate, detection_low, detection_high
        The same for anomalies, where some were given.
    n_normal, n_anomalous
        Scores it rests on.
    note
        A warning, or None.
    basis
        How the rates were found, or what they rest on, where that is not a count of samples that chose nothing.
    n_unseen
        Normals that the false alarms were counted among, where the threshold was set by others.
    n_effective, n_target, target_auc
        Where the normals are weighted for a target: as how many they count, rows of the target, and the ROC-AUC of the
        classifier that tells both apart (0.5: no shift). All are None where they are not.
    """

    method: str
    threshold: float
    threshold_low: float | None
    threshold_high: float | None
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
    basis: str | None = None
    n_unseen: int | None = None
    n_effective: float | None = None
    n_target: int | None = None
    target_auc: float | None = None

    @property
    def n_counted(self) -> int:
        """Normals that the false alarms to expect were counted among."""
        return self.n_normal if self.n_unseen is None else self.n_unseen

    @property
    def kept_nearly_by(self) -> str | None:
        """Why its rate is kept nearly, where rows set it that the model was fitted to; None if they are not such."""
        return next((why for why in KEEPING_NEARLY if self.basis is not None and self.basis.startswith(why)), None)

    def resting_as(self, before: Calibration) -> Calibration:
        """The same, saying of its normals what a calibration said that rested on the same."""
        if (why := before.kept_nearly_by) is None:
            return self
        return replace(self, basis=why if self.basis is None else f"{why}; {self.basis}")

    def threshold_interval(self, written: Callable[[float], str]) -> str:
        """The threshold's interval in words, with its numbers written by a function."""
        low, high = self.threshold_low, self.threshold_high
        if low is not None and high is not None:
            return f"95 % interval {written(low)} to {written(high)}"
        if low is not None:
            return f"95 % interval from {written(low)}, unbounded above"
        return "no interval" if high is None else f"95 % interval up to {written(high)}, unbounded below"

    def promise(self) -> str:
        """What the method promises of the threshold, in words, from what it was registered with."""
        if self.method not in CALIBRATION_METHODS:
            return "a method that is not installed here"
        entry = CALIBRATION_METHODS.entry(self.method)
        template = entry.facts.get("promise", entry.help)
        if self.delta is not None:
            template = entry.facts.get("promise_with_delta", template)
        if self.kept_nearly_by is not None:
            template = entry.facts.get("promise_if_nearly", template)
        rate, delta = ("an unknown share" if share is None else f"{share:.3g}" for share in (self.rate, self.delta))
        text: str = template.format(rate=rate, delta=delta, n_samples=f"{self.n_normal + self.n_anomalous:,}")
        return text
