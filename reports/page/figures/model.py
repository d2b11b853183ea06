"""How the model was trained, and how it uses its latent space."""

from __future__ import annotations

from vae_anomaly.registry import FIGURES
from vae_anomaly.reports.page.captioned_figure import CaptionedFigure
from vae_anomaly.reports.page.report import Report
from vae_anomaly.reports.plots.latents import ACTIVE, plot_latent_space, plot_latent_units
from vae_anomaly.reports.plots.model_plots import plot_history


@FIGURES.register("history", section="model", order=10)
def history(report: Report) -> CaptionedFigure | None:
    """The terms of the ELBO over the epochs."""
    if not report.history:
        return None
    last = report.history[-1]
    return CaptionedFigure(
        "Training",
        "Both terms of the ELBO after each epoch, for the samples that the model was trained on and for those that "
        "decided when to stop.",
        f"{len(report.history)} epochs of training, ending at a validation reconstruction term of "
        f"{last['validation_reconstruction']:,.1f} and KL term of {last['validation_kl']:,.1f} nats.",
        plot_history(report.history),
    )


@FIGURES.register("latent_units", section="model", order=20)
def latent_units(report: Report) -> CaptionedFigure:
    """Which latent units carry information."""
    variance = report.codes.var(axis=0)
    return CaptionedFigure(
        "Latent units in use",
        "How much each unit's posterior mean varies over the samples here. A unit below the line carries no "
        "information.",
        f"{int((variance > ACTIVE).sum())} of {len(variance)} latent units are in use.",
        plot_latent_units(variance),
    )


@FIGURES.register("latent_space", section="model", order=30)
def latent_space(report: Report) -> CaptionedFigure | None:
    """Samples in the latent space, from two units and three samples on."""
    if report.codes.shape[1] < 2 or len(report.codes) < 3:
        return None
    anomalous = None if report.anomalous is None else report.anomalous[report.code_rows]
    return CaptionedFigure(
        "Latent space",
        "Posterior means of the samples, along the two directions in which those of normals vary most.",
        f"Two principal components of the posterior means of {len(report.codes):,} samples.",
        plot_latent_space(report.codes, anomalous),
    )
