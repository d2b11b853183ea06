"""The figures of a report, each with what it shows in words for those who cannot see it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from matplotlib.figure import Figure

from vae_anomaly.evaluation.bands import precision_recall_band, roc_band
from vae_anomaly.evaluation.result import Evaluation
from vae_anomaly.reports.page.charts import small
from vae_anomaly.reports.page.report import Report
from vae_anomaly.reports.plots.curves import plot_per_class, plot_precision_recall, plot_roc
from vae_anomaly.reports.plots.distributions import plot_p_values, plot_scores
from vae_anomaly.reports.plots.figures import image_rows, plot_profiles
from vae_anomaly.reports.plots.latents import plot_latent_space, plot_latent_units
from vae_anomaly.reports.plots.model_plots import plot_history, plot_terms
from vae_anomaly.reports.plots.style import to_svg

COLUMNS = 8
GRID_WIDTH = 480  # pixels of a row of images
ACTIVE = 0.01  # variance of a unit's posterior means from which it counts as active (arXiv:1509.00519)


@dataclass(frozen=True)
class Drawn:
    """A figure of the page.

    Parameters
    ----------
    name
        Of its file, without suffix.
    title, caption
        What it is, and how to read it.
    alt
        What it shows, in words.
    figure
        The picture.
    section
        Where it stands: "scores", "quality", "model" or "beliefs".
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure
    section: str

    @cached_property
    def svg(self) -> bytes:
        """The picture as SVG, drawn once."""
        return to_svg(self.figure)


def report_figures(report: Report) -> list[Drawn]:
    """All figures that the report's contents allow."""
    drawn = [scores_figure(report), terms_figure(report)]
    if report.evaluation is not None and report.anomalous is not None:
        drawn += quality_figures(report, report.evaluation, report.anomalous)
    return drawn + model_figures(report) + belief_figures(report)


def scores_figure(report: Report) -> Drawn:
    """Histograms of the scores."""
    score, anomalous = report.anomaly_score, report.anomalous
    normal = score if anomalous is None else score[~anomalous]
    bad = None if anomalous is None else score[anomalous]
    threshold = report.calibration.threshold
    what = "all samples" if anomalous is None else "normal and anomalous samples"
    return Drawn(
        "scores",
        "Anomaly scores",
        f"Histograms of {what}, and the held-out normals that the threshold rests on. What lies right of the "
        "threshold is flagged.",
        f"Histogram of the anomaly scores of {what}: median {np.median(normal):,.1f}"
        + ("" if bad is None or not len(bad) else f" for normals and {np.median(bad):,.1f} for anomalies")
        + f", threshold {threshold:,.1f}.",
        plot_scores(
            normal,
            bad,
            threshold,
            report.held_out["anomaly_score"],
            unit="nats" if report.score == "elbo" else "",
        ),
        "scores",
    )


def terms_figure(report: Report) -> Drawn:
    """Both terms of the ELBO."""
    threshold = report.calibration.threshold if report.score == "elbo" else None
    return Drawn(
        "terms",
        "The score's two terms",
        "A point a sample: the model fails to draw those at the bottom, and finds the code of those on the right "
        "unlike that of normals." + (" The line is the threshold." if threshold is not None else ""),
        f"Scatter of reconstruction term (median {np.median(report.reconstruction):,.1f} nats) against KL term (median "
        f"{np.median(report.kl):,.1f} nats).",
        plot_terms(report.reconstruction, report.kl, report.anomalous, threshold),
        "scores",
    )


def quality_figures(report: Report, evaluation: Evaluation, anomalous: np.ndarray) -> list[Drawn]:
    """How good the score is."""
    auc, precision = evaluation.roc_auc, evaluation.average_precision
    labels = anomalous.astype(int)
    drawn = [
        Drawn(
            "roc",
            "ROC curve",
            "For every threshold, the share of anomalies found against the share of normals flagged; the band covers "
            "each point 19 times in 20, and the mark is the threshold in force with its exact intervals.",
            f"ROC curve with an area of {auc.value:.4f} (95 % interval {auc.low:.4f} to {auc.high:.4f}).",
            plot_roc(
                evaluation.roc,
                evaluation.roc_auc,
                evaluation.decisions,
                roc_band(report.anomaly_score, labels),
            ),
            "quality",
        ),
        Drawn(
            "precision_recall",
            "Precision and recall",
            "For every threshold, the share of the flagged that are anomalies against the share of anomalies found. "
            "The horizontal line is chance.",
            f"Precision-recall curve with an average precision of {precision.value:.4f} (95 % interval "
            f"{precision.low:.4f} to {precision.high:.4f}).",
            plot_precision_recall(
                evaluation.precision_recall,
                evaluation.average_precision,
                evaluation.decisions,
                precision_recall_band(report.anomaly_score, labels),
            ),
            "quality",
        ),
    ]
    if evaluation.per_group:
        worst = min(evaluation.per_group, key=lambda name: evaluation.per_group[name].value)
        drawn.append(
            Drawn(
                "per_class",
                "Each anomalous class",
                "ROC-AUC of each class's samples against all normals, with its 95 % interval.",
                f"ROC-AUC of {len(evaluation.per_group)} anomalous classes, lowest "
                f"{evaluation.per_group[worst].value:.4f} for {worst}.",
                plot_per_class(evaluation.per_group, evaluation.roc_auc),
                "quality",
            )
        )
    return [
        *drawn,
        Drawn(
            "p_values",
            "Are p-values what they promise",
            "Share of the normals with a p-value of at most t: on the diagonal if these normals are like the held-out "
            "ones. Above it, more false alarms come than promised.",
            f"Share of the {auc.n_normal:,} normals with a p-value of at most t, against t.",
            plot_p_values(report.p_value[~anomalous], report.calibration.n_normal),
            "quality",
        ),
    ]


