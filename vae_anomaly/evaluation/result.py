"""What an evaluation finds: values with their intervals, curves, and how to write them down."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Estimate:
    """A value with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RocAuc:
    """Area under the ROC curve with its confidence interval, and the counts it rests on."""

    value: float
    low: float
    high: float
    n_normal: int
    n_anomalous: int


@dataclass(frozen=True)
class Decisions:
    """What a threshold does: counts, and the shares they make with exact (Clopper-Pearson) intervals."""

    threshold: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    false_alarm_rate: Estimate
    detection_rate: Estimate
    precision: float | None


@dataclass(frozen=True)
class AtPrevalence:
    """What a threshold is worth where a share ``prevalence`` of the samples are anomalies; `prevalence.at_prevalence`.

    Parameters
    ----------
    prevalence
        That share.
    miss, false_alarm
        Costs of an anomaly that is not flagged and of a normal that is.
    precision, f1
        Share of the flagged samples that are anomalies (None where nothing is flagged), and the F score.
    cost
        Expected cost of a sample, in the unit of the two costs.
    """

    prevalence: float
    miss: float
    false_alarm: float
    precision: Estimate | None
    f1: Estimate
    cost: Estimate


@dataclass(frozen=True)
class PValueCheck:
    """Whether the conformal p-values of the normals are uniform, as they are if new normals are like the held-out ones.

    The Kolmogorov-Smirnov distance between the scores of both, which is that of the p-values from the uniform law, and
    the probability of one so large. A test of the p-values alone would be wrong: they share their held-out normals.
    """

    distance: float
    p_value: float


@dataclass(frozen=True)
class Curve:
    """Points of a curve, one for each distinct score from the highest down: flag what is at least ``thresholds``."""

    x: np.ndarray
    y: np.ndarray
    thresholds: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Parameters
    ----------
    roc_auc
        All anomalies against all normals.
    average_precision, average_precision_chance
        Area under the precision-recall curve as a sum of steps, and what a random score gets: the share of anomalies.
    fpr_at_95_tpr, tpr_at_1_fpr
        Smallest false-alarm rate that finds 95 % of the anomalies; largest detection rate at 1 % false alarms.
    partial_auc
        ROC-AUC for false-alarm rates up to 10 %, standardised to 0.5 for chance and 1 for the best (McClish, 1989).
    decisions
        What the threshold does, if one was given.
    at_prevalence
        What the threshold is worth at the share of anomalies that was given, if one was.
    per_group
        The anomalies of each group against all normals.
    p_value_check
        Whether p-values of the normals are uniform, if the scores of held-out normals were given.
    roc, precision_recall
        The curves: false-alarm rate and detection rate; recall and precision.
    """

    roc_auc: RocAuc
    average_precision: Estimate
    average_precision_chance: float
    fpr_at_95_tpr: float
    tpr_at_1_fpr: float
    partial_auc: float
    decisions: Decisions | None
    at_prevalence: AtPrevalence | None
    per_group: dict[str, RocAuc]
    p_value_check: PValueCheck | None
    roc: Curve
    precision_recall: Curve

    def to_dict(self, *, curves: bool = False) -> dict[str, Any]:
        """Plain dictionaries and numbers, ready for JSON; the curves, as lists, on request."""
        result = asdict(self)
        for name in ("roc", "precision_recall"):
            curve = result.pop(name)
            if curves:
                result[name] = {key: values.tolist() for key, values in curve.items()}
        return result

    def to_json(self, *, curves: bool = False) -> str:
        """The same as text."""
        return json.dumps(self.to_dict(curves=curves), indent=2)

    def to_frame(self) -> pd.DataFrame:
        """ROC-AUC with interval and counts, a row for all anomalies and for each group of them."""
        import pandas as pd

        rows = {"all": self.roc_auc} | self.per_group
        return pd.DataFrame([{"group": name} | asdict(auc) for name, auc in rows.items()])


@dataclass(frozen=True)
class Comparison:
    """What `compare` found: ROC-AUC of both scores, and their difference (a - b) tested on the same samples.

    ``test`` says by what: ``"delong"`` or, with few anomalies or an area near 0 or 1, ``"permutation"``.
    """

    a: RocAuc
    b: RocAuc
    difference: Estimate
    p_value: float
    test: str

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries and numbers, ready for JSON."""
        return asdict(self)
