"""An image file, or several; each of its pages or frames is a sample."""

from __future__ import annotations

import os
from collections.abc import Iterator

from vae_anomaly.datasets.dataset import Dataset
from vae_anomaly.datasets.formats.base import Format
from vae_anomaly.datasets.images.files import ImageFile, text
from vae_anomaly.datasets.images.samples import image_chunks
from vae_anomaly.datasets.images.survey import survey
from vae_anomaly.registry import FORMATS


@FORMATS.register(
    "image_file",
    suffixes=(
        ".apng",
        ".bmp",
        ".dib",
        ".gif",
        ".jfif",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".pbm",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".tif",
        ".tiff",
        ".webp",
    ),
    shown="an image file",
    images=True,
    chunk_rows=256,
)
class ImageFileFormat(Format):
    """An image, named by its file; with further ones, where these are given too."""

    def chunks(self, n_rows: int, first_row: int = 0, label_column: str | None = None) -> Iterator[Dataset]:
        paths = [self.path, *self.reading.images.further]
        is_clear = len({path.name for path in paths}) == len(paths)
        files = [ImageFile(path=path, name=text(path.name if is_clear else os.path.normpath(path))) for path in paths]
        images = survey(files, self.source, self.reading.images)
        return image_chunks(images, self.source, n_rows, first_row)
