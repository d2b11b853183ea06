"""``.csv``, ``.tsv``, ``.txt``: tables of text in any common dialect, read a chunk at a time, bounded in bytes."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vae_anomaly.datasets.dataset import Dataset
from vae_anomaly.datasets.dialect import FIRST_LINE, HEAD_BYTES, Dialect, Scan, bom_of, scan, sniff
from vae_anomaly.datasets.formats.base import ALL_ROWS, Format
from vae_anomaly.datasets.inference import Inference, decimals_of
from vae_anomaly.datasets.locations import Location
from vae_anomaly.datasets.numbers import Convention, to_numbers
from vae_anomaly.datasets.reading import INFERRED, Reading, TableNote
from vae_anomaly.datasets.tables import label_of, table
from vae_anomaly.errors import ColumnsError, DataError
from vae_anomaly.registry import FORMATS
from vae_anomaly.storage.compression import open_decompressed
from vae_anomaly.storage.safe_reading import LARGEST, MAX_CELLS, MAX_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

CELL_BYTES = 64
INFERRED_ROWS = 1 << 16  # at a time
WHOLE_BYTES = 64 << 20
"""Up to this size a table whose types are to be inferred is read once, and held in memory."""
NA_VALUES = ["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A"]
NA_VALUES += ["NA", "NULL", "NaN", "None", "n/a", "nan", "null"]
"""What pandas takes for gaps; of labels they are none."""

Kinds = dict[int, Convention | None]


@FORMATS.register("csv", suffixes=(".csv", ".tsv", ".txt"), columns=True, compressed=True)
class Csv(Format):
    """A table of text, with or without a header, which may be compressed."""

    def __init__(self, location: Location, reading: Reading = INFERRED) -> None:
        super().__init__(location, reading)

    def chunks(self, n_rows: int, first_row: int = 0, label_column: str | None = None) -> Iterator[Dataset]:
        return CsvTable(lambda: open_decompressed(self.path), self.source, self.reading, label_column).chunks(
            n_rows, first_row
        )


class CsvTable:
    """A text table that can be read more than once.

    Parameters
    ----------
    open_stream
        Gives its bytes from the first on.
    source
        What to call it in messages.
    reading
        What is said of it.
    label_column
        Name, or number where there is no header, of the column that holds the labels.
    """

    def __init__(
        self, open_stream: Callable[[], io.BufferedReader], source: str, reading: Reading, label_column: str | None
    ) -> None:
        self.open, self.source, self.reading, self.label_column = open_stream, source, reading, label_column

    @cached_property
    def scanned(self) -> Scan:
        """What all its bytes show."""
        with self.open() as stream:
            return scan(stream)

    @cached_property
    def dialect(self) -> Dialect:
        """How it is written."""
        with self.open() as stream:
            head = stream.read(HEAD_BYTES)
            if b"\n" not in head and b"\r" not in head:
                head += stream.readline(FIRST_LINE - len(head))
        if len(head) >= FIRST_LINE:
            raise DataError(
                f"{self.source}: not a CSV file: its first line has over {FIRST_LINE:,} bytes or {MAX_COLUMNS:,} "
                "columns"
            )
        if not head.strip():
            raise DataError(f"{self.source}: holds no samples")
        return sniff(head, self.scanned, self.reading, self.source)

    @cached_property
    def names(self) -> list[Any]:
        """Names of the columns in the order of the file; numbers where there is no header."""
        if self.dialect.names is None:
            return list(range(self.dialect.n_columns))
        return [name or f"Unnamed: {i}" for i, name in enumerate(self.dialect.names)]

    @cached_property
    def label(self) -> int | None:
        """Number of the label column."""
        return None if self.label_column is None else label_of(self.names, self.label_column, self.source)

    def chunks(self, n_rows: int, first_row: int = 0) -> Iterator[Dataset]:
        """The rows from ``first_row`` on, at most ``n_rows`` at a time."""
        if self.reading.columns is not None:
            yield from self._of_kinds(
                self._known_kinds(self.reading.columns), self._known_to_leave_out(), n_rows, first_row
            )
            return
        frames: list[pd.DataFrame] | None = []
        n_bytes, most = 0, LARGEST if n_rows >= ALL_ROWS else WHOLE_BYTES
        decimals = decimals_of(self.dialect.sep, self.dialect.decimal, self.reading.decimal)
        inference = Inference(decimals)
        for frame in self._parts(INFERRED_ROWS):
            inference.update(frame.drop(columns=[self.label] if self.label is not None else []))
            n_bytes += int(frame.memory_usage(deep=False).sum())
            frames = None if frames is None or n_bytes > most else [*frames, frame]
        kinds = inference.kinds()
        kinds |= dict.fromkeys(self._codes(inference, kinds))
        left_out = self._to_leave_out(inference)
        self._say(inference, kinds, left_out)
        if frames is None:
            yield from self._of_kinds(kinds, left_out, n_rows, first_row)
        elif frames:
            whole = self._whole(frames, inference, kinds, left_out)
            for start in range(first_row, len(whole), n_rows):
                part = whole if n_rows >= len(whole) > start == 0 else whole.iloc[start : start + n_rows]
                yield self._dataset(part.reset_index(drop=True), start)

    def _known_kinds(self, columns: Any) -> Kinds:
        return {
            i: Convention(decimal) if columns.get(str(name)) in ("number", "constant") else None
            for i, (name, decimal) in enumerate(zip(self.names, self.dialect.decimals, strict=True))
        }

    def _known_to_leave_out(self) -> set[int]:
        assert self.reading.columns is not None
        unnamed = self.dialect.names is not None and self.dialect.names[0] == ""
        left_out = {0} if unnamed and self.names[0] not in self.reading.columns and len(self.names) > 1 else set()
        return left_out | ({len(self.names) - 1} if self.dialect.unnamed_last else set())

    def _codes(self, inference: Inference, kinds: Kinds) -> list[int]:
        """Columns of whole numbers of which one begins with a zero; truth values are read as text for them."""
        if not self.scanned.leading_zero:
            return []
        may_be = [
            i for i, column in inference.columns.items() if column.numbers and column.whole and kinds[i] is not None
        ]
        zeros, others = dict.fromkeys(may_be, False), dict.fromkeys(may_be, False)
        for frame in self._parts(INFERRED_ROWS, may_be) if may_be else ():
            for i in may_be:
                cells = frame[i].dropna().str.strip()
                zeros[i] = zeros[i] or bool(cells.str.fullmatch(r"0\d+").any())
                others[i] = others[i] or not bool(cells.str.fullmatch(r"\d+").all())
        return [i for i in may_be if zeros[i] and not others[i]]

    def _to_leave_out(self, inference: Inference) -> set[int]:
        names = self.dialect.names
        index = (
            names is not None
            and len(names) > 1
            and names[0] in ("", "Unnamed: 0")
            and inference.counts_from is not None
        )
        left_out = {0} if index else set()
        return left_out | ({len(self.names) - 1} if self.dialect.unnamed_last else set())

    def _whole(
        self, frames: list[pd.DataFrame], inference: Inference, kinds: Kinds, left_out: set[int]
    ) -> pd.DataFrame:
        """All rows, of which some columns may have to be read again, as text."""
        import pandas as pd

        whole = frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)
        frames.clear()
        again = [
            i
            for i, kind in kinds.items()
            if i not in left_out and kind is None and (inference.columns[i].numbers or inference.columns[i].mixed)
        ]
        if again:
            texts = pd.concat(list(self._parts(INFERRED_ROWS, again)), ignore_index=True)
            whole = whole.assign().drop(columns=again).join(texts)[list(whole.columns)]
        return self._finished(whole, kinds, left_out, 0)

    def _of_kinds(self, kinds: Kinds, left_out: set[int], n_rows: int, first_row: int) -> Iterator[Dataset]:
        """Rows whose types are known, a chunk at a time."""
        seen = 0
        text = [i for i, kind in kinds.items() if kind is None and i != self.label]
        for frame in self._parts(n_rows if n_rows < ALL_ROWS else INFERRED_ROWS, None, text):
            if seen + len(frame) > first_row:
                begin = max(0, first_row - seen)
                part = frame.iloc[begin:].reset_index(drop=True)
                yield self._dataset(self._finished(part, kinds, left_out, seen + begin), seen + begin)
            seen += len(frame)

    def _finished(self, frame: pd.DataFrame, kinds: Kinds, left_out: set[int], first_row: int) -> pd.DataFrame:
        """Numbers as float64 or int64, text as it is, columns by their names; all columns at fault are listed."""
        problems = []
        for i, kind in kinds.items():
            if i in left_out or i == self.label or kind is None:
                continue
            if frame[i].dtype.kind == "u":
                frame[i] = frame[i].astype("float64")
            elif frame[i].dtype.kind not in "fi":
                try:
                    frame[i] = to_numbers(frame[i].rename(self.names[i]), kind, self.source, first_row)
                except DataError as error:
                    problems.append(str(error))
        if problems:
            raise ColumnsError("\n".join(problems))
        frame = frame.drop(columns=sorted(left_out))
        frame.columns = [self.names[int(i)] for i in frame.columns]
        return frame

    def _dataset(self, frame: pd.DataFrame, first_row: int) -> Dataset:
        name = None if self.label is None else self.names[self.label]
        return table(frame, self.source, name, first_row)

    def _parts(
        self, n_rows: int, only: Sequence[int] | None = None, text: Sequence[int] = ()
    ) -> Iterator[pd.DataFrame]:
        """Chunks as pandas parses them, columns by their numbers; those in ``only`` or ``text`` as text."""
        import pandas as pd

        dialect = self.dialect
        n_rows = max(1, min(n_rows, MAX_CELLS // dialect.n_columns))
        as_text = [*(only if only is not None else text)]
        options: dict[str, Any] = {}
        if self.label is not None and only is None:
            others = [i for i in range(dialect.n_columns) if i != self.label]
            options = {"keep_default_na": False, "na_values": dict.fromkeys(others, NA_VALUES)}
            as_text.append(self.label)
        if only is not None:
            options["usecols"] = sorted(only)
        with self.open() as stream:
            for _ in range(dialect.skip_rows + (dialect.names is not None) if single_bytes(dialect.encoding) else 0):
                stream.readline(FIRST_LINE)
            n_skipped = 0 if single_bytes(dialect.encoding) else dialect.skip_rows + (dialect.names is not None)
            rest = Metered(stream, n_rows * dialect.n_columns, self.source)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error", pd.errors.ParserWarning)
                    warnings.simplefilter("ignore", pd.errors.DtypeWarning)
                    with pd.read_csv(
                        io.BufferedReader(rest),
                        names=range(dialect.n_columns),
                        header=None,
                        index_col=False,
                        chunksize=n_rows,
                        sep=dialect.sep,
                        decimal=dialect.decimal,
                        encoding=dialect.encoding,
                        skipinitialspace=True,
                        skiprows=n_skipped,
                        dtype=dict.fromkeys(as_text, str),
                        **options,
                    ) as reader:
                        for frame in reader:
                            if frame.empty:
                                return
                            yield frame.reset_index(drop=True)
                            rest.left = rest.allowance
            except pd.errors.EmptyDataError:
                return
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{self.source}: not text in {dialect.encoding} ({error}): say another with --encoding"
                ) from error
            except (pd.errors.ParserError, pd.errors.ParserWarning, ValueError) as error:
                if isinstance(error, DataError):
                    raise
                raise DataError(
                    f"{self.source}: not a table with {dialect.n_columns} columns in every row ({str(error).strip()}); "
                    "--sep, --skip-rows and --no-header say how to read it"
                ) from error

    def _say(self, inference: Inference, kinds: Kinds, left_out: set[int]) -> None:
        """Warn with what was inferred, where it is not a plain table with commas, in UTF-8, with a header."""
        note = described(self.dialect, self.reading, [self.names[i] for i in sorted(left_out)])
        for i, kind in kinds.items():
            if kind is not None and kind.sign:
                note.append(f"{kind.sign} in column {str(self.names[i])!r} removed")
            marks = sorted(inference.columns[i].gaps) if kind is not None else []
            if marks:
                note.append(f"{' and '.join(marks)} in column {str(self.names[i])!r} as missing")
        if note:
            warnings.warn(TableNote(f"{self.source} is read with {', '.join(note)}"), stacklevel=2)


def described(dialect: Dialect, said: Reading, left_out: list[Any]) -> list[str]:
    """What was inferred, and is not the usual."""
    shown = {"\t": "tabs", ";": "semicolons", "|": "bars"}
    note = []
    if said.sep is None and dialect.sep != ",":
        note.append(f"{shown[dialect.sep]} between cells")
    if said.decimal is None and dialect.decimal != ".":
        note.append("decimal commas")
    if said.encoding is None and dialect.encoding not in ("utf-8", "utf-8-sig"):
        note.append(f"encoding {dialect.encoding}")
    if said.skip_rows is None and dialect.skip_rows:
        note.append(f"the first {dialect.skip_rows} lines skipped")
    if said.header is None and dialect.names is None:
        note.append(f"no header (columns are named 0 to {dialect.n_columns - 1})")
    return note + [f"column {name!r} left out (a saved index or empty)" for name in left_out]


def single_bytes(encoding: str) -> bool:
    """Whether a line of an encoding ends with the byte of a line feed."""
    return re.match("utf-?(16|32)", encoding) is None and bom_of(b"") == ""


class Metered(io.RawIOBase):
    """A stream that refuses more bytes than the cells may have on average.

    The parser holds all bytes of the rows that it was asked for: without this a line or a quoted cell without end
    would take all memory.
    """

    def __init__(self, rest: io.BufferedReader, n_cells: int, source: str) -> None:
        self.rest = rest
        self.allowance = self.left = 2 * FIRST_LINE + CELL_BYTES * n_cells
        self.source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        piece = self.rest.read1(len(buffer))
        buffer[: len(piece)] = piece
        self.left -= len(piece)
        if self.left < 0:
            raise DataError(
                f"{self.source}: not a table: cells have more than {CELL_BYTES} bytes on average, or a quoted one does "
                "not end"
            )
        return len(piece)
