"""Which samples a report shows, and what each threshold it offers would do: choices made by scores alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vae_anomaly.calibration.intervals import exceedance

EACH = 8
MAX_ROWS = 10_000
STOPS = 400


def gallery_rows(
    anomaly_score: np.ndarray, threshold: float, anomalous: np.ndarray | None = None, each: int = EACH
) -> dict[str, np.ndarray]:
    """Indices of the samples worth a look, by kind, the most telling first.

    Parameters
    ----------
    anomaly_score
        ``(N,)``, higher is more anomalous.
    threshold
        Flagged is what lies strictly above it.
    anomalous
        Which samples are anomalies, ``(N,)`` bool; None: nobody knows.
    each
        At most so many of a kind.

    Returns
    -------
    dict of str to ndarray
        ``most anomalous``, ``borderline``, with labels ``missed`` and ``false alarms``, and ``typical``: those in
        the middle of the normals' scores (without labels, of what is not flagged).
    """
    flagged = anomaly_score > threshold
    order = np.argsort(-anomaly_score, kind="stable")
    chosen = {
        "most anomalous": order[:each],
        "borderline": np.argsort(np.abs(anomaly_score - threshold), kind="stable")[:each],
    }
    passed = ~flagged
    if anomalous is not None:
        missed, alarms = anomalous & ~flagged, ~anomalous & flagged
        chosen["missed"] = order[::-1][missed[order[::-1]]][:each]
        chosen["false alarms"] = order[alarms[order]][:each]
        passed = ~anomalous
    if passed.any():
        distance = np.where(passed, np.abs(anomaly_score - np.median(anomaly_score[passed])), np.inf)
        chosen["typical"] = np.argsort(distance, kind="stable")[: min(each, int(passed.sum()))]
    return chosen


def table_rows(anomaly_score: np.ndarray, most: int = MAX_ROWS) -> np.ndarray:
    """Indices for a table, the most anomalous first: all, or the highest half of ``most`` and an even sample below."""
    order = np.argsort(-anomaly_score, kind="stable")
    if len(order) <= most:
        return order
    top, rest = order[: most // 2], order[most // 2 :]
    return np.concatenate([top, rest[np.linspace(0, len(rest) - 1, most - len(top)).astype(int)]])


@dataclass(frozen=True)
class Stops:
    """What thresholds, from low to high, do; every array is ``(S,)``.

    Parameters
    ----------
    threshold
        Anomaly scores: of samples, of held-out normals, and the one in force.
    flagged, true_positives, false_positives
        Samples strictly above; of these, anomalies and normals (None without labels).
    false_alarm_rate, false_alarm_low, false_alarm_high
        Share of new normals to expect strictly above, with its exact 95 % interval.
    current
        Index of the threshold in force.
    """

    threshold: np.ndarray
    flagged: np.ndarray
    true_positives: np.ndarray | None
    false_positives: np.ndarray | None
    false_alarm_rate: np.ndarray
    false_alarm_low: np.ndarray
    false_alarm_high: np.ndarray
    current: int


def threshold_stops(
    anomaly_score: np.ndarray,
    anomalous: np.ndarray | None,
    held_out: np.ndarray,
    threshold: float,
    n: int = STOPS,
) -> Stops:
    """Thresholds over the whole range of the scores, denser where normals end, and what each does."""
    shares = np.linspace(0, 1, n)
    parts = [
        np.quantile(anomaly_score, shares, method="lower"),
        np.quantile(held_out, shares, method="lower"),
        [np.nextafter(anomaly_score.min(), -np.inf)],  # flags everything
        [threshold],
    ]
    stops = np.unique(np.concatenate(parts))
    wanted = np.linspace(0, len(stops) - 1, min(n, len(stops))).astype(int)
    current = int(np.searchsorted(stops, threshold))
    stops = stops[np.union1d(wanted, current)]

    def above(scores: np.ndarray) -> np.ndarray:
        return len(scores) - np.searchsorted(np.sort(scores), stops, side="right")

    rate, low, high = exceedance(above(held_out), len(held_out))
    return Stops(
        threshold=stops,
        flagged=above(anomaly_score),
        true_positives=None if anomalous is None else above(anomaly_score[anomalous]),
        false_positives=None if anomalous is None else above(anomaly_score[~anomalous]),
        false_alarm_rate=rate,
        false_alarm_low=low,
        false_alarm_high=high,
        current=int(np.searchsorted(stops, threshold)),
    )
