"""Arrays and results to figures and tables; knows no model."""

from vae_anomaly.reports.benchmark_table import record_frame, summary_table, write_benchmark
from vae_anomaly.reports.curves import plot_per_class, plot_precision_recall, plot_roc
from vae_anomaly.reports.distributions import plot_p_values, plot_scores
from vae_anomaly.reports.figures import image_grid, image_rows, plot_profiles
from vae_anomaly.reports.latents import plot_latent_space, plot_latent_units
from vae_anomaly.reports.model_plots import plot_history, plot_terms
from vae_anomaly.reports.record_log import RecordLog
from vae_anomaly.reports.score_table import SCORE_SUFFIXES, ScoreTable, open_score_table, read_score_table
from vae_anomaly.reports.style import to_png, to_svg

__all__ = [
    "SCORE_SUFFIXES",
    "RecordLog",
    "ScoreTable",
    "image_grid",
    "image_rows",
    "open_score_table",
    "plot_history",
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
]
