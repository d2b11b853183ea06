"""The IDX format of MNIST and its kin, read strictly.

A file is: two zero bytes, a type byte (8 = unsigned byte), the number of dimensions, each dimension as a big-endian
32-bit count, and then exactly as many bytes as the counts multiply to.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from pathlib import Path

import numpy as np

from vae_anomaly.errors import DataError
from vae_anomaly.storage.safe_reading import read_data

LARGEST = 1 << 26  # the largest file of the data sets known by name has 47,040,016 bytes


def read_bytes(path: Path) -> bytes:
    """A file's bytes, decompressed if it is gzip.

    Raises
    ------
    DataError
        If it cannot be read, the gzip stream is damaged or cut short, or either holds more than 64 MiB.
    """
    raw = read_data(path, LARGEST)
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
            data = file.read(LARGEST + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file ({error}): delete it and fetch it again") from error
    if len(data) > LARGEST:
        raise DataError(f"{path}: more than {LARGEST} bytes when decompressed: not an IDX file of a known data set")
    return data


def parse(data: bytes, ndim: int, source: str) -> np.ndarray:
    """Unsigned bytes in ``ndim`` dimensions.

    Raises
    ------
    DataError
        If magic number, counts and size do not agree exactly.
    """
    expected = bytes([0, 0, 8, ndim])
    if data[:4] != expected:
        raise DataError(
            f"{source}: not this kind of IDX file: magic number {data[:4].hex()}, expected {expected.hex()}"
        )
    start = 4 + 4 * ndim
    if len(data) < start:
        raise DataError(f"{source}: cut short inside its header ({len(data)} bytes)")
    shape = tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, start, 4))
    size = math.prod(shape)
    if len(data) - start != size:
        kind = "cut short" if len(data) - start < size else "too long"
        raise DataError(
            f"{source}: {kind}: its header {shape} asks for {size} bytes of data, it has {len(data) - start}"
        )
    if not size:
        raise DataError(f"{source}: holds nothing: its header says {shape}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
