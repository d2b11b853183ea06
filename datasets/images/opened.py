"""Image files by whatever reads them whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from vae_anomaly.datasets.images.pillow_pages import PillowPages, is_read_in_part, opened_image
from vae_anomaly.datasets.images.pixels import Pages
from vae_anomaly.datasets.images.tiff_directories import check_pages_are_there
from vae_anomaly.datasets.images.tiff_pages import TiffPages

TIFF = (".tif", ".tiff")
MAX_PAGES = 1 << 20


@contextlib.contextmanager
def opened_pages(file: Path) -> Iterator[Pages]:
    """The pages of an image file; what is not read of it yet costs little.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    check_pages_are_there(file, MAX_PAGES)
    if file.suffix.lower() in TIFF and file.stat().st_size and is_read_in_part(file):
        with TiffPages(file) as pages:
            yield pages
    else:
        with opened_image(file) as image:
            yield PillowPages(image, file)
