"""``.npz``: an array of samples and perhaps one of labels, read whole."""

from __future__ import annotations

from collections.abc import Iterator

from vae_anomaly.datasets.dataset import Dataset
from vae_anomaly.datasets.formats.base import Format, array_chunks
from vae_anomaly.registry import FORMATS
from vae_anomaly.storage.numpy_files import read_npz


@FORMATS.register("npz", suffixes=(".npz",), read_whole=True)
class Npz(Format):
    """An archive with an array X and, with labels, an array y."""

    def chunks(self, n_rows: int, first_row: int = 0, label_column: str | None = None) -> Iterator[Dataset]:
        arrays = read_npz(self.path, "X", "y")
        return array_chunks(arrays["X"], arrays.get("y"), self.source, n_rows, first_row)
