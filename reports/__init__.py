"""Arrays and results to figures, tables and pages; knows no model.

Names are loaded on first use: a score table needs no plotting library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vae_anomaly.reports.benchmark_table import record_frame, summary_table, write_benchmark
    from vae_anomaly.reports.page.folder import PAGE, check_report_folder
    from vae_anomaly.reports.page.report import Beliefs, Evidence, Report
    from vae_anomaly.reports.page.selection import gallery_rows
    from vae_anomaly.reports.page.write import write_report
    from vae_anomaly.reports.plots.curves import plot_per_class, plot_precision_recall, plot_roc
    from vae_anomaly.reports.plots.distributions import plot_p_values, plot_scores
    from vae_anomaly.reports.plots.evidence import measured, plot_feature_evidence, plot_image_evidence
    from vae_anomaly.reports.plots.figures import image_grid, image_rows, plot_profiles
    from vae_anomaly.reports.plots.latents import plot_latent_space, plot_latent_units
    from vae_anomaly.reports.plots.model_plots import plot_history, plot_terms
    from vae_anomaly.reports.plots.style import to_png, to_svg
    from vae_anomaly.storage.record_log import RecordLog
    from vae_anomaly.storage.resumable_table import RESUMABLE_SUFFIXES, ResumableTable, open_resumable_table
    from vae_anomaly.storage.score_formats import Columns, ScoreTable
    from vae_anomaly.storage.score_table import SCORE_SUFFIXES, open_score_table, read_score_table

_MODULES = {
    "vae_anomaly.reports.benchmark_table": ("record_frame", "summary_table", "write_benchmark"),
    "vae_anomaly.reports.page.folder": ("PAGE", "check_report_folder"),
    "vae_anomaly.reports.page.report": ("Beliefs", "Evidence", "Report"),
    "vae_anomaly.reports.page.selection": ("gallery_rows",),
    "vae_anomaly.reports.plots.curves": ("plot_per_class", "plot_precision_recall", "plot_roc"),
    "vae_anomaly.reports.plots.distributions": ("plot_p_values", "plot_scores"),
    "vae_anomaly.reports.plots.evidence": ("measured", "plot_feature_evidence", "plot_image_evidence"),
    "vae_anomaly.reports.plots.figures": ("image_grid", "image_rows", "plot_profiles"),
    "vae_anomaly.reports.plots.latents": ("plot_latent_space", "plot_latent_units"),
    "vae_anomaly.reports.plots.model_plots": ("plot_history", "plot_terms"),
    "vae_anomaly.reports.plots.style": ("to_png", "to_svg"),
    "vae_anomaly.reports.page.write": ("write_report",),
    "vae_anomaly.storage.record_log": ("RecordLog",),
    "vae_anomaly.storage.resumable_table": ("RESUMABLE_SUFFIXES", "ResumableTable", "open_resumable_table"),
    "vae_anomaly.storage.score_formats": ("Columns", "ScoreTable"),
    "vae_anomaly.storage.score_table": ("SCORE_SUFFIXES", "open_score_table", "read_score_table"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "PAGE",
    "RESUMABLE_SUFFIXES",
    "SCORE_SUFFIXES",
    "Beliefs",
    "Columns",
    "Evidence",
    "RecordLog",
    "Report",
    "ResumableTable",
    "ScoreTable",
    "check_report_folder",
    "gallery_rows",
    "image_grid",
    "image_rows",
    "measured",
    "open_resumable_table",
    "open_score_table",
    "plot_feature_evidence",
    "plot_history",
    "plot_image_evidence",
    "plot_latent_space",
    "plot_latent_units",
    "plot_p_values",
    "plot_per_class",
    "plot_precision_recall",
    "plot_profiles",
    "plot_roc",
    "plot_scores",
    "plot_terms",
    "read_score_table",
    "record_frame",
    "summary_table",
    "to_png",
    "to_svg",
    "write_benchmark",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
