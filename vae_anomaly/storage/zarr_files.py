"""Zarr arrays on disk, formats 2 and 3: rows or images in compressed chunks.

A codec may run code from the data (numcodecs has one for pickles), so only those known to decompress are used.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vae_anomaly.errors import DataError

if TYPE_CHECKING:
    import zarr

CODECS = {"blosc", "bytes", "bz2", "crc32c", "gzip", "lz4", "lzma", "sharding_indexed", "shuffle", "transpose"}
CODECS |= {"zlib", "zstd"}
LARGEST_CHUNK = 1 << 30
READ_BYTES = 1 << 28  # at a time, or one of the array's chunks


@contextlib.contextmanager
def open_zarr(path: Path | str) -> Iterator[zarr.Array[Any]]:
    """A Zarr array on disk, or by URL if given as text; or a clear error.

    Raises
    ------
    DataError
        If zarr is missing, or it is no readable array of plain numbers in known codecs.
    """
    try:
        import zarr
    except ImportError:
        raise DataError(f"{path}: reading zarr needs zarr: pip install 'vae-anomaly[zarr]'") from None
    zarr_format = check_codecs(path)
    try:
        store = path if isinstance(path, Path) else zarr.storage.FsspecStore.from_url(path, read_only=True)
        array = zarr.open_array(store, mode="r", zarr_format=zarr_format)
        if array.dtype.kind not in "fiub" or not array.ndim:
            raise DataError(f"{path}: needs an array of real numbers, got type {array.dtype}, shape {array.shape}")
        if array.dtype.itemsize * math.prod(array.chunks) > LARGEST_CHUNK:
            raise DataError(f"{path}: its chunks have more than {LARGEST_CHUNK:,} bytes: write smaller ones")
        yield array
    except DataError:
        raise
    except Exception as error:  # whatever its codecs and stores raise
        raise DataError(f"{path}: not a readable Zarr array ({str(error).strip() or type(error).__name__})") from error


def description_at(path: Path | str, name: str) -> bytes:
    """One of the files that describe an array."""
    if isinstance(path, Path):
        if not (path / name).is_file():  # which a pipe is not
            raise FileNotFoundError
        return (path / name).read_bytes()
    import fsspec

    content: bytes = fsspec.open(f"{path}/{name}").open().read()
    return content


def check_codecs(path: Path | str) -> Literal[2, 3]:
    """The format of an array; refused if its description names any codec but `CODECS`."""
    zarr_format: Literal[2, 3] = 3
    try:
        try:
            description = description_at(path, "zarr.json")
        except FileNotFoundError:
            zarr_format, description = 2, description_at(path, ".zarray")
        about = json.loads(description)
        listed = [about.get("codecs"), about.get("filters"), about.get("compressor")]
    except FileNotFoundError:
        raise DataError(f"{path}: not a Zarr array on disk (a group? give the path of one array in it)") from None
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: not a readable Zarr array ({error})") from error
    unknown = names(listed) - CODECS
    if unknown:
        raise DataError(
            f"{path}: is in {', '.join(sorted(unknown))}, not one of {', '.join(sorted(CODECS))}: rewrite it"
        )
    return zarr_format


def names(value: Any) -> set[str]:
    """All codecs named anywhere in a description: "name" in format 3, "id" in format 2."""
    if isinstance(value, list):
        return set().union(*map(names, value))
    if not isinstance(value, dict):
        return set()
    own = {str(value[key]) for key in ("name", "id") if key in value}
    return own.union(*(names(inner) for inner in value.values()))


def zarr_chunks(path: Path | str, n_rows: int, first_row: int = 0) -> Iterator[np.ndarray]:
    """Rows from ``first_row`` on, at most ``n_rows`` at a time; a whole number of the array's chunks, if it can be."""
    with open_zarr(path) as array:
        row_bytes = array.dtype.itemsize * math.prod(array.shape[1:])
        n_rows = max(1, min(n_rows, READ_BYTES // max(1, row_bytes)))
        step = n_rows // array.chunks[0] * array.chunks[0] or n_rows
        for start in range(first_row, array.shape[0], step):
            yield np.asarray(array[start : start + step])
