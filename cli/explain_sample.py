"""One sample of a file, and all that explains its score."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_anomaly.cli.data import reading_for
from vae_anomaly.cli.options import rows_per_chunk
from vae_anomaly.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from vae_anomaly.datasets import Dataset
    from vae_anomaly.datasets.reading import Reading
    from vae_anomaly.detector import VAEDetector


def load_sample(data: Path, row: int, label_column: str | None, detector: VAEDetector, reading: Reading) -> Dataset:
    """The sample with this number, read in constant memory."""
    import numpy as np

    from vae_anomaly.datasets import chunks

    n_read = 0
    n_rows, known = rows_per_chunk(detector.n_features_in_), reading_for(detector, reading)
    for part in chunks(data, n_rows, label_column, reading=known):
        if row < n_read + len(part):
            return part.take(np.array([row - n_read]))
        n_read += len(part)
    raise DataError(f"{part.source} has {n_read:,} samples, numbered 0 to {n_read - 1}: there is no row {row}")


def collect_evidence(detector: VAEDetector, sample: Dataset, row: int) -> dict[str, Any]:
    """All that explains one sample's score, as JSON holds it."""
    import numpy as np

    parts, terms = detector.explain(sample.X), detector.elbo_terms(sample.X)
    score = detector.score_samples(sample.X)
    held_out = detector.held_out_scores_
    return {
        "data": sample.source,
        "row": row,
        "file": None if sample.row_names is None else sample.row_names[0],
        "label": None if sample.labels is None else str(sample.labels[0]),
        "score": detector.score_name,
        "anomaly_score": -float(score[0]),
        "threshold": detector.calibration_.threshold,
        "decision": int(-score[0] > detector.calibration_.threshold),
        "p_value": float(detector.model_.p_values_of(score)[0]),
        "n_held_out": len(detector.calibration_scores_),
        "reconstruction": beside_held_out(float(terms.reconstruction[0]), held_out["reconstruction"]),
        "kl": beside_held_out(float(terms.kl[0]), -held_out["kl"]),
        "image_shape": None if detector.image_shape_ is None else list(detector.image_shape_),
        "features": {
            "name": feature_names(detector, sample),
            "observed": np.asarray(sample.X, dtype=np.float64).ravel().tolist(),
        }
        | {name: getattr(parts, name)[0].tolist() for name in ("expected", "spread", "reconstruction", "excess")},
        detector.vae_.prior.shares_of: parts.kl[0].tolist(),
    }


def beside_held_out(value: float, held_out: np.ndarray) -> dict[str, Any]:
    """A term of the ELBO, and its place among those of held-out normals."""
    import numpy as np

    return {
        "value": value,
        "n_held_out": len(held_out),
        "held_out_median": float(np.median(held_out)),
        "held_out_below": float(np.mean(held_out < value)),
    }


def feature_names(detector: VAEDetector, sample: Dataset) -> list[str]:
    """Column names, pixels as row, column and channel, or numbers."""
    import itertools

    if detector.image_shape_ is not None:
        sides = detector.image_shape_[:2] if detector.image_shape_[2] == 1 else detector.image_shape_
        return [", ".join(map(str, place)) for place in itertools.product(*map(range, sides))]
    names = getattr(detector, "feature_names_in_", sample.feature_names)
    return [f"feature {i}" for i in range(detector.n_features_in_)] if names is None else list(map(str, names))
