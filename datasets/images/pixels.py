"""What the pixels of an image are, and how it becomes a sample of the size and kind that is wanted.

Numbers of 8 bits without a sign stay uint8, 0 to 255. Others keep their values: up to 16 bits in float32, which holds
them exactly, 32 bits in float64, floats in float32 or, if they are double, in float64. A size is reached by averaging
all pixels that fall on a new one (a triangle as wide as the new pixel, as antialiasing has it), in that precision.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from vae_anomaly.datasets.reading import ImageReading, Size
from vae_anomaly.errors import DataError

MAX_PIXELS = 1 << 26
EXACT_IN_SINGLE = ("bool", "int8", "uint16", "int16", "float16", "float32")  # numbers that float32 holds
TURNED = range(5, 9)  # orientations in EXIF and TIFF that swap width and height


class Kind(NamedTuple):
    """What the pixels of a file are.

    Parameters
    ----------
    channels
        How many; 1 is grey, 3 are red, green and blue.
    depth
        "8-bit", "16-bit", "32-bit" or "float", or the name of another type of numbers.
    """

    channels: int
    depth: str

    def __str__(self) -> str:
        named = {1: "grey", 3: "colour"}
        return f"{self.depth} {named.get(self.channels, f'with {self.channels} channels')}"


class Look(NamedTuple):
    """What the header of a page says.

    Parameters
    ----------
    size
        Height and width, turned.
    kind
        What its pixels are.
    traits
        What is read otherwise than it is in the file: keys of `survey.CONVERTED`.
    """

    size: Size
    kind: Kind
    traits: tuple[str, ...] = ()


class Pages(Protocol):
    """An open image file; a context manager."""

    n_pages: int

    def look_at(self, number: int) -> Look:
        """What the header of a page says, counted from 0."""

    def values(self, number: int) -> np.ndarray:
        """The pixels of a page, turned: ``(H, W)``, or ``(H, W, C)`` of several channels."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: Any, error: Any, trace: Any, /) -> object: ...


def in_float(values: np.ndarray) -> np.ndarray:
    """Pixels in a type that is computed with: uint8 as it is, others in float32 if that is exact, or in float64."""
    if values.dtype == np.uint8:
        return values
    return values.astype(np.float32 if values.dtype.name in EXACT_IN_SINGLE else np.float64, copy=False)


def final_size(size: Size, reading: ImageReading) -> Size:
    """Height and width of an image of this size once it is resized and cropped."""
    return reading.crop or reading.resize or size


def fitted(values: np.ndarray, found: Kind, wanted: Kind, reading: ImageReading, file: Path) -> np.ndarray:
    """An image as the samples are: resized, cropped, and of one kind.

    Parameters
    ----------
    values
        ``(H, W)``, or ``(H, W, C)`` of several channels.
    found, wanted
        What it is, and what the samples are: grey in colour is repeated; colour in grey must be grey in fact.

    Returns
    -------
    ndarray
        ``(H, W)``, or ``(H, W, C)``.

    Raises
    ------
    DataError
        If it is of another depth or has other channels, is smaller than what is cropped, or is not finite.
    """
    shared = found.channels == wanted.channels or {found.channels, wanted.channels} == {1, 3}
    if found.depth != wanted.depth or not shared:
        raise DataError(f"{file} is {found}, but other images are {wanted}: bring all images to one kind first")
    if not np.isfinite(values).all():
        raise DataError(f"{file} has pixels that are NaN or infinite: fill them in first")
    if reading.resize:
        values = resized(values, reading.resize)
    values = cropped(values, reading.crop, file)
    if found.channels == 3 and wanted.channels == 1:
        if (values != values[:, :, :1]).any():
            raise DataError(
                f"{file} is in colour, and grey images are wanted here: convert it to grey first, as the others were"
            )
        return values[:, :, 0]
    return np.repeat(values[:, :, None], 3, axis=2) if found.channels < wanted.channels else values


def resized(values: np.ndarray, size: Size) -> np.ndarray:
    """An image ``(H, W, ...)`` of another height and width, of uint8, float32 or float64 as it came."""
    from PIL import Image

    if (values.ndim == 3 and values.shape[2] != 3) or (values.ndim == 3 and values.dtype != np.uint8):
        return np.stack([resized(channel, size) for channel in np.moveaxis(values, 2, 0)], axis=2)
    if values.dtype == np.float64:  # of which Pillow keeps single precision
        down, across = (interpolation(have, want) for have, want in zip(values.shape, size, strict=True))
        return np.asarray(down @ values @ across.T)
    return np.asarray(Image.fromarray(values).resize(size[::-1], Image.Resampling.BILINEAR))


def interpolation(n: int, n_new: int) -> np.ndarray:
    """Weights ``(n_new, n)`` of linear interpolation, of averages if images get smaller, as Pillow's; rows sum to 1."""
    centre = (np.arange(n_new) + 0.5) * n / n_new - 0.5
    weights = np.maximum(0, 1 - np.abs(np.arange(n) - centre[:, None]) / max(1, n / n_new))
    normalised: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
    return normalised


def cropped(values: np.ndarray, crop: Size | None, source: Path | str) -> np.ndarray:
    """The middle of an image ``(H, W, ...)``, which messages call ``source``.

    Raises
    ------
    DataError
        If it is smaller.
    """
    if crop is None:
        return values
    rooms = [have - want for have, want in zip(values.shape, crop, strict=False)]
    if min(rooms) < 0:
        raise DataError(
            f"{source} is {described(values.shape[:2])}, smaller than --crop {crop[0]}x{crop[1]} (height x width): "
            "crop less, or --resize first"
        )
    top, left = (room // 2 for room in rooms)
    return values[top : top + crop[0], left : left + crop[1]]


def described(size: tuple[int, ...]) -> str:
    """Height x width, as --resize takes it."""
    return f"{size[0]}x{size[1]}"
