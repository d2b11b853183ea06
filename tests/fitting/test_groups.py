"""Laws of dividing rows: groups stay whole, order is respected, the promise is over groups."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from helpers import Make
from vae_anomaly import VAEDetector
from vae_anomaly.errors import CheckpointError, DataError
from vae_anomaly.fitting import fit
from vae_anomaly.fitting.fit import split
from vae_anomaly.fitting.groups import Groups
from vae_anomaly.fitting.out_of_fold import fit_out_of_fold
from vae_anomaly.parameters import DEFAULTS
from vae_anomaly.storage.rows import Rows, RowsInMemory

one_score = pytest.mark.usefixtures("calibrated_for_one_score")

names = st.lists(st.integers(0, 12), min_size=3, max_size=80).filter(lambda found: len(set(found)) >= 3)
shares = st.sampled_from([0.05, 0.1, 0.2, 0.3])


def parts_of(groups: Groups, seed: int = 0, share: float = 0.1) -> list[np.ndarray]:
    """Indices of training, validation and calibration rows."""
    rows = RowsInMemory(np.arange(len(groups.of_rows), dtype=float)[:, None])
    parts = split(rows, share, share, torch.Generator().manual_seed(seed), groups)
    return [part[:][:, 0].astype(int) for part in parts[:3]]


@given(names, st.integers(0, 99), shares)
def test_no_group_is_on_both_sides_and_no_part_is_empty(found: list[int], seed: int, share: float) -> None:
    groups = Groups.of(len(found), found, None, time_ordered=False)
    parts = parts_of(groups, seed, share)
    assert sorted(np.concatenate(parts)) == list(range(len(found)))
    sides = [set(np.array(found)[part]) for part in parts]
    assert sum(map(len, sides)) == len(set(found))
    assert all(sides)


@given(names, st.integers(0, 99), shares)
def test_shares_are_as_near_as_whole_groups_allow(found: list[int], seed: int, share: float) -> None:
    groups = Groups.of(len(found), found, None, time_ordered=False)
    _, validation, calibration = parts_of(groups, seed, share)
    wanted = max(1, round(share * len(found)))
    smallest = np.sort(groups.sizes)[:2]
    assert len(calibration) < 2 * wanted or len(calibration) == smallest[0]
    assert len(validation) < 2 * wanted or len(validation) in smallest
    single = Groups.of(len(found), range(len(found)), None, time_ordered=False)
    assert [len(part) for part in parts_of(single, seed, share)[1:]] == [wanted, wanted]


@given(st.lists(st.integers(0, 9), min_size=3, max_size=60).filter(lambda found: len(set(found)) >= 3), shares)
def test_parts_follow_each_other_in_time_and_one_time_is_on_one_side(times: list[int], share: float) -> None:
    groups = Groups.of(len(times), None, times, time_ordered=False)
    parts = [np.array(times)[part] for part in parts_of(groups, share=share)]
    for earlier, later in pairwise(parts):
        assert earlier.max() < later.min()
    for shuffled in (np.random.default_rng(0).permutation(len(times)),):  # the order of the rows does not count
        again = Groups.of(len(times), None, np.array(times)[shuffled], time_ordered=True)
        for part, other in zip(parts, parts_of(again, share=share), strict=True):
            assert sorted(np.array(times)[shuffled][other]) == sorted(part)


@given(st.integers(3, 90), shares)
def test_rows_in_order_are_cut_at_the_shares(n: int, share: float) -> None:
    training, validation, calibration = parts_of(Groups.of(n, None, None, time_ordered=True), share=share)
    assert [*training, *validation, *calibration] == list(range(n))
    assert len(validation) == len(calibration) == max(1, round(share * n))


@given(names, st.integers(0, 99), st.booleans())
def test_groups_are_never_across_folds(found: list[int], seed: int, in_order: bool) -> None:
    groups = Groups.of(len(found), found, None, time_ordered=in_order)
    folds = groups.folds(5, np.random.default_rng(seed))
    assert sorted(set(folds)) == list(range(folds.max() + 1))
    assert 1 <= folds.max() <= 4
    for group in set(found):
        assert len(set(folds[np.array(found) == group])) == 1


@given(names, names)
def test_groups_in_time_begin_no_earlier_than_those_before(found: list[int], times: list[int]) -> None:
    n = min(len(found), len(times))
    found, times = found[:n], times[:n]
    if len(set(found)) < 3:
        return
    groups = Groups.of(n, found, times, time_ordered=False)
    first = {group: min(t for g, t in zip(found, times, strict=True) if g == group) for group in set(found)}
    starts = [{first[group] for group in np.array(found)[part]} for part in parts_of(groups)]
    assert max(starts[0]) <= min(starts[1] | starts[2])
    assert max(starts[1]) <= min(starts[2])


@pytest.mark.parametrize(
    ("groups", "time", "message"),
    [
        (["a", "b"] * 5, None, r"here: groups has 2 different value\(s\) in 10 rows, and a minimum of 3 is required"),
        (None, [1.0] * 10, r"here: time has 1 different value\(s\)"),
        (range(9), None, r"one value for each of the 10 rows, got shape \(9,\)"),
        ([*"abcdefghi", None], None, "here: row 9 has no value of groups: fill it in"),
        (None, [np.nan, *range(9)], "here: row 0 has no value of time"),
        (None, list("abcdefghij"), "time must hold numbers or datetime64, got text"),
        (None, [1, pd.Timestamp("2020-01-01")] * 5, "time cannot be used"),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_is_wrong(groups: object, time: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Groups.of(10, groups, time, time_ordered=False, source="here")  # type: ignore[arg-type]


def test_a_group_that_memory_does_not_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RowsInMemory, "max_rows_in_memory", lambda self, most=None: 5)
    with pytest.raises(DataError, match="whole groups of 20 rows would be held out, and memory is taken for 5"):
        parts_of(Groups.of(60, np.arange(60) // 20, None, time_ordered=False))


@one_score
def test_names_of_groups_and_the_way_in_do_not_count(make_table: Make, tmp_path: Path) -> None:
    X, machines = make_table(90), np.arange(90) // 6
    np.save(tmp_path / "X.npy", X)
    fits = [
        VAEDetector(epochs=1).fit(X, groups=machines),
        VAEDetector(epochs=1).fit(X, groups=[f"machine {m}" for m in machines]),
        VAEDetector(epochs=1).fit_file(tmp_path / "X.npy", groups=pd.Series(machines)),
        VAEDetector(epochs=1).fit_batches(np.array_split(X, 4), groups=pd.Categorical(machines)),
        make_pipeline(StandardScaler(with_mean=False, with_std=False), VAEDetector(epochs=1)).fit(
            X, vaedetector__groups=machines
        )[-1],
    ]
    for other in fits[1:]:
        np.testing.assert_array_equal(other.score_samples(X), fits[0].score_samples(X))
        assert other.offset_ == fits[0].offset_
    assert fits[0].model_.fitted_on.n_groups == (13, 1, 1)
    assert (VAEDetector(epochs=1).fit(X).score_samples(X) != fits[0].score_samples(X)).any()


@one_score
def test_time_ordered_is_kept_and_time_may_be_dates(make_table: Make, tmp_path: Path) -> None:
    X = make_table(50)
    days = np.datetime64("2020-01-01") + np.arange(50)
    shuffled = np.random.default_rng(1).permutation(50)
    in_order = VAEDetector(epochs=1, time_ordered=True).fit(X)
    by_time = VAEDetector(epochs=1).fit(X[shuffled], time=days[shuffled])
    known, other = in_order.model_.fitted_on, by_time.model_.fitted_on
    np.testing.assert_array_equal(known.digests, other.digests)
    np.testing.assert_array_equal(known.counts, other.counts)
    assert known.n_groups is other.n_groups is None
    assert known.overlap([X]).parts.tolist() == [0] * 40 + [1] * 5 + [2] * 5
    by_time.save(tmp_path / "m.vae")
    assert VAEDetector.load(tmp_path / "m.vae").time_ordered
    with pytest.raises(ValueError, match="time_ordered must be True or False, got 1"):
        VAEDetector(time_ordered=1).fit(X)


@one_score
def test_checkpoints_of_other_groups_are_refused(
    make_table: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, machines = make_table(60), np.arange(60) // 5
    resumed = {"epochs": 2, "checkpoint_dir": tmp_path, "resume": True}

    def killed(*given: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fit, "fit_after_training", killed)
        with pytest.raises(KeyboardInterrupt):
            VAEDetector(**resumed).fit(X, groups=machines)
    for others in ({}, {"groups": machines[::-1] // 2}, {"time": machines}):
        with pytest.raises(CheckpointError, match="groups"):
            VAEDetector(**resumed).fit(X, **others)
    whole = VAEDetector(epochs=2).fit(X, groups=machines)
    again = VAEDetector(**resumed).fit(X, groups=machines)
    np.testing.assert_array_equal(again.score_samples(X), whole.score_samples(X))


def sessions(rng: np.random.Generator, n: int, rows: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Rows near the middle of their group, and the groups."""
    groups = np.repeat(np.arange(n), rows)
    return rng.normal(size=(n, 4))[groups] + 0.01 * rng.normal(size=(n * rows, 4)), groups


