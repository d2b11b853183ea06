"""NumPy and parquet files, read within bounds: what a header claims is compared with what the file can hold.

Nothing is unpickled. A ``.npy`` file is mapped, so its size on disk is its bound; arrays of an ``.npz`` and pieces of
a parquet file are at most `vae_anomaly.storage.safe_reading.LARGEST` bytes.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np

from vae_anomaly.errors import DataError
from vae_anomaly.storage.safe_reading import LARGEST, SmallReads, open_data, parsing
from vae_anomaly.storage.strict_json import loads

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

HEADER_BYTES = 12 + 10_000  # magic, version and length, then as much as NumPy itself reads of a header
CELLS = 1 << 24  # of a table, held at a time
COLUMNS = 1 << 17
PICKLED = "holds Python objects (or is no NumPy file), which could run code and are never read: save plain numbers"


class Layout(NamedTuple):
    """Where an array lies in a ``.npy`` file."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    order: str
    offset: int

    @property
    def n_bytes(self) -> int:
        """How much room its elements take."""
        return math.prod(self.shape) * self.dtype.itemsize


def npy_layout(head: bytes, size: int, source: str) -> Layout:
    """Read the header of a ``.npy`` file.

    Parameters
    ----------
    head
        The first `HEADER_BYTES` of the file, or all of it.
    size
        Bytes in the file.
    source
        What to call it in errors.

    Raises
    ------
    DataError
        If it is no such header, holds Python objects, or claims more than the file has.
    """
    if not head.startswith(np.lib.format.MAGIC_PREFIX):
        raise DataError(f"{source}: {PICKLED}" if head else f"{source}: is empty, not a NumPy file")
    file = io.BytesIO(head)
    with parsing(f"{source}: not a readable NumPy file"), warnings.catch_warnings():
        warnings.simplefilter("error")
        version = np.lib.format.read_magic(file)
        if version > (2, 0):
            raise ValueError(f"format version {version[0]}.{version[1]}")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise DataError(f"{source}: {PICKLED}")
    if dtype.itemsize == 0 or any(side < 0 for side in shape):
        raise DataError(f"{source}: not a readable NumPy file (type {dtype}, shape {shape})")
    layout = Layout(tuple(map(int, shape)), dtype, "F" if fortran else "C", file.tell())
    if layout.n_bytes > size - layout.offset:
        raise DataError(
            f"{source}: cut short: its header asks for {layout.n_bytes} bytes of data, it has {size - layout.offset}"
        )
    return layout


def open_npy(path: Path) -> np.ndarray:
    """A ``.npy`` array, mapped into memory; raises as `npy_layout`."""
    with open_data(path) as file, parsing(f"{path}: not a readable NumPy file"):
        layout = npy_layout(file.read(HEADER_BYTES), path.stat().st_size, str(path))
        if not layout.n_bytes:
            return np.empty(layout.shape, layout.dtype)
        array: np.ndarray = np.memmap(file, layout.dtype, "r", layout.offset, layout.shape, layout.order)  # type: ignore[call-overload]
        return array


