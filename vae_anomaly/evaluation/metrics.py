"""How good a score is, from scores and labels alone, and how sure one can be of it.

Scores here are anomaly scores, higher is more anomalous; labels are 1 for an anomaly, 0 for a normal. Ties count half
in ROC-AUC, and as one step of a curve. Constant scores are no error: their ROC-AUC is 0.5. Intervals cover at least
95 % (`docs/promises.md` has what simulation finds).
"""

from __future__ import annotations

import numpy as np
from scipy.stats import ks_2samp

from vae_anomaly.calibration.intervals import clopper_pearson
from vae_anomaly.errors import DataError
from vae_anomaly.evaluation.bootstrap import OrderedScores
from vae_anomaly.evaluation.precision_recall import average_precision_estimate, precision
from vae_anomaly.evaluation.prevalence import at_prevalence
from vae_anomaly.evaluation.result import Curve, Decisions, Estimate, Evaluation, PValueCheck, RocAuc
from vae_anomaly.evaluation.roc import fpr_at_tpr, partial_area, rates, roc_auc, tpr_at_fpr


def evaluate(
    scores: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    threshold: float | None = None,
    calibration_scores: np.ndarray | None = None,
    prevalence: float | None = None,
    miss: float = 1.0,
    false_alarm: float = 1.0,
) -> Evaluation:
    """Evaluate anomaly scores by their labels.

    Parameters
    ----------
    scores
        Anomaly scores ``(N,)``.
    labels
        1 = anomaly, 0 = normal, ``(N,)``.
    groups
        Names of what the samples belong to, ``(N,)``, such as classes; the anomalies of each are evaluated by
        themselves too.
    threshold
        Samples with a score strictly above it count as flagged.
    calibration_scores
        Anomaly scores of the held-out normals, to see whether p-values against them are uniform on the normals here.
    prevalence
        Share of anomalies among the samples to come, for precision, F score and cost there; it needs a threshold.
    miss, false_alarm
        Costs of an anomaly that is not flagged and of a normal that is.

    Raises
    ------
    DataError
        As `roc.roc_auc` and `prevalence.at_prevalence`, or if the groups have another length.
    """
    overall = roc_auc(scores, labels)
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if groups is not None and np.shape(groups) != scores.shape:
        raise DataError(f"{len(scores)} scores but groups of shape {np.shape(groups)}")
    decisions = None if threshold is None else decisions_at(threshold, scores, labels)
    if decisions is None and prevalence is not None:
        raise DataError("a prevalence needs a threshold, whose precision depends on it")
    ordered = OrderedScores(scores, labels)
    counts = ordered.counts()
    fpr, tpr = rates(*counts)
    thresholds = -ordered.distinct

    return Evaluation(
        roc_auc=overall,
        average_precision=average_precision_estimate(ordered),
        average_precision_chance=float(labels.mean()),
        fpr_at_95_tpr=fpr_at_tpr(fpr, tpr, at=0.95),
        tpr_at_1_fpr=tpr_at_fpr(fpr, tpr, at=0.01),
        partial_auc=partial_area(fpr, tpr, up_to=0.1),
        decisions=decisions,
        at_prevalence=(
            None
            if decisions is None or prevalence is None
            else at_prevalence(decisions, prevalence, miss=miss, false_alarm=false_alarm)
        ),
        per_group={} if groups is None else roc_auc_per_group(scores, labels, np.asarray(groups)),
        p_value_check=None if calibration_scores is None else check_p_values(calibration_scores, scores[labels == 0]),
        roc=Curve(fpr, tpr, np.concatenate([[np.inf], thresholds])),
        precision_recall=Curve(tpr[1:], precision(*counts), thresholds),
    )


def decisions_at(threshold: float, scores: np.ndarray, labels: np.ndarray) -> Decisions:
    """Confusion counts and rates at a threshold."""
    flagged = scores > threshold
    tp, fp = int((flagged & (labels == 1)).sum()), int((flagged & (labels == 0)).sum())
    m, n = int((labels == 1).sum()), int((labels == 0).sum())
    return Decisions(
        threshold=float(threshold),
        true_positives=tp,
        false_positives=fp,
        true_negatives=n - fp,
        false_negatives=m - tp,
        false_alarm_rate=Estimate(*clopper_pearson(fp, n)),
        detection_rate=Estimate(*clopper_pearson(tp, m)),
        precision=tp / (tp + fp) if tp + fp else None,
    )


def roc_auc_per_group(scores: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> dict[str, RocAuc]:
    """ROC-AUC of the anomalies of each group against all normals."""
    normal = labels == 0
    names = np.unique(groups[~normal]).tolist()
    rows = {str(name): normal | (groups == name) for name in names}
    return {name: roc_auc(scores[chosen], labels[chosen]) for name, chosen in rows.items()}


def check_p_values(held_out: np.ndarray, normal: np.ndarray) -> PValueCheck:
    """Distance between the scores of held-out and of new normals."""
    result = ks_2samp(held_out, normal)
    return PValueCheck(float(result.statistic), float(result.pvalue))