def model_figures(report: Report) -> list[Drawn]:
    """What the model is like."""
    variance = report.codes.var(axis=0)
    drawn = []
    if report.history:
        last = report.history[-1]
        drawn.append(
            Drawn(
                "history",
                "Training",
                "Both terms of the ELBO, on the samples trained on and on those that stop the training.",
                f"{len(report.history)} epochs of training, ending at a validation reconstruction term of "
                f"{last['validation_reconstruction']:,.1f} and KL term of {last['validation_kl']:,.1f} nats.",
                plot_history(report.history),
                "model",
            )
        )
    drawn.append(
        Drawn(
            "latent_units",
            "Latent units in use",
            "Variance of each unit's posterior mean over the samples here: a unit below the line carries nothing.",
            f"{int((variance > ACTIVE).sum())} of {len(variance)} latent units are in use.",
            plot_latent_units(variance),
            "model",
        )
    )
    if report.codes.shape[1] > 1 and len(report.codes) > 2:
        anomalous = None if report.anomalous is None else report.anomalous[report.code_rows]
        drawn.append(
            Drawn(
                "latent_space",
                "Latent space",
                "Posterior means in the two directions in which normals vary most.",
                f"Two principal components of the posterior means of {len(report.codes):,} samples.",
                plot_latent_space(report.codes, anomalous),
                "model",
            )
        )
    return drawn


def belief_figures(report: Report) -> list[Drawn]:
    """What the model believes normal is."""
    beliefs = report.beliefs
    units = [f"unit {unit}" for unit in beliefs.traversed.tolist()]
    steps = every_other([f"{step:+g}" for step in beliefs.steps.tolist()])
    ways = every_other([f"{share:.0%}" for share in np.linspace(0, 1, len(beliefs.interpolation))])
    if report.image_shape is not None:
        draw = partial(rows_of_images, shape=report.image_shape, limits=report.limits)
        n = len(beliefs.samples) // COLUMNS * COLUMNS
        pictures = [
            draw(beliefs.samples[:n].reshape(n // COLUMNS, COLUMNS, -1), [""] * (n // COLUMNS), [""] * COLUMNS),
            draw(beliefs.traversal, units, steps),
            draw(beliefs.interpolation[None], [""], ways),
        ]
        units_of_values = ""
    else:
        names = report.feature_names or tuple(map(str, range(beliefs.samples.shape[1])))
        spread = beliefs.samples.std(axis=0)
        standardised = [
            (values - beliefs.samples.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
            for values in (beliefs.samples, beliefs.traversal[0], beliefs.interpolation)
        ]
        columns = (None, steps, ways)
        pictures = [plot_profiles(X, names, labels) for X, labels in zip(standardised, columns, strict=True)]
        units = units[:1]
        units_of_values = " Values in standard deviations of the drawn samples from their mean."
    return [
        Drawn(
            "samples",
            "Drawn from the model",
            f"New samples from the prior, as the model expects them: each should look normal.{units_of_values}",
            f"{len(beliefs.samples)} samples drawn from the model.",
            pictures[0],
            "beliefs",
        ),
        Drawn(
            "traversal",
            "Along the latent units" if len(units) > 1 else f"Along latent {units[0]}",
            "One unit moved from two standard deviations below its mean to two above, the others at their means.",
            f"Samples along {listed(units)}: the means of no other vary more.",
            pictures[1],
            "beliefs",
        ),
        Drawn(
            "interpolation",
            "Between two normals",
            "From one normal sample to another on a straight line in the latent space.",
            f"{len(beliefs.interpolation)} samples on the line between two normals.",
            pictures[2],
            "beliefs",
        ),
    ]


def rows_of_images(
    flat: np.ndarray,
    row_labels: list[str],
    column_labels: list[str],
    shape: tuple[int, ...],
    limits: tuple[float, float] | None,
) -> Figure:
    """Flat images ``(R, C, D)``; of another number of channels than 1 or 3, their mean."""
    images = flat.reshape(*flat.shape[:2], *shape)
    if shape[-1] not in (1, 3):
        images = images.mean(axis=-1, keepdims=True)
    images = small(images.reshape(-1, *images.shape[2:]), GRID_WIDTH // len(column_labels))
    return image_rows(images.reshape(*flat.shape[:2], *images.shape[1:]), row_labels, column_labels, limits)


def every_other(labels: list[str]) -> list[str]:
    """Labels with the room of two."""
    return [label if i % 2 == 0 else "" for i, label in enumerate(labels)]


def listed(names: list[str]) -> str:
    """Names in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
