"""Arrays and results to figures and tables; knows no model."""

from vae_anomaly.reports.benchmark_table import record_frame, summary_table, write_benchmark
from vae_anomaly.reports.figures import image_grid
from vae_anomaly.reports.record_log import RecordLog
from vae_anomaly.reports.resumable import RESUMABLE_SUFFIXES, ResumableTable, open_resumable_table
from vae_anomaly.reports.score_table import SCORE_SUFFIXES, ScoreTable, open_score_table, read_score_table

__all__ = [
    "RESUMABLE_SUFFIXES",
    "SCORE_SUFFIXES",
    "RecordLog",
    "ResumableTable",
    "ScoreTable",
    "image_grid",
    "open_resumable_table",
    "open_score_table",
    "read_score_table",
    "record_frame",
    "summary_table",
    "write_benchmark",
]
