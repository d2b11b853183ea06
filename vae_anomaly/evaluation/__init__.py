"""From scores and labels to figures with their uncertainty; NumPy and SciPy only."""

from vae_anomaly.evaluation.bands import Band, p_value_band, precision_recall_band, roc_band
from vae_anomaly.evaluation.comparison import compare
from vae_anomaly.evaluation.drift import Drift, measure_drift
from vae_anomaly.evaluation.metrics import evaluate
from vae_anomaly.evaluation.pixels import PixelEstimate, PixelEvaluation, evaluate_pixels
from vae_anomaly.evaluation.prevalence import at_prevalence
from vae_anomaly.evaluation.regions import Box, boxes_of
from vae_anomaly.evaluation.result import (
    AtPrevalence,
    Comparison,
    Curve,
    Decisions,
    Estimate,
    Evaluation,
    PValueCheck,
    RocAuc,
)
from vae_anomaly.evaluation.roc import roc_auc
from vae_anomaly.evaluation.sequential import SequentialRate, sequential_rate

__all__ = [
    "AtPrevalence",
    "Band",
    "Box",
    "Comparison",
    "Curve",
    "Decisions",
    "Drift",
    "Estimate",
    "Evaluation",
    "PValueCheck",
    "PixelEstimate",
    "PixelEvaluation",
    "RocAuc",
    "SequentialRate",
    "at_prevalence",
    "boxes_of",
    "compare",
    "evaluate",
    "evaluate_pixels",
    "measure_drift",
    "p_value_band",
    "precision_recall_band",
    "roc_auc",
    "roc_band",
    "sequential_rate",
]
