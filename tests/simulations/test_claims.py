"""A small part of `run.py`: claims hold in the first settings, and the table and the page are as it writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import pytest
from claims import CLAIMS, Row, counted
from run import ABOUT, lines

from helpers import ROOT


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__)
def test_what_is_claimed_is_kept(claim: Callable[[int], Iterator[Row]]) -> None:
    rows = list(islice(claim(24), 12))
    assert rows
    assert [row for row in rows if not row.passes] == []


def test_a_claim_that_is_not_kept_does_not_pass() -> None:
    assert not counted("", "", [False] * 30 + [True] * 70).passes
    assert counted("", "", [False] * 7 + [True] * 93).passes


def test_the_table_has_the_worst_settings_of_each_claim() -> None:
    rows = [Row("a", f"setting {kept}", kept, 100, 0.93) for kept in (99, 95, 97, 96)]
    table = lines(rows)
    assert [line.split("|")[2].strip() for line in table] == ["setting 95", "setting 96", "setting 97", "median of 4"]
    assert table[0] == "| a | setting 95 | 0.950 | 0.022 | 0.93 |"


def test_the_page_is_what_the_command_wrote() -> None:
    page = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    assert page.startswith(ABOUT)
    assert " 0 broken;" in page
