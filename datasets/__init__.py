"""Names and paths to arrays.

Names are loaded on first use: the names of data sets and of formats need no NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vae_anomaly.datasets.catalogue import NAMED, Named
    from vae_anomaly.datasets.dataset import Dataset
    from vae_anomaly.datasets.files import chunks, count_rows, load_file
    from vae_anomaly.datasets.formats import facts_of, open_format, suffixes, suffixes_help
    from vae_anomaly.datasets.formats.base import Extent
    from vae_anomaly.datasets.images.arrays import images_at_size
    from vae_anomaly.datasets.images.masks import load_masks
    from vae_anomaly.datasets.labels import load_labels
    from vae_anomaly.datasets.locations import STDIN, is_url
    from vae_anomaly.datasets.named import DATA_DIR_VARIABLE, load_named, locate
    from vae_anomaly.datasets.ranges import data_files, extent, rows_at, stamp

_HOME = {
    "DATA_DIR_VARIABLE": "named",
    "NAMED": "catalogue",
    "STDIN": "locations",
    "Dataset": "dataset",
    "Extent": "formats.base",
    "Named": "catalogue",
    "chunks": "files",
    "count_rows": "files",
    "data_files": "ranges",
    "extent": "ranges",
    "facts_of": "formats",
    "images_at_size": "images.arrays",
    "is_url": "locations",
    "load_file": "files",
    "load_labels": "labels",
    "load_masks": "images.masks",
    "load_named": "named",
    "locate": "named",
    "open_format": "formats",
    "rows_at": "ranges",
    "stamp": "ranges",
    "suffixes": "formats",
    "suffixes_help": "formats",
}

__all__ = [
    "DATA_DIR_VARIABLE",
    "NAMED",
    "STDIN",
    "Dataset",
    "Extent",
    "Named",
    "chunks",
    "count_rows",
    "data_files",
    "extent",
    "facts_of",
    "images_at_size",
    "is_url",
    "load_file",
    "load_labels",
    "load_masks",
    "load_named",
    "locate",
    "open_format",
    "rows_at",
    "stamp",
    "suffixes",
    "suffixes_help",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
