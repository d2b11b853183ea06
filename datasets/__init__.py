"""Names and paths to arrays."""

from vae_anomaly.datasets.dataset import Dataset
from vae_anomaly.datasets.files import chunks, count_rows, load_file, load_labels
from vae_anomaly.datasets.located import Extent, data_files, extent, is_url, rows_at, stamp
from vae_anomaly.datasets.named import DATA_DIR_VARIABLE, NAMED, Named, load_named, locate

__all__ = [
    "DATA_DIR_VARIABLE",
    "NAMED",
    "Dataset",
    "Extent",
    "Named",
    "chunks",
    "count_rows",
    "data_files",
    "extent",
    "is_url",
    "load_file",
    "load_labels",
    "load_named",
    "locate",
    "rows_at",
    "stamp",
]
