"""Images in chunks, as every format gives them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice

import numpy as np

from vae_anomaly.datasets.dataset import Dataset
from vae_anomaly.datasets.images.survey import ImageSet

CHUNK_BYTES = 1 << 28


def image_chunks(
    images: ImageSet, source: str, n_rows: int, first_row: int = 0, normal: tuple[str, ...] | None = None
) -> Iterator[Dataset]:
    """The images in order, ``(n, H, W)`` grey or ``(n, H, W, C)`` of several channels, with what is known of each."""
    arrays = images.arrays(first_row)
    n_values = math.prod(images.size) * images.kind.channels
    n_rows = max(1, min(n_rows, CHUNK_BYTES // (n_values * (1 if images.kind.depth == "8-bit" else 4))))
    for start in range(first_row, len(images.pages), n_rows):
        pages = images.pages[start : start + n_rows]
        files = [page.file for page in pages]
        yield Dataset(
            np.stack(list(islice(arrays, len(pages)))),
            source,
            labels=None if files[0].label is None else np.array([file.label for file in files], dtype=str),
            row_names=tuple(page.name for page in pages),
            parts=None if files[0].part is None else np.array([file.part for file in files], dtype=str),
            masks=None if files[0].part is None else tuple(file.mask for file in files),
            normal=normal,
        )
