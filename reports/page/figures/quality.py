"""How good the scores are, where labels say which samples are anomalies."""

from __future__ import annotations

from vae_anomaly.evaluation.bands import precision_recall_band, roc_band
from vae_anomaly.registry import FIGURES
from vae_anomaly.reports.page.captioned_figure import CaptionedFigure
from vae_anomaly.reports.page.report import Report
from vae_anomaly.reports.plots.curves import plot_per_class, plot_precision_recall, plot_roc
from vae_anomaly.reports.plots.distributions import plot_p_values


@FIGURES.register("roc", section="quality", order=10)
def roc(report: Report) -> CaptionedFigure | None:
    """The ROC curve with its band."""
    if report.evaluation is None or report.anomalous is None:
        return None
    auc = report.evaluation.roc_auc
    band = roc_band(report.anomaly_score, report.anomalous.astype(int))
    return CaptionedFigure(
        "ROC curve",
        "For every threshold, the share of anomalies found against the share of normals flagged. The band is a 95 % "
        "interval at each point; the mark is the threshold in use, with its exact 95 % intervals.",
        f"ROC curve with an area of {auc.value:.4f} (95 % interval {auc.low:.4f} to {auc.high:.4f}).",
        plot_roc(report.evaluation.roc, auc, report.evaluation.decisions, band),
    )


@FIGURES.register("precision_recall", section="quality", order=20)
def precision_recall(report: Report) -> CaptionedFigure | None:
    """The precision-recall curve with its band."""
    if report.evaluation is None or report.anomalous is None:
        return None
    average = report.evaluation.average_precision
    band = precision_recall_band(report.anomaly_score, report.anomalous.astype(int))
    return CaptionedFigure(
        "Precision and recall",
        "For every threshold, the share of flagged samples that are anomalies (precision) against the share of "
        "anomalies found (recall). The horizontal line is what flagging at random gives.",
        f"Precision-recall curve with an average precision of {average.value:.4f} (95 % interval {average.low:.4f} to "
        f"{average.high:.4f}).",
        plot_precision_recall(report.evaluation.precision_recall, average, report.evaluation.decisions, band),
    )


@FIGURES.register("per_class", section="quality", order=30)
def per_class(report: Report) -> CaptionedFigure | None:
    """ROC-AUC of each anomalous class."""
    if report.evaluation is None or not report.evaluation.per_group:
        return None
    groups = report.evaluation.per_group
    value, worst = min((auc.value, name) for name, auc in groups.items())
    return CaptionedFigure(
        "Each anomalous class",
        "ROC-AUC of each class's samples against all normals, with its 95 % interval.",
        f"ROC-AUC of {len(groups)} anomalous classes, lowest {value:.4f} for {worst}.",
        plot_per_class(groups, report.evaluation.roc_auc),
    )


@FIGURES.register("p_values", section="quality", order=40)
def p_values(report: Report) -> CaptionedFigure | None:
    """Whether p-values of normals are uniform; those that are weighted for a target need not be."""
    if report.evaluation is None or report.anomalous is None or "weight" in report.held_out:
        return None
    return CaptionedFigure(
        "Do p-values keep their promise",
        "The share of the normals here whose p-value is at most t. If they are like the held-out normals, the curve "
        "follows the diagonal; where it is above, there are more false alarms than promised.",
        f"Share of the {report.evaluation.roc_auc.n_normal:,} normals with a p-value of at most t, against t.",
        plot_p_values(report.p_value[~report.anomalous], report.calibration.n_normal),
    )