def read_npz(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Those of the named arrays that an ``.npz`` file has.

    Nothing is extracted, so names in the archive lead nowhere. Only what ``numpy.savez`` and ``savez_compressed``
    write is read: members stored or deflated, each at most 4 GiB, which is compared with its header before any
    memory is taken for it.

    Raises
    ------
    DataError
        If the archive or an array is malformed or larger, or none of the names is there.
    """
    with SmallReads(open_data(path).detach()) as file, parsing(f"{path}: not a readable NumPy file"):
        if not zipfile.is_zipfile(file):
            raise DataError(f"{path}: {PICKLED}")
        with zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            arrays = {name: read_member(archive, members[name], f"{path}: {name}") for name in names if name in members}
    if names[0] not in arrays:
        found = ", ".join(list(members)[:20]) or "nothing"
        raise DataError(f"{path}: needs an array named X (and, with labels, y), found: {found}")
    return arrays


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, source: str) -> np.ndarray:
    """One array of an archive."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.file_size > LARGEST:
        raise DataError(
            f"{source} has {info.file_size:,} bytes in compression method {info.compress_type}: at most {LARGEST:,} "
            "are read, stored or deflated; a .npy file has no such bound"
        )
    with archive.open(info) as file:
        head = file.read(HEADER_BYTES)
        layout = npy_layout(head, info.file_size, source)
        data = np.empty(layout.n_bytes, np.uint8)  # pages that are never written take no memory
        start = min(len(head) - layout.offset, layout.n_bytes)
        data[:start] = np.frombuffer(head, np.uint8, start, layout.offset)
        while start < len(data):
            piece = file.read(min(SmallReads.largest, len(data) - start))
            if not piece:
                raise DataError(f"{source}: cut short after {start:,} of {len(data):,} bytes")
            data[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
            start += len(piece)
        file.read(1)  # the end of the member is where its checksum is compared
    return np.ndarray(layout.shape, layout.dtype, data, order="F" if layout.order == "F" else "C")


def parquet_frames(
    path: Path | str, n_rows: int, first_row: int = 0, opened: IO[bytes] | None = None
) -> Iterator[pd.DataFrame]:
    """A parquet file's rows from ``first_row`` on, at most ``n_rows`` at a time; ``opened`` if it is open already.

    Columns may be numbers, truth values or text. Text stays dictionary-encoded, so that one long value repeated takes
    its room once. pandas' own metadata only says which columns are an index, and those are left out.

    Raises
    ------
    DataError
        If pyarrow is missing, or the file is malformed, has other columns, or a row group beyond 4 GiB.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise DataError(f"{path}: reading parquet needs pyarrow: pip install 'vae-anomaly[parquet]'") from None
    source = open_data(Path(path)) if opened is None else contextlib.nullcontext(opened)
    with source as raw, parsing(f"{path}: not a readable parquet file"):
        about = pq.ParquetFile(raw)
        check_parquet(about, path)
        schema = about.schema_arrow
        columns = [name for name in schema.names if name not in index_columns(schema)]
        text = [field.name for field in schema if "string" in str(field.type)]
        # as it is, it reads ahead whole row groups, and the file with them
        lean = {"pre_buffer": False, "buffer_size": 1 << 16}
        with pq.ParquetFile(raw, metadata=about.metadata, read_dictionary=text, **lean) as file:
            groups, skip = list(range(file.num_row_groups)), first_row
            while groups and skip >= (n_group := file.metadata.row_group(groups[0]).num_rows):
                skip -= n_group
                groups.pop(0)
            n_rows = max(1, min(n_rows, CELLS // max(1, len(columns))))
            for batch in file.iter_batches(n_rows, groups, columns, use_threads=False) if groups else ():
                rest = batch.slice(min(skip, len(batch)))
                skip -= len(batch) - len(rest)
                if len(rest):
                    frame = rest.to_pandas(ignore_metadata=True)
                    categories = frame.select_dtypes("category").columns
                    yield frame.astype(dict.fromkeys(categories, object))


def parquet_length(path: Path) -> int | None:
    """How many rows a parquet file says it has; None without pyarrow."""
    try:
        import pyarrow.parquet as pq
    except ImportError:
        return None
    with open_data(path) as raw, parsing(f"{path}: not a readable parquet file"):
        n: int = pq.ParquetFile(raw).metadata.num_rows
        return n


def parquet_groups(file: IO[bytes], source: str) -> tuple[int, ...]:
    """How many rows each row group of an open parquet file has.

    Raises
    ------
    DataError
        If pyarrow is missing, or it is no parquet file.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise DataError(f"{source}: reading parquet needs pyarrow: pip install 'vae-anomaly[parquet]'") from None
    with parsing(f"{source}: not a readable parquet file"):
        about = pq.ParquetFile(file).metadata
        return tuple(about.row_group(i).num_rows for i in range(about.num_row_groups))


def check_parquet(file: pa.parquet.ParquetFile, path: Path | str) -> None:
    """Refuse what no table of numbers and labels has, before any column is read."""
    import pyarrow as pa

    schema = file.schema_arrow
    if len(schema.names) > COLUMNS or len(set(schema.names)) < len(schema.names):
        raise DataError(f"{path}: has more than {COLUMNS:,} columns, or two of one name")
    simple = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null)
    for field in schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        if not text and not any(holds(kind) for holds in simple):
            raise DataError(f"{path}: column {field.name!r} is of type {field.type}, neither numbers nor text: drop it")
    for i in range(file.num_row_groups):
        if not 0 <= file.metadata.row_group(i).total_byte_size <= LARGEST:
            raise DataError(f"{path}: row group {i} has more than {LARGEST:,} bytes: write smaller ones")


def index_columns(schema: pa.Schema) -> set[str]:
    """Columns that are a pandas index and no data."""
    about = loads((schema.metadata or {}).get(b"pandas", b"{}"))
    listed = about.get("index_columns", []) if isinstance(about, dict) else []
    unnamed = {name for name in schema.names if re.fullmatch(r"__index_level_\d+__", name)}
    return unnamed | {name for name in listed if isinstance(name, str)} if isinstance(listed, list) else unnamed
