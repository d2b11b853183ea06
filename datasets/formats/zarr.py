"""``.zarr``: an array in compressed chunks, in a folder."""

from __future__ import annotations

from collections.abc import Iterator

from vae_anomaly.datasets.dataset import Dataset
from vae_anomaly.datasets.formats.base import Extent, Format
from vae_anomaly.registry import FORMATS
from vae_anomaly.storage.zarr_files import open_zarr, zarr_chunks


@FORMATS.register("zarr", suffixes=(".zarr",), folder=True, shardable=True)
class Zarr(Format):
    """A Zarr array of format 2 or 3."""

    description_files = ("zarr.json", ".zarray")

    def chunks(self, n_rows: int, first_row: int = 0, label_column: str | None = None) -> Iterator[Dataset]:
        return (Dataset(X, self.source) for X in zarr_chunks(self.location, n_rows, first_row))

    def count(self) -> int:
        return self.extent().n_rows

    def extent(self) -> Extent:
        """Rows, and how many of them a chunk, or a shard of chunks, has."""
        with open_zarr(self.location) as array:
            shards = getattr(array, "shards", None)
            return Extent(int(array.shape[0]), int((shards or array.chunks)[0]))
