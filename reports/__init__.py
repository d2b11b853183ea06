"""Arrays and results to figures and tables; knows no model."""

from vae_anomaly.reports.benchmark_table import record_frame, summary_table, write_benchmark
from vae_anomaly.reports.evidence import measured, plot_feature_evidence, plot_image_evidence
from vae_anomaly.reports.figures import image_grid
from vae_anomaly.reports.record_log import RecordLog
from vae_anomaly.reports.score_table import SCORE_SUFFIXES, ScoreTable, open_score_table, read_score_table

__all__ = [
    "SCORE_SUFFIXES",
    "RecordLog",
    "ScoreTable",
    "image_grid",
    "measured",
    "open_score_table",
    "plot_feature_evidence",
    "plot_image_evidence",
    "read_score_table",
    "record_frame",
    "summary_table",
    "write_benchmark",
]
