"""Parquet files, read within bounds: what a footer claims is compared with what may be held in memory.

A row group has at most `vae_anomaly.storage.safe_reading.LARGEST` bytes, and columns are numbers, truth values,
text or times.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from vae_anomaly.errors import ColumnsError, DataError
from vae_anomaly.storage.safe_reading import LARGEST, MAX_CELLS, MAX_COLUMNS, open_data, parsing, printable
from vae_anomaly.storage.strict_json import loads

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def parquet_frames(
    path: Path | str,
    n_rows: int,
    first_row: int = 0,
    opened: IO[bytes] | None = None,
    used: set[str] | None = None,
) -> Iterator[pd.DataFrame]:
    """A parquet file's rows from ``first_row`` on, at most ``n_rows`` at a time; ``opened`` if it is open already.

    Columns are numbers (decimals, times of day and durations, in seconds, among them), truth values, text, categories,
    which become text, dates and times. Text stays dictionary-encoded, so that one long value repeated takes its room
    once. pandas' own metadata only says which columns are an index, and those are left out, as are columns that are not
    ``used``, where that is given.

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
        schema = about.schema_arrow
        index = index_columns(schema)
        columns = [name for name in schema.names if name not in index and (used is None or name in used)]
        check_parquet(about, path, columns)
        text = [field.name for field in schema if "string" in str(field.type)]
        # as it is, it reads ahead whole row groups, and the file with them
        lean = {"pre_buffer": False, "buffer_size": 1 << 16}
        with pq.ParquetFile(raw, metadata=about.metadata, read_dictionary=text, **lean) as file:
            groups, skip = list(range(file.num_row_groups)), first_row
            while groups and skip >= (n_group := file.metadata.row_group(groups[0]).num_rows):
                skip -= n_group
                groups.pop(0)
            n_rows = max(1, min(n_rows, MAX_CELLS // max(1, len(columns))))
            for batch in file.iter_batches(n_rows, groups, columns, use_threads=False) if groups else ():
                rest = batch.slice(min(skip, len(batch)))
                skip -= len(batch) - len(rest)
                if len(rest):
                    frame = plain(rest).to_pandas(ignore_metadata=True, date_as_object=False)
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


def plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch whose numbers are int64, float64, float32 or truth values; durations and times of day are in seconds."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ticks = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
    arrays = []
    for array in batch.columns:
        kind = array.type
        if pa.types.is_decimal(kind) or pa.types.is_uint64(kind) or pa.types.is_null(kind):
            array = array.cast(pa.float64(), safe=False)
        elif pa.types.is_float16(kind):
            array = array.cast(pa.float32())
        elif pa.types.is_integer(kind):
            array = array.cast(pa.int64())
        elif pa.types.is_duration(kind) or pa.types.is_time(kind):
            whole = array.cast(pa.int32()).cast(pa.int64()) if pa.types.is_time32(kind) else array.cast(pa.int64())
            array = pc.divide(whole.cast(pa.float64(), safe=False), ticks[kind.unit])
        elif pa.types.is_dictionary(kind) and not is_text(kind.value_type):
            array = array.dictionary_decode().cast(pa.string())
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def is_text(kind: pa.DataType) -> bool:
    """Whether values of an Arrow type are text."""
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def check_parquet(file: pa.parquet.ParquetFile, path: Path | str, columns: Sequence[str]) -> None:
    """Refuse what no table of numbers, text and times has, before any column is read; lists all such columns."""
    import pyarrow as pa

    schema = file.schema_arrow
    if len(schema.names) > MAX_COLUMNS or len(set(schema.names)) < len(schema.names):
        raise DataError(f"{path}: has more than {MAX_COLUMNS:,} columns, or two of one name")
    of = pa.types
    simple = (of.is_integer, of.is_floating, of.is_boolean, of.is_null, of.is_decimal, is_text)
    times = (of.is_date, of.is_timestamp, of.is_time, of.is_duration)
    bad = []
    for field in map(schema.field, columns):
        kind = field.type.value_type if of.is_dictionary(field.type) else field.type
        if not any(holds(kind) for holds in (*simple, *times)):
            bad.append(f"- {printable(field.name)}: {printable(field.type)}")
    if bad:
        raise ColumnsError("\n".join([f"{path}: columns that are neither numbers, text nor times; drop them:", *bad]))
    for i in range(file.num_row_groups):
        if not 0 <= file.metadata.row_group(i).total_byte_size <= LARGEST:
            raise DataError(f"{path}: row group {i} has more than {LARGEST:,} bytes: write smaller ones")


def index_columns(schema: pa.Schema) -> set[str]:
    """Columns that are a pandas index and no data."""
    about = loads((schema.metadata or {}).get(b"pandas", b"{}"))
    listed = about.get("index_columns", []) if isinstance(about, dict) else []
    unnamed = {name for name in schema.names if re.fullmatch(r"__index_level_\d+__", name)}
    return unnamed | {name for name in listed if isinstance(name, str)} if isinstance(listed, list) else unnamed
