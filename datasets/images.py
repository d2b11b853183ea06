"""A folder of images: flat, or one subfolder a class."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vae_anomaly.datasets.dataset import Dataset
from vae_anomaly.errors import DataError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
GREY, COLOUR = ("1", "L"), ("RGB", "P", "CMYK", "YCbCr")


def image_chunks(folder: Path, n_rows: int) -> Iterator[Dataset]:
    """Images as uint8, ``(N, H, W)`` grey or ``(N, H, W, 3)`` colour, in the order of their names.

    Raises
    ------
    DataError
        If there are none, one cannot be read, or they differ in size or in having colour.
    """
    files, classes = find(folder)
    expected = read(files[0]).shape
    for start in range(0, len(files), n_rows):
        rows = slice(start, start + n_rows)
        images = []
        for file in files[rows]:
            image = read(file)
            if image.shape != expected:
                raise DataError(
                    f"{file} is {describe(image.shape)}, but {files[0]} is {describe(expected)}: "
                    "bring all images to one size and kind first"
                )
            images.append(image)
        labels = None if classes is None else np.array(classes[rows], dtype=str)
        names = tuple(str(file.relative_to(folder)) for file in files[rows])
        yield Dataset(np.stack(images), str(folder), labels, row_names=names)


def find(folder: Path) -> tuple[list[Path], list[str] | None]:
    """Image files, and their classes if they lie in subfolders."""

    def images_in(place: Path) -> list[Path]:
        return sorted(file for file in place.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())

    flat = images_in(folder)
    subfolders = sorted(place for place in folder.iterdir() if place.is_dir() and not place.name.startswith("."))
    nested = [(file, place.name) for place in subfolders for file in images_in(place)]
    if flat and nested:
        raise DataError(f"{folder} has images both directly in it and in subfolders: use one or the other")
    if nested:
        return [file for file, _ in nested], [name for _, name in nested]
    if not flat:
        raise DataError(f"{folder} holds no images ({', '.join(SUFFIXES)}), neither directly nor one subfolder a class")
    return flat, None


def read(file: Path) -> np.ndarray:
    """One image as uint8, ``(H, W)`` or ``(H, W, 3)``."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                if image.mode not in GREY + COLOUR:
                    raise DataError(f"{file} has pixels of kind {image.mode}: convert it to 8-bit grey or RGB first")
                return np.asarray(image.convert("L" if image.mode in GREY else "RGB"))
    except DataError:
        raise
    except (
        UnidentifiedImageError,
        OSError,
        SyntaxError,
        ValueError,
        Warning,
        Image.DecompressionBombError,
    ) as error:
        raise DataError(f"{file} cannot be read as an image ({error})") from error


def describe(shape: tuple[int, ...]) -> str:
    """Width x height and kind of an image, for people."""
    return f"{shape[1]}x{shape[0]} {'colour' if len(shape) == 3 else 'grey'}"
