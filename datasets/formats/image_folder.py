"""A folder of images, at any depth; subfolders are classes."""

from __future__ import annotations

from collections.abc import Iterator

from vae_anomaly.datasets.dataset import Dataset
from vae_anomaly.datasets.formats.base import Format
from vae_anomaly.datasets.images.files import find_images
from vae_anomaly.datasets.images.samples import image_chunks
from vae_anomaly.datasets.images.survey import survey
from vae_anomaly.registry import FORMATS
from vae_anomaly.storage.safe_reading import parsing


@FORMATS.register("image_folder", suffixes=(), folder=True, shown="a folder of images", images=True, chunk_rows=256)
class ImageFolder(Format):
    """A folder of images, in one subfolder for each class, in MVTec's layout, or without classes."""

    def chunks(self, n_rows: int, first_row: int = 0, label_column: str | None = None) -> Iterator[Dataset]:
        with parsing(f"{self.source} cannot be listed"):
            found = find_images(self.path)
        images = survey(found.files, self.source, self.reading.images, found.left_out)
        return image_chunks(images, self.source, n_rows, first_row, found.normal)
