"""Pages of TIFF files that Pillow does not read whole: any number of channels, and numbers of any size.

They need the package tifffile. Unsigned numbers of 8 bits stay as they are; others become float32 where it holds them
exactly, else float64.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from vae_anomaly.datasets.images.pixels import MAX_PIXELS, TURNED, Kind, Look, in_float
from vae_anomaly.errors import DataError
from vae_anomaly.storage.safe_reading import open_data, parsing

if TYPE_CHECKING:
    from tifffile import TiffPage

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # it logs what it then raises; else stderr has it too

DEPTHS = {"uint8": "8-bit", "uint16": "16-bit", "float16": "float", "float32": "float"}
NUMBERS = ("uint8", "int8", "uint16", "int16", "float16", "float32", "uint32", "int32", "float64")
FLIPPED = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}  # axes that are reversed, after that


class TiffPages:
    """The pages of a TIFF file.

    Raises
    ------
    DataError
        If tifffile is not installed, or the file cannot be read.
    """

    def __init__(self, file: Path) -> None:
        try:
            import tifffile
        except ImportError as error:
            raise DataError(
                f"{file} has other channels or numbers than Pillow reads of a TIFF: install tifffile, "
                'pip install "vae-anomaly[tiff]", or save it as .npy'
            ) from error
        self.file, self._stream = file, open_data(file)
        try:
            with parsing(f"{file} cannot be read as an image"):
                self._tiff = tifffile.TiffFile(self._stream, name=file.name)
                self.n_pages = len(self._tiff.pages)
                if not self.n_pages:
                    raise DataError(f"{file} cannot be read as an image (it holds none)")
        except DataError:
            self._stream.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any, /) -> None:
        self._tiff.close()
        self._stream.close()

    def look_at(self, number: int) -> Look:
        """What the header of a page says, counted from 0.

        Raises
        ------
        DataError
            If it has too many pixels, or its pixels are no numbers, or lie in space.
        """
        with parsing(f"{self.file} cannot be read as an image"):
            page = self._page(number)
            sizes = dict(zip(page.axes, page.shape, strict=True))
            if set(sizes) not in ({"Y", "X"}, {"Y", "X", "S"}) or str(page.dtype) not in NUMBERS:
                raise DataError(f"{self.file} has pages of {page.dtype}, {page.axes} {page.shape}: save it as .npy")
            if math.prod(page.shape) == 0:
                raise DataError(f"{self.file} cannot be read as an image (it has no pixels)")
            if math.prod(page.shape) > MAX_PIXELS:
                raise DataError(f"{self.file} has {math.prod(page.shape):,} numbers a page, more than {MAX_PIXELS:,}")
            size = sizes["Y"], sizes["X"]
            depth = DEPTHS.get(str(page.dtype), str(page.dtype))
            return Look(size[::-1] if self._orientation(page) in TURNED else size, Kind(sizes.get("S", 1), depth))

    def values(self, number: int) -> np.ndarray:
        """The pixels of a page, ``(H, W)``, or ``(H, W, C)`` of several channels."""
        with parsing(f"{self.file} cannot be read as an image"):
            page = self._page(number)
            values = page.asarray()
            if page.axes == "SYX":
                values = np.moveaxis(values, 0, 2)
            orientation = self._orientation(page)
            if orientation in TURNED:
                values = values.swapaxes(0, 1)
            values = np.flip(values, FLIPPED.get(orientation, ()))
        return in_float(values)

    def _page(self, number: int) -> TiffPage:
        page = self._tiff.pages[number]
        return page.aspage()

    @staticmethod
    def _orientation(page: TiffPage) -> int:
        tag = page.tags.get("Orientation")
        return 1 if tag is None else int(tag.value)
