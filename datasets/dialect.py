"""The dialect of a text table: its encoding, what is between cells, the decimal mark, and where the table begins.

What is said is taken; the rest is inferred from the first mebibyte, and the encoding from all of up to 256 MiB.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from vae_anomaly.datasets.numbers import GAPS, OTHER, conventions_of, is_number, pattern
from vae_anomaly.datasets.reading import Reading
from vae_anomaly.errors import DataError
from vae_anomaly.storage.safe_reading import MAX_COLUMNS, parsing

HEAD_BYTES = 1 << 20
FIRST_LINE = 1 << 24
SCANNED_BYTES = 256 << 20
SAMPLE_LINES = 200
SEPARATORS = ("\t", ";", "|", ",")  # a comma is also a decimal mark: the others come first
BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"} | {
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
UNDEFINED = (0x81, 0x8D, 0x8F, 0x90, 0x9D)  # bytes that Windows' code page 1252 lacks
YEAR = re.compile(r"(1[89]|20)\d\d")


@dataclass(frozen=True)
class Scan:
    """What all bytes of a file show: its encoding, and whether a number somewhere begins with a zero, as codes do."""

    encoding: str
    leading_zero: bool


@dataclass(frozen=True)
class Dialect:
    """How a text table is written.

    Parameters
    ----------
    encoding, sep, decimal
        As `vae_anomaly.datasets.reading.Reading` has them.
    skip_rows
        Lines before the header, or before the data where there is none.
    names
        Of the columns, in the order of the file; None where there is no header. One that the header leaves empty is "".
    n_columns
        How many there are.
    decimals
        The decimal mark of each column by its first lines: another than ``decimal`` where these allow no other.
    unnamed_last
        Whether the last column is what a delimiter at the end of each line makes.
    """

    encoding: str
    sep: str
    decimal: str
    skip_rows: int
    names: tuple[str, ...] | None
    n_columns: int
    decimals: tuple[str, ...]
    unnamed_last: bool = False


def scan(stream: io.BufferedIOBase, most: int = SCANNED_BYTES) -> Scan:
    """Read a stream for its encoding and for leading zeros; beyond ``most`` bytes, they may be there."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    encoding, zeros, n_read, tail = "", False, 0, b"\n"
    high = undefined = False
    while n_read < most:
        block = stream.read(min(HEAD_BYTES, most - n_read))
        if not block:
            break
        if not n_read:
            encoding = bom_of(block)
        n_read += len(block)
        if not encoding and not block.isascii():
            try:
                decoder.decode(block)
            except UnicodeDecodeError:
                encoding = "latin-1"
        if encoding == "latin-1":
            high = high or has_high_controls(block)
            undefined = undefined or any(byte in block for byte in UNDEFINED)
        zeros = zeros or has_leading_zero(tail + block)
        tail = block[-2:]
    return Scan("cp1252" if high and not undefined else encoding or "utf-8", zeros or n_read >= most)


