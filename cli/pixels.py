"""How well heat maps find the defects of images whose masks are known, for ``fit`` and ``evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_anomaly.datasets.reading import ImageReading

if TYPE_CHECKING:
    import numpy as np

    from vae_anomaly.fitted_model import FittedModel
    from vae_anomaly.storage.rows import Rows

MOST_PIXELS = 1 << 26  # of all maps together, half a gibibyte


def pixel_results(
    model: FittedModel,
    rows: np.ndarray | Rows,
    masks: Sequence[Path | None] | None,
    anomalous: np.ndarray,
    reading: ImageReading,
) -> dict[str, Any] | None:
    """What `evaluate_pixels` finds of the normals and of the anomalies that have a mask, as JSON holds it.

    None where no sample has a mask, or the model no heat maps. Of more than 67 million pixels an even sample of the
    images is taken; ``n_images`` says how many were.

    Parameters
    ----------
    model, rows
        Rows ``(N, D)`` of a model of images.
    masks
        For each sample the file of its mask, or None.
    anomalous
        Which samples are anomalies, ``(N,)`` bool.
    reading
        How image files became samples.
    """
    if masks is None or not any(masks) or model.image_shape is None or "local" not in model.scores:
        return None
    import numpy as np

    from vae_anomaly.datasets import load_masks
    from vae_anomaly.evaluation.pixels import evaluate_pixels
    from vae_anomaly.scoring.worst_place import heat_maps

    height, width = model.image_shape[:2]
    known = np.flatnonzero(~anomalous | np.array([mask is not None for mask in masks]))
    known = known[:: -(-len(known) * height * width // MOST_PIXELS)]
    maps = model.by_block(rows[known], heat_maps)[0].astype(np.float32)
    return evaluate_pixels(maps, load_masks([masks[i] for i in known.tolist()], reading, (height, width))).to_dict()


def check_masks(masks: Sequence[Path | None] | None, reading: ImageReading, shape: tuple[int, ...]) -> None:
    """Read all masks, so that one that does not fit is found before a training and not after it.

    Parameters
    ----------
    masks, reading
        As `pixel_results` has them.
    shape
        Of all samples, ``(N, H, W)`` or ``(N, H, W, C)``.

    Raises
    ------
    DataError
        If one cannot be read, or has another size than its sample.
    """
    from vae_anomaly.datasets import load_masks

    for mask in masks or ():
        if mask is not None:
            load_masks([mask], reading, (shape[1], shape[2]))


def pixel_lines(found: dict[str, Any] | None) -> list[str]:
    """The same as lines of text."""
    if found is None:
        return []
    figures = (("ROC-AUC", "roc_auc"), ("per-region overlap", "pro"), ("average precision", "average_precision"))
    shown = []
    for name, key in figures:
        value, low, high = (found[key][end] for end in ("value", "low", "high"))
        shown.append(f"{name} {value:.4f}" + ("" if low is None else f" ({low:.4f} to {high:.4f})"))
    return [
        f"pixels: {', '.join(shown)}; {found['n_regions']:,} defects in {found['n_anomalous']:,} of "
        f"{found['n_images']:,} images"
    ]
