"""What the model takes for normal: samples that it draws, and what it decodes along lines in the latent space."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from vae_anomaly.registry import FIGURES
from vae_anomaly.reports.page.captioned_figure import CaptionedFigure
from vae_anomaly.reports.page.charts import small
from vae_anomaly.reports.page.report import Report
from vae_anomaly.reports.plots.samples import displayable, image_rows, plot_profiles

COLUMNS = 8
GRID_WIDTH = 480  # pixels of a row of images


@FIGURES.register("samples", section="generated", order=10)
def samples(report: Report) -> CaptionedFigure | None:
    """New samples from the prior."""
    if not has_numbers(report):
        return None
    X = report.generated.samples
    rows, caption = len(X) // COLUMNS, "New samples that the model draws from its prior: each should look normal."
    if report.image_shape is not None:
        images = X[: rows * COLUMNS].reshape(rows, COLUMNS, -1)
        figure = rows_of_images(report, images, [""] * rows, [""] * COLUMNS)
    else:
        figure = profiles(report, X, None)
        caption += " Values are in standard deviations from the mean of these samples." + without_categories(report)
    return CaptionedFigure("Drawn from the model", caption, f"{len(X)} samples drawn from the model.", figure)


@FIGURES.register("traversal", section="generated", order=20)
def traversal(report: Report) -> CaptionedFigure | None:
    """Samples along single latent units: all that were traversed for images, the first for tables."""
    if not has_numbers(report):
        return None
    X, steps = report.generated.traversal, every_other([f"{step:+g}" for step in report.generated.steps.tolist()])
    units = [f"unit {unit}" for unit in report.generated.traversed.tolist()]
    if report.image_shape is not None:
        figure = rows_of_images(report, X, units, steps)
    else:
        units = units[:1]
        figure = profiles(report, X[0], steps)
    several = len(units) > 1
    return CaptionedFigure(
        "Along the latent units" if several else f"Along latent {units[0]}",
        "One unit at a time goes from two standard deviations below its mean to two above; the others stay at theirs."
        if several
        else "The unit goes from two standard deviations below its mean to two above; the others stay at theirs."
        + without_categories(report),
        f"Samples along {listed(units)}, "
        + ("the units whose means vary most." if several else "the unit whose mean varies most."),
        figure,
    )


@FIGURES.register("interpolation", section="generated", order=30)
def interpolation(report: Report) -> CaptionedFigure | None:
    """Samples between two normals."""
    if not has_numbers(report):
        return None
    X = report.generated.interpolation
    shares = every_other([f"{share:.0%}" for share in np.linspace(0, 1, len(X))])
    if report.image_shape is not None:
        figure = rows_of_images(report, X[None], [""], shares)
    else:
        figure = profiles(report, X, shares)
    return CaptionedFigure(
        "Between two normals",
        "From one normal sample to another, on a straight line in the latent space." + without_categories(report),
        f"{len(X)} samples on the line between two normals.",
        figure,
    )


def rows_of_images(report: Report, flat: np.ndarray, row_labels: list[str], column_labels: list[str]) -> Figure:
    """Flat images ``(R, C, D)`` in R labelled rows and C labelled columns."""
    assert report.image_shape is not None
    images = displayable(flat.reshape(-1, *report.image_shape))
    images = small(images, GRID_WIDTH // len(column_labels))
    return image_rows(images.reshape(*flat.shape[:2], *images.shape[1:]), row_labels, column_labels, report.limits)


def has_numbers(report: Report) -> bool:
    """Whether a feature is no category."""
    return bool(len(report.levels) < report.generated.samples.shape[1])


def without_categories(report: Report) -> str:
    """What a caption says of categories."""
    return " Columns that are categories are left out." if report.levels else ""


def profiles(report: Report, X: np.ndarray, column_labels: list[str] | None) -> Figure:
    """Rows of a table ``(N, D)`` without categories, in standard deviations of generated samples from their mean."""
    shown = [place for place in range(X.shape[1]) if place not in report.levels]
    X, generated = X[:, shown], report.generated.samples[:, shown]
    spread = generated.std(axis=0)
    standardised = (X - generated.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    names = report.feature_names or tuple(map(str, range(report.generated.samples.shape[1])))
    return plot_profiles(standardised, tuple(names[place] for place in shown), column_labels)


def every_other(labels: list[str]) -> list[str]:
    """Labels, every second one left out to make room."""
    return [label if i % 2 == 0 else "" for i, label in enumerate(labels)]


def listed(names: list[str]) -> str:
    """Names in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
