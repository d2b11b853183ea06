"""One sample of a file, and all that explains its score."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_anomaly.cli.data import reading_for
from vae_anomaly.cli.options import rows_per_chunk
from vae_anomaly.cli.score_maps import strongest_heat
from vae_anomaly.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from vae_anomaly.datasets import Dataset
    from vae_anomaly.datasets.reading import Reading
    from vae_anomaly.detector import VAEDetector
    from vae_anomaly.scoring.attribution import Explanation


def load_sample(
    data: Path, which: int | str | None, label_column: str | None, detector: VAEDetector, reading: Reading
) -> Dataset:
    """The sample with this number or of this file, or with None the only one, read in constant memory."""
    import click
    import numpy as np

    from vae_anomaly.datasets import chunks

    n_read, found = 0, None
    n_rows, known = rows_per_chunk(detector.n_features_in_), reading_for(detector, reading)
    for part in chunks(data, n_rows, label_column, reading=known):
        if which is None and n_read + len(part) > 1:
            named = "" if part.row_names is None else ", or with --file"
            raise click.UsageError(
                f"{part.source} has more than one sample: say which with --row, counted from 0{named}"
            )
        place = place_in(part, which, n_read)
        if place is not None:
            found = part.take(np.array([place]))
            if which is not None:
                return found
        n_read += len(part)
    if found is not None:
        return found
    if isinstance(which, str):
        raise DataError(f"{part.source} has no file {which!r} among its {n_read:,} samples: score has their names")
    raise DataError(f"{part.source} has {n_read:,} samples, numbered 0 to {n_read - 1}: there is no row {which}")


def place_in(part: Dataset, which: int | str | None, n_read: int) -> int | None:
    """Where in a chunk that follows ``n_read`` samples one lies, if it does."""
    if isinstance(which, str):
        names = part.row_names or ()
        return names.index(which) if which in names else None
    place = (which or 0) - n_read
    return place if 0 <= place < len(part) else None


def collect_evidence(
    detector: VAEDetector, sample: Dataset, row: int, id_columns: tuple[str, ...] = ()
) -> tuple[dict[str, Any], Explanation]:
    """All that explains one sample's score, as JSON holds it, and the explanation of its features."""
    import numpy as np

    from vae_anomaly.tables.row_names import ids_of

    parts, terms = detector.explain(sample.X), detector.elbo_terms(sample.X)
    if detector.model_.feature_names is None and sample.feature_names is not None:
        parts = replace(parts, names=sample.feature_names)
    score = detector.score_samples(sample.X)
    held_out = detector.held_out_scores_
    ids = ids_of(sample.X, detector.model_.columns, id_columns, sample.source)
    evidence: dict[str, Any] = {
        "data": sample.source,
        "row": row,
        "ids": {name: str(texts[0]) for name, texts in ids.items()},
        "file": None if sample.row_names is None else sample.row_names[0],
        "label": None if sample.labels is None else str(sample.labels[0]),
        "score": detector.model_.score,
        "anomaly_score": -float(score[0]),
        "threshold": detector.calibration_.threshold,
        "decision": int(-score[0] > detector.calibration_.threshold),
        "p_value": float(detector.model_.p_values_of(score)[0]),
        "n_held_out": len(detector.calibration_scores_),
        "reconstruction": beside_held_out(float(terms.reconstruction[0]), held_out["reconstruction"]),
        "kl": beside_held_out(float(terms.kl[0]), -held_out["kl"]),
        "image_shape": None if detector.image_shape_ is None else list(detector.image_shape_),
        "features": {"name": list(parts.names)} | features_of(parts),
        detector.vae_.prior.shares_of: parts.kl[0].tolist(),
    }
    if detector.vae_.tails is not None:
        evidence["signs"] = signs_of(detector, np.asarray(sample.X))
    return evidence, parts


def signs_of(detector: VAEDetector, X: np.ndarray) -> dict[str, Any]:
    """How odd the three signs of the score ``smallest_p`` are, and where the worst place of the image is."""
    import numpy as np

    from vae_anomaly.scoring.worst_place import SIGNS, signs

    model, heat = detector.model_, detector.heat_maps(X)[0]
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    nats = model.by_block(model.rows(X), signs)[0][0]
    worst = {"row": int(row), "column": int(column), "nats": float(heat.max())}
    return {
        "heat": heat.round(3).tolist(),
        "strongest_heat": strongest_heat(model),
        "nats": dict(zip(SIGNS, nats.tolist(), strict=True)),
        "worst_place": worst,
    }


def features_of(parts: Explanation) -> dict[str, list[Any]]:
    """What is known of each feature of one sample: levels and dates as text, a date's spread in seconds, no NaN."""
    shown = parts.to_frame()
    names = ("observed", "expected", "spread", "reconstruction", "excess")
    return {name: [plain(value) for value in shown[name].tolist()] for name in names}


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    import pandas as pd

    if pd.isna(value):
        return None
    if isinstance(value, pd.Timedelta):
        return value.total_seconds()
    return value.isoformat() if isinstance(value, pd.Timestamp) else value


def beside_held_out(value: float, held_out: np.ndarray) -> dict[str, Any]:
    """A term of the ELBO, and its place among those of held-out normals."""
    import numpy as np

    return {
        "value": value,
        "n_held_out": len(held_out),
        "held_out_median": float(np.median(held_out)),
        "held_out_below": float(np.mean(held_out < value)),
    }
