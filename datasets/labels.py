"""Labels in a file of their own, one for each sample."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from vae_anomaly.datasets.dataset import class_names
from vae_anomaly.datasets.numbers import is_number
from vae_anomaly.errors import DataError
from vae_anomaly.storage.numpy_files import open_npy
from vae_anomaly.storage.safe_reading import parsing, read_data

LABEL_BYTES = 1 << 26


def load_labels(path: Path) -> np.ndarray:
    """Class names ``(N,)`` from a ``.npy`` file or a one-column ``.csv``, with or without a header.

    Raises
    ------
    DataError
        If the file is missing, malformed, above 64 MiB, or holds anything but one label a row.
    """
    if path.suffix == ".npy":
        return class_names(open_npy(path), str(path))
    if path.suffix not in (".csv", ".txt"):
        raise DataError(f"{path}: labels come as .npy or as a .csv of one column")
    known: dict[str, str] = {}  # few labels, many rows: one object each
    values: list[str] = []
    with parsing(f"{path}: not a CSV file in UTF-8"):
        text = read_data(path, LABEL_BYTES).decode("utf-8-sig")
        for row in csv.reader(io.StringIO(text, newline=""), strict=True):
            if len(row) > 1:
                raise DataError(f"{path}: needs exactly one label a row")
            values += (known.setdefault(cell.strip(), cell.strip()) for cell in row)
    if not values:
        raise DataError(f"{path}: needs exactly one label a row")
    if values[0].lower() in ("label", "labels", "y", "class", "target") or (
        not is_number(values[0]) and all(map(is_number, values[1:])) and len(values) > 1
    ):
        values = values[1:]
    return class_names(np.array(values, dtype=object), str(path))
