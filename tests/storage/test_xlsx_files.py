"""Workbooks: small archives that would take all memory are refused, and what a sheet says of its size cuts nothing."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from vae_anomaly.errors import DataError
from vae_anomaly.storage import xlsx_files
from vae_anomaly.storage.xlsx_files import first_sheet

MIB = 1 << 20
SHEET, STRINGS = "xl/worksheets/sheet1.xml", "xl/sharedStrings.xml"
MAIN, OFFICE = "http://schemas.openxmlformats.org/spreadsheetml/2006/main", "http://schemas.openxmlformats.org/"
NAMESPACE = f'xmlns="{MAIN}"'
TYPE, RELATION = f"{OFFICE}package/2006/content-types", f"{OFFICE}officeDocument/2006/relationships"
SPREADSHEET = "application/vnd.openxmlformats-officedocument.spreadsheetml"
PARTS = {
    "[Content_Types].xml": [
        f'<Types xmlns="{TYPE}"><Default Extension="xml" ContentType="application/xml"/>',
        f'<Override PartName="/xl/workbook.xml" ContentType="{SPREADSHEET}.sheet.main+xml"/>',
        f'<Override PartName="/{SHEET}" ContentType="{SPREADSHEET}.worksheet+xml"/>',
        f'<Override PartName="/{STRINGS}" ContentType="{SPREADSHEET}.sharedStrings+xml"/></Types>',
    ],
    "_rels/.rels": [
        f'<Relationships xmlns="{OFFICE}package/2006/relationships">',
        f'<Relationship Id="rId1" Type="{RELATION}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    ],
    "xl/workbook.xml": [
        f'<workbook {NAMESPACE} xmlns:r="{RELATION}"><sheets><sheet name="Sheet" sheetId="1" r:id="rId1"/></sheets>',
        "</workbook>",
    ],
    "xl/_rels/workbook.xml.rels": [
        f'<Relationships xmlns="{OFFICE}package/2006/relationships">',
        f'<Relationship Id="rId1" Type="{RELATION}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
    ],
}
ROW = '<row><c t="inlineStr"><is><t>a</t></is></c><c><v>2</v></c></row>'


def workbook(path: Path, sheet: Iterable[str], strings: Iterable[str] = (f"<sst {NAMESPACE}/>",)) -> None:
    """A workbook whose sheet, inside ``<sheetData>``, and shared texts are these pieces of XML."""
    whole = [f"<worksheet {NAMESPACE}><sheetData>", *sheet, "</sheetData></worksheet>"]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, pieces in {**PARTS, SHEET: whole, STRINGS: strings}.items():
            with archive.open(name, "w") as member:
                for piece in pieces:
                    member.write(piece.encode())


def refusal(path: Path) -> str:
    """Why a workbook is refused, in one line."""
    with pytest.raises(DataError) as caught:
        first_sheet(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_workbook_is_read(tmp_path: Path) -> None:
    workbook(tmp_path / "a.xlsx", [ROW, ROW])
    assert first_sheet(tmp_path / "a.xlsx") == ([("a", 2), ("a", 2)], ["Sheet"])


@pytest.mark.parametrize("size", ["A1", "B2:B2", "A1:ZZ1000000", "A1:B2000000000"])
def test_what_a_sheet_says_of_its_size_changes_nothing(tmp_path: Path, size: str) -> None:
    workbook(tmp_path / "a.xlsx", [f'</sheetData><dimension ref="{size}"/><sheetData>', ROW * 3])
    assert first_sheet(tmp_path / "a.xlsx")[0] == [("a", 2)] * 3


def test_rows_and_cells_that_are_left_out_are_gaps(tmp_path: Path) -> None:
    workbook(tmp_path / "a.xlsx", ['<row r="1"><c r="A1"><v>1</v></c></row><row r="3"><c r="C3"><v>2</v></c></row>'])
    assert first_sheet(tmp_path / "a.xlsx")[0] == [(1, None, None), (None, None, None), (None, None, 2)]


@pytest.mark.parametrize("rows", ['<row r="2000000000"/>', ROW + '<row r="2000000000"><c><v>1</v></c></row>'])
def test_a_row_of_any_number_costs_nothing(tmp_path: Path, rows: str) -> None:
    workbook(tmp_path / "a.xlsx", [rows])
    assert "has more than 1,048,576 rows or 16,777,216 cells" in refusal(tmp_path / "a.xlsx")


HELD = {
    "a row of cells without end": (["<row>", *["<c/>" * 10_000] * 3, "</row>"], None),
    "rows without end": (["<row/>" * 30_000], None),
    "cells inside rows inside a row": (["<row>", *["<c/>" * 100 + "<row/>"] * 200, "</row>"], None),
    "a text without end": (["<row><c><is><t>", *["a" * 100_000] * 15, "</t></is></c></row>"], None),
    "attributes": (["<row>", '<c a="" b="" d=""/>' * 3_000, "</row>"], None),
    "texts without end": ([ROW], [f"<sst {NAMESPACE}>", "<si><t/></si>" * 20_000, "</sst>"]),
    "a text of parts without end": ([ROW], [f"<sst {NAMESPACE}><si>", "<r/>" * 30_000, "</si></sst>"]),
}


@pytest.mark.parametrize("case", HELD)
def test_what_a_parser_would_hold_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.setattr(xlsx_files, "HELD_BYTES", MIB)
    sheet, strings = HELD[case]
    workbook(tmp_path / "a.xlsx", sheet, *([] if strings is None else [strings]))
    assert "takes more than 1,048,576 bytes while it is parsed" in refusal(tmp_path / "a.xlsx")


def test_what_is_released_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx_files, "HELD_BYTES", MIB)
    text = "long" * 100
    workbook(tmp_path / "a.xlsx", [ROW.replace(">a<", f">{text}<") * 5_000])  # 2 MB of text, a row at a time
    assert first_sheet(tmp_path / "a.xlsx")[0] == [(text, 2)] * 5_000


BOMBS = {
    "inflates": ([" " * MIB] * 80, "becomes more than 200 times as large as it is"),
    "lies deep": (["<c>" * 1_000], "elements lie more than 256 deep"),
    "ends": (["<row>"], "not a readable .xlsx file (mismatched tag"),
    "names an entity": (["<row><c>&x;</c></row>"], "not a readable .xlsx file (undefined entity"),
}


@pytest.mark.parametrize("case", BOMBS)
def test_a_hostile_sheet_is_one_error(tmp_path: Path, case: str) -> None:
    sheet, message = BOMBS[case]
    workbook(tmp_path / "a.xlsx", sheet)
    assert message in refusal(tmp_path / "a.xlsx")


def test_entities_are_not_multiplied(tmp_path: Path) -> None:
    entities = "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghi", "bcdefghij", strict=True))
    strings = f'<!DOCTYPE l [<!ENTITY a "{"a" * 10}">{entities}]><sst {NAMESPACE}><si><t>&j;</t></si></sst>'
    workbook(tmp_path / "a.xlsx", [ROW], [strings])
    assert "limit on input amplification factor" in refusal(tmp_path / "a.xlsx")


def test_more_than_is_unpacked_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx_files, "UNPACKED_BYTES", MIB)
    workbook(tmp_path / "a.xlsx", [ROW * 20_000])
    assert "has more than 1,048,576 bytes unpacked: save it as .csv" in refusal(tmp_path / "a.xlsx")


MEASURE = """
import resource, sys
from pathlib import Path
import pandas, openpyxl
from vae_anomaly.datasets import load_file
from vae_anomaly.errors import DataError
from vae_anomaly.storage import xlsx_files
xlsx_files.HELD_BYTES = 16 << 20  # less, to save time
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
try:
    load_file(Path(sys.argv[1]))
except DataError as error:
    print((peak() - before) >> 10)
"""


def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    workbook(tmp_path / "a.xlsx", ["<row>", *["<c/>" * MIB] * 3, "</row>"])  # 12 MiB, and 230 MB once it is parsed
    assert (tmp_path / "a.xlsx").stat().st_size < MIB
    command = [sys.executable, "-P", "-c", MEASURE, str(tmp_path / "a.xlsx")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert int(result.stdout) < 50
