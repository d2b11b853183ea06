"""Masks that show where the defects of images are, brought to the size of the samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vae_anomaly.datasets.images.pillow_pages import opened_image, quietly_parsing
from vae_anomaly.datasets.images.pixels import cropped, described
from vae_anomaly.datasets.reading import ImageReading, Size
from vae_anomaly.errors import DataError


def load_masks(masks: Sequence[Path | None], reading: ImageReading, size: Size) -> np.ndarray:
    """Which pixels of samples are defects, ``(N, H, W)`` bool, resized and cropped as the samples, without averages.

    Parameters
    ----------
    masks
        Files, as `Dataset.masks` has them: what is not black is a defect. None: no pixel is; of a sample that is an
        anomaly this means that nothing is known, and it should not be among these.
    reading
        How the samples are made.
    size
        Their height and width.

    Raises
    ------
    DataError
        If one cannot be read, or has another size than the samples.
    """
    found = np.zeros((len(masks), *size), dtype=bool)
    for i, path in enumerate(masks):
        if path is not None:
            found[i] = mask_of(path, replace(reading, size=size))
    return found


def mask_of(path: Path, reading: ImageReading) -> np.ndarray:
    """One mask, ``(H, W)`` bool."""
    from PIL import Image, ImageOps

    with opened_image(path) as image, quietly_parsing(path):
        marked = np.asarray(np.asarray(ImageOps.exif_transpose(image).convert("RGB")).any(axis=2))
    if reading.resize:
        shown = Image.fromarray(marked).resize(reading.resize[::-1], Image.Resampling.NEAREST)
        marked = np.asarray(shown)
    marked = cropped(marked, reading.crop, path)
    if marked.shape != reading.size:
        assert reading.size is not None
        raise DataError(f"{path} is {described(marked.shape)}, but its image is {described(reading.size)}")
    return marked
