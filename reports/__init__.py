"""Arrays and results to figures and tables; knows no model."""

from vae_anomaly.reports.benchmark_table import record_frame, summary_table, write_benchmark
from vae_anomaly.reports.figures import image_grid
from vae_anomaly.reports.record_log import RecordLog
from vae_anomaly.reports.score_table import SCORE_SUFFIXES, ScoreTable, open_score_table, read_score_table

__all__ = [
    "SCORE_SUFFIXES",
    "RecordLog",
    "ScoreTable",
    "image_grid",
    "open_score_table",
    "read_score_table",
    "record_frame",
    "summary_table",
    "write_benchmark",
]