@one_score
def test_the_promise_holds_for_new_groups_and_a_division_by_rows_breaks_it() -> None:
    by_groups, by_rows = [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        X, groups = sessions(rng, 120)
        new, _ = sessions(rng, 200)
        detector = VAEDetector(epochs=5, calibration_fraction=0.25, random_state=seed)
        by_groups.append((detector.fit(X, groups=groups).predict(new) == -1).mean())
        by_rows.append((detector.fit(X).predict(new) == -1).mean())
    assert np.mean(by_groups) <= 0.05 + 1 / 31 + 0.02
    assert np.mean(by_rows) > 0.3


def test_rows_at_random_are_divided_as_ever() -> None:
    rows: Rows = RowsInMemory(np.arange(40.0)[:, None])
    training, validation, calibration = (
        part[:][:, 0].astype(int).tolist() for part in split(rows, 0.1, 0.1, torch.Generator().manual_seed(3))[:3]
    )
    held_out = torch.randperm(40, generator=torch.Generator().manual_seed(3))[:8]
    assert validation == sorted(held_out[:4].tolist())
    assert calibration == sorted(held_out[4:].tolist())
    assert training == sorted(set(range(40)) - set(held_out.tolist()))


def test_models_out_of_fold_see_no_row_of_a_group_that_they_score(make_table: Make) -> None:
    X, groups = make_table(80), Groups.of(80, np.arange(80) // 4, None, time_ordered=False)
    parameters = DEFAULTS | {"epochs": 1, "prior": "normal"}
    found = fit_out_of_fold(RowsInMemory(X), parameters, groups=groups)
    assert all(len(set(found.folds[groups.of_rows == group])) == 1 for group in range(20))
    for fold, model in enumerate(found.models):
        assert sum(model.fitted_on.n_groups) == 20 - (found.folds == fold).sum() // 4
        assert (model.fitted_on.overlap([X]).parts[found.folds == fold] == 3).all()
