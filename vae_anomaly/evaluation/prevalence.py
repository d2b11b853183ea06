r"""What a threshold is worth where anomalies are as common as a user says.

Labelled samples mostly hold far more anomalies than what comes later. The detection rate d and the false-alarm rate a
do not depend on that share :math:`\pi`; precision, the F score and the expected cost of a sample do:

.. math:: P = \frac{\pi d}{\pi d + (1 - \pi) a}, \qquad
    F_1 = \frac{2 \pi d}{\pi d + (1 - \pi) a + \pi}, \qquad
    C = \pi c_\text{miss} (1 - d) + (1 - \pi) c_\text{alarm} a

Each rises in one of the two rates and falls in the other, so its range over the exact intervals of both, of 97.5 %
each, covers at least 95 %.
"""

from __future__ import annotations

import math

import numpy as np

from vae_anomaly.calibration.intervals import CONFIDENCE, clopper_pearson_bounds
from vae_anomaly.calibration.methods import check_share
from vae_anomaly.errors import DataError
from vae_anomaly.evaluation.result import AtPrevalence, Decisions, Estimate

EACH = 1 - (1 - CONFIDENCE) / 2


def at_prevalence(
    decisions: Decisions, prevalence: float, *, miss: float = 1.0, false_alarm: float = 1.0
) -> AtPrevalence:
    """Precision, F score and cost of a threshold at a share of anomalies.

    Parameters
    ----------
    decisions
        What the threshold does with labelled samples.
    prevalence
        Share of anomalies among the samples to come, in (0, 1).
    miss, false_alarm
        Costs of an anomaly that is not flagged and of a normal that is, in one unit.

    Raises
    ------
    DataError
        If the share does not lie between 0 and 1, or a cost is not a number above 0.
    """
    share = check_share("prevalence", prevalence)
    if not (0 < miss < math.inf and 0 < false_alarm < math.inf):
        raise DataError(f"costs must be numbers above 0, got {miss:g} and {false_alarm:g}")
    m = decisions.true_positives + decisions.false_negatives
    n = decisions.false_positives + decisions.true_negatives
    detected = clopper_pearson_bounds(decisions.true_positives, m, EACH)
    alarms = clopper_pearson_bounds(decisions.false_positives, n, EACH)
    # the rates seen, the worse end of both, the better end of both
    d = np.array([decisions.detection_rate.value, detected[0], detected[1]])
    a = np.array([decisions.false_alarm_rate.value, alarms[1], alarms[0]])
    found, wrong = share * d, (1 - share) * a
    with np.errstate(invalid="ignore"):
        precision = (found / (found + wrong)).tolist()
    cost = (miss * (share - found) + false_alarm * wrong).tolist()
    return AtPrevalence(
        prevalence=share,
        miss=miss,
        false_alarm=false_alarm,
        precision=None if math.isnan(precision[0]) else Estimate(*precision),
        f1=Estimate(*(2 * found / (found + wrong + share)).tolist()),
        cost=Estimate(cost[0], cost[2], cost[1]),
    )
