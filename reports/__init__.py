"""Arrays and results to figures, tables and pages; knows no model.

Names are loaded on first use: a score table needs no plotting library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vae_anomaly.reports.benchmark_table import record_frame, summary_table, write_benchmark
    from vae_anomaly.reports.curves import plot_per_class, plot_precision_recall, plot_roc
    from vae_anomaly.reports.distributions import plot_p_values, plot_scores
    from vae_anomaly.reports.evidence import measured, plot_feature_evidence, plot_image_evidence
    from vae_anomaly.reports.figures import image_grid, image_rows, plot_profiles
    from vae_anomaly.reports.folder import PAGE, check_report_folder
    from vae_anomaly.reports.latents import plot_latent_space, plot_latent_units
    from vae_anomaly.reports.model_plots import plot_history, plot_terms
    from vae_anomaly.reports.record_log import RecordLog
    from vae_anomaly.reports.report import Beliefs, Evidence, Report
    from vae_anomaly.reports.report_folder import write_report
    from vae_anomaly.reports.resumable import RESUMABLE_SUFFIXES, ResumableTable, open_resumable_table
    from vae_anomaly.reports.score_table import SCORE_SUFFIXES, Columns, ScoreTable, open_score_table, read_score_table
    from vae_anomaly.reports.selection import gallery_rows
    from vae_anomaly.reports.style import to_png, to_svg

_MODULES = {
    "benchmark_table": ("record_frame", "summary_table", "write_benchmark"),
    "curves": ("plot_per_class", "plot_precision_recall", "plot_roc"),
    "distributions": ("plot_p_values", "plot_scores"),
    "evidence": ("measured", "plot_feature_evidence", "plot_image_evidence"),
    "figures": ("image_grid", "image_rows", "plot_profiles"),
    "folder": ("PAGE", "check_report_folder"),
    "latents": ("plot_latent_space", "plot_latent_units"),
    "model_plots": ("plot_history", "plot_terms"),
    "record_log": ("RecordLog",),
    "report": ("Beliefs", "Evidence", "Report"),
    "report_folder": ("write_report",),
    "resumable": ("RESUMABLE_SUFFIXES", "ResumableTable", "open_resumable_table"),
    "score_table": ("SCORE_SUFFIXES", "Columns", "ScoreTable", "open_score_table", "read_score_table"),
    "selection": ("gallery_rows",),
    "style": ("to_png", "to_svg"),
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
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
