"""Codes to units and back: numbers rise and come back, levels and dates have their places."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vae_anomaly.columns import CYCLES, Column, Columns
from vae_anomaly.fitting.preprocessing import by_column, standardize
from vae_anomaly.fitting.tails import tails
from vae_anomaly.model.scaling import TailScaling
from vae_anomaly.model.table_scaling import TableScaling
from vae_anomaly.storage.rows import RowsInMemory


def tail_scaling(low: float, high: float, low_scale: float, high_scale: float) -> TailScaling:
    numbers = (torch.tensor([value], dtype=torch.float64) for value in (0.3, 2.0, low, high, low_scale, high_scale))
    return TailScaling(*numbers)


ENDS = st.tuples(st.floats(-5, 0), st.floats(0, 5), st.floats(0.01, 10), st.floats(0.01, 10))
VALUES = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30)


@given(ends=ENDS, values=VALUES)
def test_drawing_in_rises_and_has_an_inverse(ends: tuple[float, float, float, float], values: list[float]) -> None:
    scaling, raw = tail_scaling(*ends), torch.tensor(sorted(values), dtype=torch.float64)[:, None]
    scaled = scaling(raw)
    assert (scaled.diff(dim=0) >= 0).all()
    np.testing.assert_allclose(scaling.inverse(scaled), raw, rtol=1e-8, atol=1e-8)
    inside = (raw >= ends[0]) & (raw <= ends[1])
    assert torch.equal(scaling.drawn_in(raw)[inside], raw[inside])


@given(ends=ENDS, value=st.floats(-1e4, 1e4))
def test_the_spread_is_that_of_the_inverse_near_its_mean(ends: tuple[float, float, float, float], value: float) -> None:
    scaling = tail_scaling(*ends)
    mean = scaling(torch.tensor([[value]], dtype=torch.float64))
    step = 1e-6
    slope = (scaling.inverse(mean + step) - scaling.inverse(mean - step)) / (2 * step)
    spread = scaling.spread(mean, torch.full_like(mean, 1e-2))
    np.testing.assert_allclose(spread, 0.1 * slope, rtol=1e-3)


def test_a_gap_stays_one() -> None:
    assert torch.isnan(tail_scaling(-1, 1, 1, 1)(torch.tensor([[math.nan]], dtype=torch.float64))).all()


def test_only_columns_with_long_tails_are_drawn_in() -> None:
    rng = np.random.default_rng(0)
    X = np.stack([rng.normal(size=500), np.exp(2 * rng.normal(size=500)), rng.normal(size=500)], axis=1)
    X[7, 2] = -9999
    scaling = by_column(RowsInMemory(X))
    assert isinstance(scaling, TailScaling)
    as_they_are = tails(X[:, 0])
    np.testing.assert_array_equal([scaling.low[0], scaling.high[0]], as_they_are[:2])
    scaled = scaling(torch.from_numpy(X)).numpy()
    assert np.abs(scaled[:, 1]).max() < 6
    assert 0.5 < scaled[np.arange(500) != 7, 2].std() < 1.5


def test_one_value_far_out_decides_nothing() -> None:
    X = np.random.default_rng(0).normal(size=(400, 1))
    X[0] = 1e12
    assert by_column(RowsInMemory(X))(torch.from_numpy(X[1:])).abs().max() < 6


COLUMNS = Columns(
    [
        Column(name="z", kind="number"),
        Column(name="c", kind="category", levels=("a", "b", "rare")),
        Column(name="d", kind="date", cycles=("day", "year")),
        Column(name="id", kind="identifier"),
        Column(name="b", kind="category", levels=("False", "True"), marks_gaps=True),
        Column(name="m", kind="number", marks_gaps=True),
    ]
)
NAN = math.nan
CODES = np.array(
    [
        [1.0, 0, 0.0, 0, 2.0],
        [2.0, 1, 86_400.0 * 10, 1, NAN],
        [3.0, 0, 86_400.0 * 20, NAN, 4.0],
        [NAN, 1, NAN, 1, 5.0],
        [5.0, 2, 86_400.0 * 9, 0, 6.0],
        [6.0, NAN, 86_400.0 * 3, 0, 7.0],
    ]
)


def table_scaling() -> TableScaling:
    scaling = standardize(RowsInMemory(CODES, columns=COLUMNS))
    assert isinstance(scaling, TableScaling)
    return scaling


def test_each_column_has_its_units() -> None:
    x = table_scaling()(torch.from_numpy(CODES))
    assert x.shape == (6, len(COLUMNS.of_units))
    names = [COLUMNS.names[place] for place in COLUMNS.of_units]
    assert names == ["d"] * 5 + ["m", "z"] + ["b"] * 4 + ["c"] * 4 + ["m"] * 2
    day, year = (2 * math.pi * torch.from_numpy(CODES[:, 2]) / CYCLES[cycle] for cycle in ("day", "year"))
    cycles = torch.stack([day.sin(), day.cos(), year.sin(), year.cos()], dim=1)
    np.testing.assert_allclose(x[:, 1:5], cycles, atol=1e-9)
    assert torch.isnan(x[3, [0, 1, 2, 3, 4, 6]]).all()
    b, c, m = x[:, 7:11], x[:, 11:15], x[:, 15:]
    np.testing.assert_array_equal(b.argmax(dim=1), [0, 1, 3, 1, 0, 0])
    np.testing.assert_array_equal(b.sum(dim=1), 1)
    np.testing.assert_array_equal(c.sum(dim=1), [1, 1, 1, 1, 1, 0])
    np.testing.assert_array_equal(c.argmax(dim=1)[:4], [0, 1, 0, 1])
    np.testing.assert_array_equal(m, [[1, 0], [0, 1], [1, 0], [1, 0], [1, 0], [1, 0]])


def test_rare_and_unseen_levels_are_one() -> None:
    scaling = table_scaling()
    rare, unseen = (torch.tensor([[1.0, code, 0, 0, 0]], dtype=torch.float64) for code in (2, 3))
    assert torch.equal(scaling(rare), scaling(unseen))


def test_the_inverse_gives_the_codes_back() -> None:
    scaling = table_scaling()
    there = ~np.isnan(CODES).any(axis=1)
    back = scaling.inverse(scaling(torch.from_numpy(CODES)))
    expected = np.where(np.arange(5) == 1, np.minimum(CODES, 3), CODES)
    expected[4, 1] = 3  # a level of one row is one of all others
    np.testing.assert_allclose(back[there], expected[there], atol=1e-6)
    assert math.isnan(back[2, 3])  # where gaps count, the likeliest may be a gap


def test_shares_of_units_add_up_to_those_of_columns() -> None:
    shares = torch.rand(3, len(COLUMNS.of_units), generator=torch.Generator().manual_seed(0))
    features = table_scaling().to_features(shares)
    assert features.shape == (3, 5)
    np.testing.assert_allclose(features.sum(dim=1), shares.sum(dim=1), rtol=1e-6)
    np.testing.assert_allclose(features[:, 4], shares[:, 5] + shares[:, 15:].sum(dim=1), rtol=1e-6)


def test_the_spread_of_a_category_is_what_its_likeliest_level_leaves() -> None:
    scaling = table_scaling()
    mean = torch.zeros(1, len(COLUMNS.of_units), dtype=torch.float64)
    mean[0, 7:15] = torch.tensor([0.7, 0.1, 0.1, 0.1, 0.25, 0.5, 0.25, 0.0])
    spread = scaling.spread(mean, torch.ones_like(mean))
    np.testing.assert_allclose(spread[0, [1, 3]], [0.5, 0.3])


@pytest.mark.parametrize("value", [-1.0, 7.0, 0.5])
def test_places_of_levels_are_checked(value: float) -> None:
    scaling = table_scaling()
    scaling.check_values()
    scaling.level_units[0] = value
    with pytest.raises(ValueError, match="has a level of 'b' in a place that there is not"):
        scaling.check_values()
