"""``.csv``: a table of text, read a chunk at a time, each bounded in bytes."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

from vae_anomaly.datasets.dataset import Dataset
from vae_anomaly.datasets.formats.base import Format
from vae_anomaly.datasets.tables import is_number, table
from vae_anomaly.errors import DataError
from vae_anomaly.registry import FORMATS
from vae_anomaly.storage.safe_reading import MAX_CELLS, MAX_COLUMNS, open_data, parsing

FIRST_LINE = 1 << 24
CELL_BYTES = 64


@FORMATS.register("csv", suffixes=(".csv",), columns=True)
class Csv(Format):
    """A comma-separated table, with or without a header."""

    def chunks(self, n_rows: int, first_row: int = 0, label_column: str | None = None) -> Iterator[Dataset]:
        return csv_chunks(self.path, n_rows, label_column, self.source, first_row)


def csv_chunks(
    source: Path | io.BufferedReader, n_rows: int, label_column: str | None, name: str, first_row: int = 0
) -> Iterator[Dataset]:
    """Rows of a comma-separated table, from ``first_row`` on; those before it are read past.

    Its first line is a header unless every cell of it is a number; the numbers 0, 1, 2, ... are a header too:
    pandas writes them for columns without names.
    """
    import pandas as pd

    with open_data(source) if isinstance(source, Path) else source as stream:
        first = stream.readline(FIRST_LINE)
        names, has_header = header_of(first, name)
        n_rows = max(1, min(n_rows, MAX_CELLS // len(names)))
        rest = Metered(b"" if has_header else first.removeprefix(b"\xef\xbb\xbf"), stream, n_rows * len(names), name)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)
                warnings.simplefilter("ignore", pd.errors.DtypeWarning)  # mixed types are refused below
                with pd.read_csv(
                    io.BufferedReader(rest),
                    names=names,
                    header=None,
                    index_col=False,
                    chunksize=n_rows,
                    encoding="utf-8",
                    skipinitialspace=True,
                ) as reader:
                    seen = 0
                    for frame in reader:
                        if frame.empty:
                            return
                        part = frame.iloc[max(0, first_row - seen) :]
                        if len(part):
                            yield table(part.reset_index(drop=True), name, label_column)
                        seen += len(frame)
                        rest.left = rest.allowance
        except pd.errors.EmptyDataError:
            return
        except (pd.errors.ParserError, pd.errors.ParserWarning, UnicodeDecodeError) as error:
            raise DataError(f"{name}: not a table with {len(names)} columns in every row ({error})") from error


def header_of(first: bytes, source: str) -> tuple[list[str] | list[int], bool]:
    """Column names, and whether the first line gave them."""
    if len(first) == FIRST_LINE or first.count(b",") >= MAX_COLUMNS:
        raise DataError(
            f"{source}: not a CSV file: its first line has over {FIRST_LINE:,} bytes or {MAX_COLUMNS:,} columns"
        )
    with parsing(f"{source}: not a CSV file in UTF-8"):
        header = next(csv.reader([first.decode("utf-8-sig")]), [])
    if not header:
        raise DataError(f"{source}: holds no samples")
    names = [cell.strip() for cell in header]
    numbers = [str(i) for i in range(len(header))]
    has_header = not all(map(is_number, names)) or (names == numbers and len(names) > 1)
    if not has_header:
        return list(range(len(header))), False
    if len(set(names)) < len(names):
        twice = next(cell for cell in names if names.count(cell) > 1)
        raise DataError(f"{source}: two columns are named {twice!r}")
    return names, has_header


class Metered(io.RawIOBase):
    """A line already read, then the rest of its stream; refuses more bytes than the cells may have on average.

    The parser holds all bytes of the rows that it was asked for: without this a line or a quoted cell without end
    would take all memory.
    """

    def __init__(self, head: bytes, rest: io.BufferedReader, n_cells: int, source: str) -> None:
        self.head = head
        self.rest = rest
        self.allowance = self.left = FIRST_LINE + CELL_BYTES * n_cells
        self.source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self.head:
            piece, self.head = self.head[: len(buffer)], self.head[len(buffer) :]
        else:
            piece = self.rest.read1(len(buffer))
        buffer[: len(piece)] = piece
        self.left -= len(piece)
        if self.left < 0:
            raise DataError(
                f"{self.source}: not a table of numbers: cells have more than {CELL_BYTES} bytes on average, or a "
                "quoted one does not end"
            )
        return len(piece)
