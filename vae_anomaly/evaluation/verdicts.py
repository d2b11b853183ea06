"""What passes: the one rule by which the terminal and the report's page say that something is as it should be.

What is seen passes unless it lies outside what chance gives in 95 % of cases, the level of all intervals here. So one
in twenty sound models gets a warning for each of these; a warning is a reason to look, not a proof.
"""

from __future__ import annotations

from scipy.stats import binom

from vae_anomaly.calibration.intervals import CONFIDENCE


def is_surprising(p_value: float) -> bool:
    """Whether chance explains it in fewer than 5 % of cases."""
    return p_value < 1 - CONFIDENCE


def breaks_promise(promised: tuple[float, float], rate: float) -> bool:
    """Whether there are more false alarms than the 95 % interval that was promised for so many normals."""
    return rate > promised[1]


def more_than_false_alarms(n_flagged: int, n: int, rate: float) -> bool:
    """Whether more of n samples are flagged than normals with at most this false-alarm rate explain."""
    return is_surprising(float(binom.sf(n_flagged - 1, n, rate)))
