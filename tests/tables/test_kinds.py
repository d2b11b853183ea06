"""The kind of a column, by the rules in their order; and a column in pieces is the column in one."""

from __future__ import annotations

import datetime
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_anomaly.columns import Column
from vae_anomaly.errors import DataError
from vae_anomaly.tables import kinds
from vae_anomaly.tables.codes import TableInference
from vae_anomaly.tables.encoding import encoded
from vae_anomaly.tables.kinds import ColumnInference

DAYS = pd.date_range("2020-01-01", periods=60)
TIMES = pd.date_range("2020-01-01", periods=60, freq="11h")


def column(values: Any, **given: Any) -> Column:
    """What is found of a column beside one of plain numbers."""
    return found(pd.DataFrame({"it": pd.Series(values)}), **given)[0].all[0]


def found(frame: pd.DataFrame, pieces: int = 1, missing: str = "ignore", given: dict[str, str] | None = None):
    """Columns and codes of a frame in so many pieces, another column of numbers beside it."""
    frame = frame.assign(other=np.linspace(0, 1, len(frame)))
    inference = TableInference(given, missing, "X")
    edges = np.linspace(0, len(frame), pieces + 1).astype(int)
    codes = np.concatenate([inference.add(frame.iloc[a:b]) for a, b in pairwise(edges)])
    columns, recodes = inference.columns()
    return columns, inference.recoded(codes, columns, recodes)


KINDS: dict[str, tuple[Any, str]] = {
    "no value": ([None] * 60, "constant"),
    "one text": (["a"] * 59 + [None], "constant"),
    "one number": ([3] * 60, "number"),
    "one truth": ([True, None] * 30, "constant"),
    "truths": ([True, False] * 30, "category"),
    "truths and gaps": ([True, False, None] * 20, "category"),
    "days": (DAYS, "date"),
    "days of a zone": (DAYS.tz_localize("Asia/Tokyo"), "date"),
    "periods": (pd.period_range("2020-01", periods=60, freq="M"), "date"),
    "dates of Python": (list(DAYS.date), "date"),
    "ISO dates": (list(DAYS.astype(str)), "date"),
    "ISO dates with times": (list(TIMES.astype(str)), "date"),
    "German dates": (list(DAYS.strftime("%d.%m.%Y")), "date"),
    "dates with months by name": (list(DAYS.strftime("%d %b %Y")), "date"),
    "days of months beyond the twelfth": (list(DAYS.strftime("%m/%d/%Y")), "date"),
    "two forms of dates": (["2020-01-01", "03.01.2020"] * 30, "category"),
    "whole numbers": ([1, 5, 2] * 20, "number"),
    "numbers": ([0.5, np.nan, 2] * 20, "number"),
    "fractions": ([Fraction(1, 3), None] * 30, "number"),
    "durations": (pd.to_timedelta(np.arange(60) % 7, unit="h"), "number"),
    "durations of Arrow": (
        pd.array([datetime.timedelta(1), None] * 30, dtype=pd.ArrowDtype(pa.duration("s"))), "number",
    ),
    "text of numbers": (["1.5", " 2", "-3e4"] * 20, "number"),
    "codes with leading zeros": (["01", "10", "11"] * 20, "category"),
    "a counter": (range(5, 65), "identifier"),
    "a counter of few": (range(20), "number"),
    "a counter of floats": ([float(i) for i in range(60)], "number"),
    "a counter of Arrow": (pd.array(range(60), dtype=pd.ArrowDtype(pa.int64())), "identifier"),
    "a counter with a gap": ([*range(59), None], "number"),
    "names": ([f"a{i}" for i in range(60)], "identifier"),
    "twenty texts": ([f"a{i}" for i in range(20)], "category"),
    "a text a second row": ([f"a{i // 2}" for i in range(60)], "category"),
    "lists": ([[1, 2], [3], None] * 20, "category"),
    "lists of Arrow": (pd.array([[1, 2], [3], None] * 20, dtype=pd.ArrowDtype(pa.list_(pa.int64()))), "category"),
    "times of day": ([datetime.time(1), datetime.time(2)] * 30, "category"),
    "intervals of dates": (pd.interval_range(pd.Timestamp(0), periods=5).repeat(12), "category"),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_each_rule(name: str) -> None:
    values, kind = KINDS[name]
    it = column(values)
    assert it.kind == kind
    assert it.why


def test_cycles_are_those_that_the_resolution_allows() -> None:
    assert column(pd.date_range("2020-01-01", periods=500)).cycles == ("week", "year")
    assert column(pd.date_range("2020-01-01", periods=60, freq="11h")).cycles == ("day", "week")
    assert column(pd.date_range("2020-01-01", periods=60, freq="MS")).cycles == ("year",)
    assert column(pd.date_range("1960-01-01", periods=60, freq="YS")).cycles == ()
    assert column(pd.date_range("2020-01-01", periods=60, freq="s")).cycles == ()


def test_levels_are_the_most_frequent_in_the_order_of_the_alphabet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "MAX_LEVELS", 2)
    columns, codes = found(pd.DataFrame({"it": ["c", "a", "a", "b", "c", "c", None]}))
    assert columns.all[0].levels == ("a", "c")
    np.testing.assert_array_equal(codes[:, 0], [1, 0, 0, 2, 1, 1, np.nan])


