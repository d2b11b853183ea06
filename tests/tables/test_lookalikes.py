"""What is said of text of which most looks like numbers, dates or times."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vae_anomaly.tables.codes import TableInference
from vae_anomaly.tables.lookalikes import lookalike

N = 60
ALIKE = {
    "numbers": ["{i}.5 kg", "({i}.25)", "€ {i}.000,50", "{i}'000.00-", "{i},5 °C"],
    "dates": ["{i:02}.11.2024", "2024/11/{i:02} 08:15 PM", "{i}-3-24"],
    "times": ["{i}:15", "{i}:15:30", "{i}:59 pm"],
}


def noted(values: list[object]) -> str:
    """The note of a column of these values, a hundred numbers beside it."""
    table = TableInference(None, "ignore", "X")
    table.add(pd.DataFrame({"a": pd.Series(values, dtype=object), "b": np.arange(len(values)) * 0.5}))
    return table.columns()[0].all[0].note


@pytest.mark.parametrize(("what", "form"), [(what, form) for what, forms in ALIKE.items() for form in forms])
def test_values_that_are_not_read_as_what_they_look_like(what: str, form: str) -> None:
    texts = [form.format(i=i % 28 + 1) for i in range(N)]
    note = lookalike(list(dict.fromkeys(texts)), np.bincount(pd.factorize(np.array(texts))[0]))
    assert note.startswith(f"taken as text, though all values look like {what}, such as {texts[0]!r}: ")


def test_one_cell_that_makes_a_column_text_is_named() -> None:
    numbers: list[object] = [f"{i * 1.5}" for i in range(N)]
    assert noted(numbers) == ""
    assert "59 of 60 values look like numbers; '12O4' does not" in noted([*numbers[1:], "12O4"])
    assert "50 of 60 values look like numbers; 'k.A.' does not" in noted([*numbers[:50], *["k.A."] * 10])
    assert "'2024-11-03' does not" in noted([*(f"{i}:00" for i in range(20)), "2024-11-03"])
    assert noted([*numbers[:50], None, *["k.A."] * 5]) == noted([*numbers[:50], *["k.A."] * 5])


@pytest.mark.parametrize(
    "values",
    [
        ["0", "1", "2", "3 or more"] * 15,
        [f"{i:05}" for i in range(99_980, 99_980 + 20)] + ["01067"] * 20,
        [f"{i}A" for i in range(N)],
        [f"10.0.0.{i}" for i in range(N)],
        [f"1.2.{i}" for i in range(N)],
        [f"{i}" if i % 2 else f"house {i}" for i in range(N)],
        ["a:b", "word", "two words"] * 20,
        [True, False] * 30,
    ],
    ids=["levels", "codes", "house numbers", "addresses", "versions", "half words", "words", "truth"],
)
def test_nothing_is_said_of_what_is_text(values: list[object]) -> None:
    assert noted(values) == ""