def bom_of(block: bytes) -> str:
    """The encoding that the first bytes show, or nothing."""
    for bom, name in BOMS.items():
        if block.startswith(bom):
            return name
    values = np.frombuffer(block[: len(block) // 2 * 2], np.uint8)
    if len(values) > 2 and not values[1::2].any() and values[::2].all():
        return "utf-16-le"
    if len(values) > 2 and not values[::2].any() and values[1::2].all():
        return "utf-16-be"
    return ""


def has_high_controls(block: bytes) -> bool:
    """Whether there are bytes that are controls in Latin-1 and characters, such as the euro's, in Windows'."""
    values = np.frombuffer(block, np.uint8)
    return bool(((values >= 0x80) & (values < 0xA0)).any())


def has_leading_zero(block: bytes) -> bool:
    """Whether a cell may begin with a zero and another digit."""
    values = np.frombuffer(block, np.uint8)
    before, zero, after = values[:-2], values[1:-1], values[2:]
    codes = (zero == ord("0")) & (after - ord("0") < 10) & (before - ord("0") >= 10) & (before != ord("."))
    return bool(codes.any())


def sniff(head: bytes, scanned: Scan, said: Reading, source: str) -> Dialect:
    """The dialect of a table.

    Parameters
    ----------
    head
        Its first bytes, as many as there are up to 1 MiB, but at least the first line.
    scanned
        What all its bytes show.
    said
        What is known.
    source
        What to call it in messages.

    Raises
    ------
    DataError
        If this is no text table, or two of its columns have the same name.
    """
    encoding = said.encoding or scanned.encoding
    lines = lines_of(head, encoding, source)
    sep = said.sep or separator(lines)
    skip = said.skip_rows if said.skip_rows is not None else first_line(lines, sep)
    rows = parsed(lines[skip:], sep, source)
    if not rows:
        raise DataError(f"{source}: holds no samples")
    first, body = rows[0], rows[1:]
    width = Counter(map(len, body)).most_common(1)[0][0] if body else len(first)
    has_header = said.header if said.header is not None else is_header(first, body, said)
    names: tuple[str, ...] | None = None
    if has_header:
        if width == len(first) + 1 and not any(row[-1] for row in body if len(row) == width):
            first = [*first, ""]
        elif width == len(first) + 1 and are_row_names([row[0] for row in body if len(row) == width]):
            first = ["", *first]  # as R writes the names of rows
        names = tuple(first)
        twice = [name for name, n in Counter(names).items() if name and n > 1]
        if twice:
            raise DataError(f"{source}: two columns are named {twice[0]!r}: give each a name of its own")
    n_columns = len(names) if names is not None else max(len(first), width)
    if n_columns > MAX_COLUMNS:
        raise DataError(f"{source}: not a CSV file: has more than {MAX_COLUMNS:,} columns")
    ends = [row[-1] for row in body if len(row) == n_columns]
    unnamed = n_columns > 1 and not any(ends) and bool(ends) and (first[-1] == "" or len(first) < n_columns)
    decimal = said.decimal or decimal_mark(body or [first], sep)
    columns = [[row[i] for row in body or [first] if i < len(row)] for i in range(n_columns)]
    decimals = tuple(said.decimal or decimal_of(cells, decimal) for cells in columns)
    return Dialect(encoding, sep, decimal, skip, names, n_columns, decimals, unnamed)


def are_row_names(cells: list[str]) -> bool:
    """Whether cells are the names of rows that R writes: 1, 2, 3, ..., or different words."""
    numbers = cells == [str(i) for i in range(1, len(cells) + 1)]
    return numbers or (len(set(cells)) == len(cells) and not any(map(is_number, cells)))


def lines_of(head: bytes, encoding: str, source: str) -> list[str]:
    """The lines of a file's beginning, without the last, which may be cut; quoted line breaks are inside a line."""
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise DataError(
            f"--encoding {encoding!r}: Python knows no such encoding; try utf-8, utf-16 or latin-1"
        ) from None
    with parsing(f"{source}: not a text file in {encoding}"):
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(head)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{source}: not a text file in {encoding} ({error}): say another with --encoding"
            ) from error
    if "\0" in text:
        raise DataError(f"{source}: not a CSV file: holds bytes that are no text")
    lines = text.splitlines(keepends=True)
    if len(head) >= HEAD_BYTES and len(lines) > 1:
        lines.pop()
    if any(len(line) >= FIRST_LINE for line in lines[:1]):
        raise DataError(
            f"{source}: not a CSV file: its first line has over {FIRST_LINE:,} bytes or {MAX_COLUMNS:,} columns"
        )
    return lines


def separator(lines: list[str]) -> str:
    """What is between cells: of tab, semicolon and bar the first that all lines have as often; else a comma."""
    best, best_share = ",", 0.0
    for sep in SEPARATORS:
        widths = Counter(len(row) for row in csv_rows([line for line in lines if line.strip()][:SAMPLE_LINES], sep))
        if not widths:
            return ","
        width, n = widths.most_common(1)[0]
        share = n / sum(widths.values())
        if width > 1 and share > max(best_share, 0.5) and (sep == "," or share >= 0.9 or n >= 2):
            best, best_share = sep, share
            if share > 0.9:
                break
    return best


def csv_rows(lines: list[str], sep: str) -> list[list[str]]:
    """Lines as cells; what cannot be parsed ends the list."""
    rows: list[list[str]] = []
    try:
        for row in csv.reader(iter(lines), delimiter=sep, skipinitialspace=True):
            if row:
                rows.append([cell.strip() for cell in row])
    except csv.Error:
        pass
    return rows


def parsed(lines: list[str], sep: str, source: str) -> list[list[str]]:
    """The first lines as cells."""
    sample = [line for line in lines if line.strip()][:SAMPLE_LINES]
    with parsing(f"{source}: not a CSV file"):
        next(csv.reader(iter(sample[:1]), delimiter=sep), None)
    return csv_rows(sample, sep)


def first_line(lines: list[str], sep: str) -> int:
    """How many lines stand before the table: comments, titles and empty ones."""
    skip = 0
    while skip < len(lines) and (not lines[skip].strip() or lines[skip].startswith("#")):
        skip += 1
    widths = [len(row) for row in csv_rows([line for line in lines[skip:] if line.strip()][:SAMPLE_LINES], sep)]
    usual, n = Counter(widths).most_common(1)[0] if widths else (1, 0)
    if usual == 1 or n < 2 or n < len(widths) / 2:
        return skip
    for i, line in enumerate(lines[skip:], skip):
        cells = [cell for row in csv_rows([line], sep) for cell in row]
        if cells and (len(cells) >= usual - 1 and len([c for c in cells if c]) > 1):
            return i
    return skip


def is_header(first: list[str], body: list[list[str]], said: Reading) -> bool:
    """Whether a first line has the names of columns.

    The model's names decide, if there is a model that they are found in. Else a number or a gap among the cells makes
    the line data, unless the cells are the numbers 0, 1, 2, ... (which pandas writes), years beside text, or a text
    stands over numbers.
    """
    if said.columns is not None:
        known = set(said.columns)
        if known == {str(i) for i in range(len(known))}:
            return first == [str(i) for i in range(len(first))] and 2 * len(first) >= len(known)
        if 2 * len(known & set(first)) >= min(len(known), len(first)):
            return True
    rest = first[1:] if first and first[0] == "" else first
    if len(first) > 1 and rest == [str(i) for i in range(len(rest))]:
        return True
    texts = [i for i, cell in enumerate(first) if cell.lower() not in GAPS and not is_number(cell)]
    if not texts:
        return False
    columns = [[row[i] for row in body if i < len(row)] for i in range(len(first))]
    over_numbers = any(column_of_numbers(columns[i]) for i in texts)
    if len(texts) == len(first) or over_numbers:
        repeated = [i for i in texts if first[i] in columns[i]]
        return over_numbers or 2 * len(repeated) < len(texts) or not body
    others = [cell for i, cell in enumerate(first) if i not in texts and cell]
    return not others or (all(YEAR.fullmatch(cell) for cell in others) and len(set(others)) == len(others))


def column_of_numbers(cells: list[str]) -> bool:
    """Whether there are numbers, and nothing else but gaps."""
    there = [cell for cell in cells if cell.lower() not in GAPS]
    return bool(there) and all(map(is_number, there))


def decimal_mark(rows: list[list[str]], sep: str) -> str:
    """A comma if cells show it and none shows a point, or, where commas are not between cells, leave it open."""
    cells = [cell for row in rows for cell in row]
    commas = [cell for cell in cells if re.fullmatch(r"[+-]?\d*,\d+", cell) or shows_mark(cell, ",")]
    points = [cell for cell in cells if re.fullmatch(r"[+-]?\d*\.\d+([eE][+-]?\d+)?", cell) or shows_mark(cell, ".")]
    if not commas or points:
        return "."
    groups = all(re.fullmatch(r"[+-]?\d{1,3},\d{3}", cell) for cell in commas)
    return "." if groups and sep == "," else ","


def shows_mark(cell: str, mark: str) -> bool:
    """Whether a cell is a number by this decimal mark alone, as ``1.234,56 €`` is by a comma."""
    return mark in cell and bool(pattern(mark).fullmatch(cell)) and not pattern(OTHER[mark]).fullmatch(cell)


def decimal_of(cells: list[str], decimal: str) -> str:
    """The decimal mark of a column: the table's, unless its cells are numbers by the other one alone."""
    found = {convention.decimal for convention in conventions_of(cells, (decimal, OTHER[decimal]))}
    return OTHER[decimal] if found == {OTHER[decimal]} else decimal
