"""Which samples a report shows, and which thresholds it offers with what effects: choices made by scores alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vae_anomaly.calibration import weighted
from vae_anomaly.calibration.intervals import exceedance

EACH = 8  # samples of a kind in the gallery
MAX_ROWS = 10_000  # of the table
STOPS = 400  # thresholds that the slider offers


def gallery_rows(
    anomaly_score: np.ndarray, threshold: float, anomalous: np.ndarray | None = None, each: int = EACH
) -> dict[str, np.ndarray]:
    """Indices of samples to look at, by kind, the clearest cases first.

    Parameters
    ----------
    anomaly_score
        ``(N,)``, higher is more anomalous.
    threshold
        Samples strictly above it are flagged.
    anomalous
        Which samples are anomalies, ``(N,)`` bool; None: it is not known.
    each
        The most samples of one kind.

    Returns
    -------
    dict of str to ndarray
        ``most anomalous``, ``borderline``, with labels ``missed`` and ``false alarms``, and ``typical``: samples in
        the middle of the normals' scores (without labels, of the scores that are not flagged).
    """
    flagged = anomaly_score > threshold
    order = np.argsort(-anomaly_score, kind="stable")
    chosen = {
        "most anomalous": order[:each],
        "borderline": np.argsort(np.abs(anomaly_score - threshold), kind="stable")[:each],
    }
    normal = ~flagged
    if anomalous is not None:
        missed, alarms = anomalous & ~flagged, ~anomalous & flagged
        chosen["missed"] = order[::-1][missed[order[::-1]]][:each]
        chosen["false alarms"] = order[alarms[order]][:each]
        normal = ~anomalous
    if normal.any():
        distance = np.where(normal, np.abs(anomaly_score - np.median(anomaly_score[normal])), np.inf)
        chosen["typical"] = np.argsort(distance, kind="stable")[: min(each, int(normal.sum()))]
    return chosen


def table_rows(anomaly_score: np.ndarray, most: int = MAX_ROWS) -> np.ndarray:
    """Indices for a table, the most anomalous first: all, or ``most``: the top half and an even sample of the rest."""
    order = np.argsort(-anomaly_score, kind="stable")
    if len(order) <= most:
        return order
    top, rest = order[: most // 2], order[most // 2 :]
    return np.concatenate([top, rest[np.linspace(0, len(rest) - 1, most - len(top)).astype(int)]])


@dataclass(frozen=True)
class Stops:
    """Thresholds from low to high and their effects; every array is ``(S,)``.

    Parameters
    ----------
    threshold
        Anomaly scores: those of samples and of held-out normals, and the threshold in use.
    flagged, true_positives, false_positives
        How many samples are strictly above; how many of these are anomalies and normals (None without labels).
    false_alarm_rate, false_alarm_low, false_alarm_high
        Share of new normals to expect strictly above, with an interval of at least 95 %, with ties too.
    current
        Index of the threshold in use.
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
    weights: np.ndarray | None = None,
) -> Stops:
    """Thresholds at even quantiles of the samples' and of the held-out normals' scores, and their effects.

    The held-out normals may have weights, ``(M,)``, for the population that the samples come from.
    """
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

    if weights is None:
        rate, low, high = exceedance(above(held_out), len(held_out))
    else:
        rate, low, high = weighted.exceedance(held_out, weights, stops)
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
