"""A folder of images: directly in it, or in one subfolder for each class."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vae_anomaly.datasets.dataset import Dataset
from vae_anomaly.datasets.formats.base import Format
from vae_anomaly.errors import DataError
from vae_anomaly.registry import FORMATS
from vae_anomaly.storage.safe_reading import open_data, parsing

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
PILLOW_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 1 << 26
CHUNK_BYTES = 1 << 28
GREY, COLOUR = ("1", "L"), ("RGB", "P", "CMYK", "YCbCr")


@FORMATS.register("image_folder", suffixes=(), folder=True, shown="a folder of images", chunk_rows=256)
class ImageFolder(Format):
    """A folder of images of one size."""

    def chunks(self, n_rows: int, first_row: int = 0, label_column: str | None = None) -> Iterator[Dataset]:
        return image_chunks(self.path, n_rows, first_row)


def image_chunks(folder: Path, n_rows: int, first_row: int = 0) -> Iterator[Dataset]:
    """The images as uint8, ``(N, H, W)`` grey or ``(N, H, W, 3)`` colour, in the order of their names.

    Raises
    ------
    DataError
        If there are none, one cannot be read, has more than 67,108,864 pixels or lies outside the folder, or they
        differ in size or in having colour.
    """
    with parsing(f"{folder} cannot be listed"):
        files, classes = find(folder)
    expected = read(files[0]).shape
    n_rows = max(1, min(n_rows, CHUNK_BYTES // math.prod(expected)))
    for start in range(first_row, len(files), n_rows):
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
        labels = None if classes is None else np.array([text(name) for name in classes[rows]], dtype=str)
        names = tuple(text(str(file.relative_to(folder))) for file in files[rows])
        yield Dataset(np.stack(images), str(folder), labels, row_names=names)


def text(name: str) -> str:
    """A file's name as text that UTF-8 can hold; other bytes become backslash escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def find(folder: Path) -> tuple[list[Path], list[str] | None]:
    """Image files, and their classes if they lie in subfolders."""
    root = folder.resolve()

    def images_in(place: Path) -> list[Path]:
        return sorted(inside(file) for file in place.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())

    def inside(place: Path) -> Path:
        if place.is_symlink() and not place.resolve().is_relative_to(root):
            raise DataError(f"{place} is a link that leads out of {folder}: copy what is to be read into the folder")
        return place

    flat = images_in(folder)
    subfolders = sorted(
        inside(place) for place in folder.iterdir() if place.is_dir() and not place.name.startswith(".")
    )
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
    from PIL import Image

    with open_data(file) as data, parsing(f"{file} cannot be read as an image"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # only these: Pillow also knows formats that it hands to other programs
        with Image.open(data, formats=PILLOW_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"{file} has {image.width}x{image.height} pixels, more than {MAX_PIXELS:,}")
            if image.mode not in GREY + COLOUR:
                raise DataError(f"{file} has pixels of kind {image.mode}: convert it to 8-bit grey or RGB first")
            return np.asarray(image.convert("L" if image.mode in GREY else "RGB"))


def describe(shape: tuple[int, ...]) -> str:
    """Width x height and kind of an image, for people."""
    return f"{shape[1]}x{shape[0]} {'colour' if len(shape) == 3 else 'grey'}"
