"""What the scores are: their distribution, and the two terms that they consist of."""

from __future__ import annotations

import numpy as np

from vae_anomaly.registry import FIGURES
from vae_anomaly.reports.page.captioned_figure import CaptionedFigure
from vae_anomaly.reports.page.report import Report
from vae_anomaly.reports.plots.distributions import plot_scores
from vae_anomaly.reports.plots.model_plots import plot_terms


@FIGURES.register("scores", section="scores", order=10)
def scores(report: Report) -> CaptionedFigure:
    """Histograms of the scores."""
    score, anomalous = report.anomaly_score, report.anomalous
    normal = score if anomalous is None else score[~anomalous]
    bad = None if anomalous is None else score[anomalous]
    threshold = report.calibration.threshold
    what = "all samples" if anomalous is None else "normal and anomalous samples"
    median_of_bad = "" if bad is None or not len(bad) else f" for normals and {np.median(bad):,.1f} for anomalies"
    return CaptionedFigure(
        "Anomaly scores",
        f"Histograms of {what}, and of the held-out normals that the threshold was computed from. Samples right of the "
        "threshold are flagged.",
        f"Histogram of the anomaly scores of {what}: median {np.median(normal):,.1f}{median_of_bad}, "
        f"threshold {threshold:,.1f}.",
        plot_scores(
            normal, bad, threshold, report.held_out["anomaly_score"], unit="nats" if report.score == "elbo" else ""
        ),
    )


@FIGURES.register("terms", section="scores", order=20)
def terms(report: Report) -> CaptionedFigure:
    """Both terms of the ELBO against each other."""
    threshold = report.calibration.threshold if report.score == "elbo" else None
    return CaptionedFigure(
        "The two terms of the score",
        "Each point is a sample. The model reconstructs the samples at the bottom badly; the latent codes of those on "
        "the right are unlike the codes of normals." + (" The line is the threshold." if threshold is not None else ""),
        f"Scatter of reconstruction term (median {np.median(report.reconstruction):,.1f} nats) against KL term (median "
        f"{np.median(report.kl):,.1f} nats).",
        plot_terms(report.reconstruction, report.kl, report.anomalous, threshold),
    )
