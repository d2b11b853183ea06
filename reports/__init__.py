"""Arrays and results to figures and tables; knows no model."""

from vae_anomaly.reports.figures import image_grid
from vae_anomaly.reports.score_table import ScoreTable, open_score_table, read_score_table

__all__ = ["ScoreTable", "image_grid", "open_score_table", "read_score_table"]
