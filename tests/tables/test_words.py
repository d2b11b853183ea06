"""Codes back to values and words: the way back of the encoding, and what a person reads."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vae_anomaly.columns import Column, Columns
from vae_anomaly.tables.encoding import encoded
from vae_anomaly.tables.row_names import ids_of, renamed, texts_of_cells
from vae_anomaly.tables.words import decoded, duration_text, feature_in_words, percent

COLOUR = Column(name="colour", kind="category", levels=("blue", "red"))
DAY = Column(name="day", kind="date", cycles=("week", "year"))
HOUR = Column(name="hour", kind="date", cycles=("day",))
SIZE = Column(name="size", kind="number")
COLUMNS = Columns([SIZE, COLOUR, DAY, HOUR, Column(name="id", kind="identifier")])


def make_frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": ["a1", "a2", "a3"],
            "size": [1.5, np.nan, -3.0],
            "colour": ["red", "blue", None],
            "day": pd.to_datetime(["2020-02-29", None, "1969-12-31"]),
            "hour": pd.to_datetime(["2020-02-29 13:05:07.25", "2001-01-01 00:00:00.00", None]),
        }
    )


def test_decoding_is_the_way_back_of_encoding() -> None:
    frame = make_frame()
    back = decoded(encoded(frame, COLUMNS), COLUMNS)
    assert list(back.columns) == ["size", "colour", "day", "hour"]
    np.testing.assert_array_equal(back["size"], frame["size"])
    assert back["colour"].isna().tolist() == [False, False, True]
    assert back["colour"][:2].tolist() == ["red", "blue"]
    for name in ("day", "hour"):
        np.testing.assert_array_equal(
            back[name].to_numpy("datetime64[us]"), frame[name].to_numpy("datetime64[us]"), strict=True
        )
    np.testing.assert_array_equal(encoded(back, COLUMNS), encoded(frame, COLUMNS))


def test_a_level_that_the_model_does_not_know_is_called_other_unless_the_table_names_it() -> None:
    (code,) = encoded(pd.DataFrame({"colour": ["green"]}), Columns([COLOUR]))[0]
    assert decoded(np.array([[code]]), Columns([COLOUR]))["colour"].tolist() == ["other"]
    assert feature_in_words(COLOUR, code, 1.0, 0.25).observed == "other"
    words = feature_in_words(COLOUR, code, 1.0, 0.25, "green")
    assert (words.observed, words.expectation, words.is_level) == ("green", "red (75 %)", True)


@pytest.mark.parametrize(
    ("column", "values", "observed", "expectation"),
    [
        (None, (0.0, 5.731, 0.1), "0.00", "5.73 ± 0.10"),
        (SIZE, (np.nan, 5.731, 0.1), "missing", "5.73 ± 0.10"),
        (SIZE, (1234.0, 1000.0, 85.0), "1,234", "1,000 ± 85"),
        (COLOUR, (np.nan, 0.0, 0.004), "missing", "blue (over 99 %)"),
        (COLOUR, (1.0, np.nan, 0.4), "red", "missing (60 %)"),
        (DAY, (1_582_934_400.0, 1_583_020_800.0, 864_000.0), "Sat 2020-02-29", "Sun 2020-03-01 ± 10 days"),
        (HOUR, (1_582_981_507.0, 1_582_981_507.0, 7_200.0), "2020-02-29 13:05", "2020-02-29 13:05 ± 2.0 hours"),
        (DAY, (np.nan, 0.0, 1.0), "missing", "Thu 1970-01-01 ± 1 seconds"),
    ],
)
def test_features_in_words(
    column: Column | None, values: tuple[float, float, float], observed: str, expectation: str
) -> None:
    words = feature_in_words(column, *values)
    assert (words.observed, words.expectation) == (observed, expectation)


def test_a_certainty_is_never_rounded_to_all_or_nothing() -> None:
    assert [percent(share) for share in (0.0, 0.001, 0.5, 0.994, 0.9999, 1.0)] == [
        "under 1 %",
        "under 1 %",
        "50 %",
        "99 %",
        "over 99 %",
        "100 %",
    ]
    assert duration_text(30 * 365.2425 * 86_400) == "30 years"


def test_identifiers_name_rows_as_text() -> None:
    frame = make_frame()
    assert ids_of(frame, COLUMNS, (), "X")["id"].tolist() == ["a1", "a2", "a3"]
    assert ids_of(frame, COLUMNS, ("size",), "X")["size"].tolist() == ["1.5", "", "-3"]
    assert ids_of(frame.drop(columns="id"), COLUMNS, (), "X") == {}
    assert ids_of(np.zeros((3, 2)), None, (), "X") == {}
    with pytest.raises(ValueError, match="X: no column 'key' for --id-column; its columns are id, size"):
        ids_of(frame, COLUMNS, ("key",), "X")
    assert texts_of_cells([1, 2.0, "01", None, pd.NaT]).tolist() == ["1", "2", "01", "", ""]


def test_columns_of_the_data_do_not_hide_those_of_scores() -> None:
    others = {"row": 1, "row (in the data)": 2, "x": 3}
    found = renamed(others, ["row", "kl"])
    assert sorted(found.values()) == [1, 2, 3]
    assert len({"row", "kl", *found}) == 5
    assert found["x"] == 3
