"""Planted errors: each really changes its row, and nothing else of the table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vae_anomaly.benchmark.planted import ERRORS, SENTINEL, kinds_for, plant
from vae_anomaly.errors import DataError

NUMERIC = [kind for kind in ERRORS if kind != "swapped_category"]
DTYPES = ["float64", "float32", "int64", "int16", "uint8"]


def mixed_table(n: int = 30) -> pd.DataFrame:
    """Columns of every type, one of them with gaps, and one of names that are all different."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "weight": rng.normal(50, 5, n).round(1),
            "count": rng.integers(1, 90, n),
            "small": rng.integers(1, 9, n).astype(np.int8),
            "colour": rng.choice(["red", "green", "blue"], n),
            "shape": pd.Categorical(rng.choice(["round", "flat"], n)),
            "broken": rng.random(n) < 0.5,
            "name": [f"n{i}" for i in range(n)],
            "day": pd.date_range("2024-01-01", periods=n),
        }
    )
    table.loc[::7, ["weight", "colour"]] = None
    return table


def differs(a: pd.DataFrame | np.ndarray, b: pd.DataFrame | np.ndarray) -> np.ndarray:
    """Which cells differ, ``(N, D)`` bool; two gaps are the same."""
    a, b = pd.DataFrame(a), pd.DataFrame(b)
    same = [(a.iloc[:, i].eq(b.iloc[:, i]) | (a.iloc[:, i].isna() & b.iloc[:, i].isna())) for i in range(a.shape[1])]
    return ~np.stack([column.to_numpy(bool) for column in same], axis=1)


def check_laws(table: pd.DataFrame | np.ndarray, kind: str, n: int, seed: int) -> None:
    before = table.copy()
    first, again = (plant(table, kind, n, np.random.default_rng(seed)) for _ in range(2))
    assert not differs(table, before).any()
    assert not differs(first.table, again.table).any()
    np.testing.assert_array_equal(first.rows, again.rows)
    changed = differs(first.table, table)
    np.testing.assert_array_equal(changed, first.is_changed)
    assert np.flatnonzero(changed.any(axis=1)).tolist() == first.rows.tolist()
    assert len(first.rows) == n
    assert type(first.table) is type(table)
    types = [X.dtype if isinstance(X, np.ndarray) else X.dtypes.tolist() for X in (first.table, table)]
    assert types[0] == types[1]


@settings(max_examples=60, derandomize=True)
@given(st.data())
def test_so_many_rows_change_and_only_the_named_cells(data: st.DataObject) -> None:
    dtype = np.dtype(data.draw(st.sampled_from(DTYPES)))
    if dtype.kind == "f":
        elements = arrays.from_dtype(dtype, allow_infinity=False, allow_subnormal=False)
    else:
        elements = arrays.from_dtype(dtype)
    shape = st.tuples(st.integers(2, 12), st.integers(1, 5))
    X = data.draw(arrays.arrays(dtype, shape, elements=elements))
    n = data.draw(st.integers(1, len(X) - 1))
    for kind in kinds_for(X, n):
        check_laws(X, kind, n, data.draw(st.integers(0, 99)))


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("seed", range(3))
def test_tables_of_every_type_keep_them(kind: str, seed: int) -> None:
    check_laws(mixed_table(), kind, 10, seed)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kind_of_a_numeric_table_is_planted(dtype: str) -> None:
    X = np.random.default_rng(0).integers(1, 25, size=(40, 4)).astype(dtype)
    held = [kind for kind in NUMERIC if kind != "sentinel" or dtype != "uint8"]
    assert kinds_for(X, 10) == held
    for kind in held:
        check_laws(X, kind, 10, 0)


def values_of(kind: str, table: pd.DataFrame | np.ndarray, n: int = 10) -> list[tuple[object, object]]:
    """What was in the changed cells, and what is there now."""
    planted = plant(table, kind, n, np.random.default_rng(0))
    old, new = pd.DataFrame(table), pd.DataFrame(planted.table)
    return [(old.iloc[i, j], new.iloc[i, j]) for i, j in zip(*np.nonzero(planted.is_changed), strict=True)]


def test_numbers_change_as_their_kind_says() -> None:
    X = np.random.default_rng(0).normal(100, 60, size=(40, 3)).round(2)
    assert all(new == 10 * old for old, new in values_of("factor_10", X))
    assert all(new == 3 * old for old, new in values_of("factor_3", X))
    assert all(new == SENTINEL for _, new in values_of("sentinel", X))
    for old, new in values_of("transposed_digits", X):
        assert sorted(f"{abs(old):07.2f}") == sorted(f"{abs(new):07.2f}")
        assert np.sign(old) == np.sign(new)


def test_swapped_columns_exchange_two_values_of_a_row() -> None:
    X = np.random.default_rng(0).normal(size=(40, 4))
    planted = plant(X, "swapped_columns", 10, np.random.default_rng(0))
    assert (planted.is_changed.sum(axis=1)[planted.rows] == 2).all()
    np.testing.assert_array_equal(np.sort(planted.table, axis=1), np.sort(X, axis=1))


def test_a_category_becomes_another_level_of_its_column() -> None:
    table = mixed_table()
    planted = plant(table, "swapped_category", 20, np.random.default_rng(0))
    assert (planted.is_changed.sum(axis=1)[planted.rows] == 1).all()
    columns = table.columns[planted.is_changed.any(axis=0)]
    assert set(columns) == {"colour", "shape", "broken"}
    for name in columns:
        assert set(planted.table[name].dropna()) == set(table[name].dropna())


def test_a_copied_half_is_of_one_other_row() -> None:
    X = np.arange(120.0).reshape(20, 6)
    planted = plant(X, "copied_half", 5, np.random.default_rng(0))
    for row in planted.rows:
        sources = planted.table[row] // 6
        assert sorted(np.unique(sources, return_counts=True)[1].tolist()) == [3, 3]
        assert row in sources


@pytest.mark.parametrize(
    ("table", "kind", "n", "message"),
    [
        (np.zeros((9, 3)), "factor_10", 2, "only 0 of 9 rows can have an error factor_10, 2 were asked for"),
        (np.ones((9, 3)), "swapped_category", 2, "only 0 of 9 rows"),
        (np.ones((9, 3)), "factor_10", 9, "9 rows with an error, of 9"),
    ],
)
def test_what_cannot_be_planted_is_refused(table: np.ndarray, kind: str, n: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        plant(table, kind, n, np.random.default_rng(0))
