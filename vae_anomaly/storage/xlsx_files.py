"""Workbooks, bounded before they are parsed.

A workbook is an archive of XML. openpyxl holds each row of a sheet as a tree until the row ends, and every text that
cells share, so that a small archive could take all memory: a row without end, an endless list of texts, elements inside
each other, a text as large as the archive unpacks to. So all XML is first read by a parser that only counts what would
be held at a time.
"""

from __future__ import annotations

import itertools
import zipfile
from pathlib import Path
from typing import IO, Any, NoReturn
from xml.parsers import expat

from vae_anomaly.errors import DataError
from vae_anomaly.storage.compression import FREE_BYTES, MAX_RATIO
from vae_anomaly.storage.safe_reading import MAX_CELLS, open_data, parsing

UNPACKED_BYTES = 512 << 20
MAX_ROWS = 1 << 20
"""Of a sheet, as Excel has them."""
HELD_BYTES = 256 << 20
"""Of XML at a time."""
ELEMENT_BYTES, ATTRIBUTE_BYTES = 72, 256
MAX_DEPTH = 256
RELEASED = {"row": 2, "si": 1}
"""Elements of which openpyxl keeps only themselves once they end, and how many others they lie in."""


def first_sheet(path: Path) -> tuple[list[tuple[Any, ...]], list[str]]:
    """The cells of a workbook's first sheet, as many in every row, and the names of all sheets.

    Raises
    ------
    DataError
        If openpyxl is missing, or this is no workbook, or the sheet has more than 1,048,576 rows or 16,777,216
        cells, or it takes more than 512 MiB unpacked or while it is parsed, or becomes more than 200 times as large as
        it is (from 64 MiB on).
    """
    try:
        import openpyxl
    except ImportError:
        raise DataError(f"{path}: reading .xlsx needs openpyxl: pip install 'vae-anomaly[xlsx]'") from None
    with open_data(path) as raw, parsing(f"{path}: not a readable .xlsx file"):
        with zipfile.ZipFile(raw) as archive:
            check_archive(archive, path)
        book = openpyxl.load_workbook(raw, read_only=True, data_only=True, keep_links=False)
        sheets: list[str] = book.sheetnames
        rows: list[tuple[Any, ...]] = []
        width = 0
        sheet = book[sheets[0]]
        sheet.reset_dimensions()  # what a sheet says of its size may be wrong, and would cut it
        for row in sheet.iter_rows(values_only=True):
            rows.append(row)
            width = max(width, len(row))
            if len(rows) > MAX_ROWS or len(rows) * width > MAX_CELLS:
                raise DataError(f"{path}: has more than {MAX_ROWS:,} rows or {MAX_CELLS:,} cells: save it as .csv")
        book.close()
    while rows and not any(cell is not None for cell in rows[-1]):
        rows.pop()
    return [(*row, *itertools.repeat(None, width - len(row))) for row in rows], sheets


def check_archive(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse an archive that is too large unpacked, or while its XML is parsed."""
    members = archive.infolist()
    n_bytes = sum(member.file_size for member in members)
    if n_bytes > UNPACKED_BYTES:
        raise DataError(f"{path}: has more than {UNPACKED_BYTES:,} bytes unpacked: save it as .csv")
    if n_bytes > max(FREE_BYTES, MAX_RATIO * path.stat().st_size):
        raise DataError(
            f"{path}: becomes more than {MAX_RATIO} times as large as it is: save it as .csv if that is meant"
        )
    for member in members:
        with archive.open(member) as stream:
            HeldXml(path).read(stream)


class HeldXml:
    """Counts what a parser holds of XML that openpyxl reads.

    Parameters
    ----------
    path
        Of the workbook, for messages.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.held = 0
        self.before: list[int] = []
        """What was held when each open element began."""
        self.has_begun = False

    def read(self, stream: IO[bytes]) -> None:
        """Read it all; what is no XML from its first element on, such as a picture, is left alone.

        Raises
        ------
        DataError
            If more than 256 MiB would be held, or elements lie more than 256 deep.
        expat.ExpatError
            If it is no XML after its first element.
        """
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler = self.on_start, self.on_end
        parser.CharacterDataHandler = self.on_text
        try:
            while block := stream.read(1 << 16):
                parser.Parse(block)
            parser.Parse(b"", True)  # noqa: FBT003 - its arguments have no names
        except expat.ExpatError:
            if self.has_begun:
                raise

    def on_start(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        self.has_begun = True
        self.before.append(self.held)
        self.held += ELEMENT_BYTES + ATTRIBUTE_BYTES * len(attributes)
        if self.held > HELD_BYTES or len(self.before) > MAX_DEPTH:
            self.refuse()

    def on_end(self, name: str) -> None:
        """An element ends; of some only they themselves are kept, or their text."""
        before = self.before.pop()
        if len(self.before) < 3:  # as all that are released
            local = name.rpartition(" ")[2]
            if RELEASED.get(local) == len(self.before):
                self.held = before + ELEMENT_BYTES * (1 + (local == "si"))

    def on_text(self, text: str) -> None:
        """Text inside an element."""
        self.held += len(text)
        if self.held > HELD_BYTES:
            self.refuse()

    def refuse(self) -> NoReturn:
        """Say what is too much."""
        if len(self.before) > MAX_DEPTH:
            raise DataError(f"{self.path}: not a readable .xlsx file (elements lie more than {MAX_DEPTH} deep)")
        raise DataError(f"{self.path}: takes more than {HELD_BYTES:,} bytes while it is parsed: save it as .csv")