def test_more_texts_than_are_counted_are_free_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "MOST_TEXTS", 30)
    texts = [str(i) for i in range(60)] * 3
    for pieces in (1, 6):
        it = found(pd.DataFrame({"it": texts}), pieces)[0].all[0]
        assert (it.kind, it.why) == ("identifier", "more than 30 different texts")
        assert found(pd.DataFrame({"it": texts}), pieces, given={"it": "number"})[0].all[0].kind == "number"
        assert len(found(pd.DataFrame({"it": texts}), pieces, given={"it": "category"})[0].all[0].levels) == 60


CELLS = st.one_of(
    st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "01", "x y", ""])), min_size=1),
    st.lists(st.one_of(st.none(), st.booleans()), min_size=1),
    st.lists(st.one_of(st.none(), st.floats(-1e9, 1e9)), min_size=1),
    st.lists(st.one_of(st.none(), st.integers(-50, 50).map(str)), min_size=1),
    st.lists(st.one_of(st.none(), st.dates(datetime.date(1900, 1, 1))), min_size=1),
)


@given(values=CELLS, pieces=st.integers(1, 5), missing=st.sampled_from(["ignore", "category"]))
@settings(max_examples=150)
def test_pieces_are_the_whole_and_scoring_reads_what_the_fit_read(values: list[Any], pieces: int, missing: str) -> None:
    frame = pd.DataFrame({"it": pd.Series(values, dtype=object)})
    columns, codes = found(frame, missing=missing)
    of_pieces, codes_of_pieces = found(frame, pieces, missing)
    assert of_pieces == columns
    np.testing.assert_array_equal(codes_of_pieces, codes)
    frame = frame.assign(other=np.linspace(0, 1, len(frame)))
    np.testing.assert_array_equal(encoded(frame, columns), codes)
    np.testing.assert_array_equal(encoded(frame.iloc[[-1]], columns), codes[-1:])
    it = columns.all[0]
    if it.is_modelled:
        gaps = [value is None for value in values]
        np.testing.assert_array_equal(np.isnan(codes[:, 0]), gaps)
        assert it.marks_gaps == (missing == "category" and any(gaps))


def test_all_problems_are_in_one_message() -> None:
    frame = pd.DataFrame({"a": ["x", "y"] * 5, "b": [1.0, None] * 5, "c": [True, False] * 5})
    inference = TableInference({"a": "number", "c": "date"}, "refuse", "f.csv")
    inference.add(frame)
    with pytest.raises(DataError) as refusal:
        inference.columns()
    assert str(refusal.value).splitlines() == [
        "f.csv: column 'a' is to be numbers, and 'x' is none",
        "f.csv: column 'b' has 5 gaps, which missing='refuse' does not take",
        "f.csv: column 'c' is to be a date, and it holds boolean values",
    ]


def test_dates_that_could_begin_with_the_day_or_the_month_are_noted() -> None:
    def note(texts: list[str]) -> str:
        inference = ColumnInference("day", "X")
        inference.add(pd.Series(texts * 20))
        return inference.column("ignore")[0].note

    assert "month/day/year would fit too" in note(["01/02/2024", "03/04/2024"])
    assert note(["31/01/2024", "03/04/2024"]) == ""
    assert note(["01/31/2024", "03/04/2024"]) == ""
