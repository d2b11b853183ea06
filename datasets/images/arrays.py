"""Images that come in an array, brought to a size as those of files are."""

from __future__ import annotations

import numpy as np

from vae_anomaly.datasets.images.pixels import cropped, described, in_float, resized
from vae_anomaly.datasets.reading import ImageReading, Size
from vae_anomaly.errors import DataError


def images_at_size(
    X: np.ndarray, *, resize: Size | None = None, crop: Size | None = None, source: str = "X"
) -> np.ndarray:
    """Images at the size that a model takes, antialiased, as ``fit --resize`` and ``--crop`` bring files to it.

    Parameters
    ----------
    X : ndarray of shape (N, H, W) or (N, H, W, C)
        Finite numbers of any type.
    resize, crop
        Height and width that all pixels are brought to, and then those of the middle that is kept; of a loaded model
        ``model.images.resize`` and ``model.images.crop``.
    source
        What messages call the images.

    Returns
    -------
    ndarray of shape (N, h, w) or (N, h, w, C)
        uint8 stays uint8; others become float32 if it holds their type exactly, float64 if not.

    Raises
    ------
    DataError
        If they are no images, or smaller than what is cropped.
    """
    if X.ndim not in (3, 4) or 0 in X.shape[1:]:
        raise DataError(f"{source}: has no images (N, H, W) or (N, H, W, C) that have a size, its shape is {X.shape}")
    size = crop or resize or X.shape[1:3]
    out = np.empty((len(X), *size, *X.shape[3:]), in_float(X[:0]).dtype)
    for place, image in enumerate(X):
        values = in_float(image)
        out[place] = cropped(values if resize is None else resized(values, resize), crop, f"image {place} of {source}")
    return out


def check_are_images(X: object, images: ImageReading, source: str) -> None:
    """Raise `DataError` if a size is said of samples that are no images."""
    said = {name: size for name in ("resize", "crop") if (size := getattr(images, name)) is not None}
    if said and getattr(X, "ndim", 2) not in (3, 4):
        options = " and ".join(f"--{name} {described(size)}" for name, size in said.items())
        raise DataError(
            f"{source}: holds rows, which have no height and width: {options} is for image files and for arrays of "
            "images (N, H, W) or (N, H, W, C)"
        )
