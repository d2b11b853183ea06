"""Rows on disk: they are an array in all but place."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vae_anomaly.storage import rows as module
from vae_anomaly.storage.rows import TYPES, Rows, RowsInMemory, RowsOnDisk, fingerprint

PATCHED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
SHAPES = hnp.array_shapes(min_dims=2, max_dims=4, max_side=6)
ARRAYS = st.sampled_from(TYPES).flatmap(
    lambda dtype: hnp.arrays(
        dtype, SHAPES, elements={"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else None
    )
)


def on_disk(X: np.ndarray, offset: int = 5) -> RowsOnDisk:
    file = io.BytesIO(bytes(offset) + X.tobytes())
    return RowsOnDisk(file, offset, X.shape, X.dtype, "file")


class Fixed:
    """Random numbers that are known."""

    def permutation(self, n: int) -> np.ndarray:
        return np.random.default_rng(3).permutation(n)

    def seed(self) -> int:
        return 3


@pytest.mark.parametrize("of", [RowsInMemory, on_disk])
@given(X=ARRAYS, data=st.data())
def test_they_are_the_array_without_what_is_left_out(
    of: Callable[[np.ndarray], Rows], X: np.ndarray, data: st.DataObject
) -> None:
    rows = of(X)
    for _ in range(2):
        left_out = data.draw(st.lists(st.integers(0, len(X) - 1), unique=True, max_size=len(X) - 1))
        rows, X = rows.without(np.array(left_out, dtype=np.int64)), np.delete(X, left_out, axis=0)
        assert (len(rows), rows.shape, rows.dtype) == (len(X), X.shape, X.dtype)
        index = np.array(data.draw(st.lists(st.integers(0, len(X) - 1))), dtype=np.int64)
        np.testing.assert_array_equal(rows[index], X[index])
        part = data.draw(st.slices(len(X)))
        np.testing.assert_array_equal(rows[part], X[part])
        out = np.empty((len(index), *X.shape[1:]), X.dtype)
        rows.read(index, out)
        np.testing.assert_array_equal(out, X[index])
        assert rows.row_bytes == X[:1].nbytes
        assert len(set(rows.sample_indices(3, Fixed(), more=2).tolist())) == min(3, len(X) + 2)
        assert {row.tobytes() for row in rows.even_sample()} <= {row.tobytes() for row in X}
        np.testing.assert_array_equal(rows.flat()[:], X.reshape(len(X), -1))


@given(X=ARRAYS, n_bytes=st.integers(1, 500))
@PATCHED
def test_what_is_computed_chunk_by_chunk_is_that_of_the_whole(
    X: np.ndarray, n_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", n_bytes)
    rows = on_disk(X)
    np.testing.assert_array_equal(np.concatenate([chunk.copy() for chunk in rows.chunks()]), X)
    for ours, theirs in zip(rows.extremes(), (X.min(axis=0), X.max(axis=0)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_chunks_share_one_buffer_and_keep_to_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.arange(60.0).reshape(20, 3)
    monkeypatch.setattr(module, "CHUNK_BYTES", 7 * 24)
    found = list(on_disk(X).chunks())
    assert [len(chunk) for chunk in found] == [7, 7, 6]
    assert all(np.shares_memory(chunk, found[0]) for chunk in found)
    assert next(RowsInMemory(X).chunks()) is X


def test_what_is_held_is_bounded_by_rows_and_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = on_disk(np.arange(99.0).reshape(33, 3))
    assert rows.max_rows_in_memory() == module.MEMORY_ROWS
    monkeypatch.setattr(module, "MEMORY_BYTES", 10 * 24)
    assert (rows.max_rows_in_memory(), rows.max_rows_in_memory(4)) == (10, 4)
    np.testing.assert_array_equal(rows.even_sample()[:, 0], np.arange(0, 99, 12))
    monkeypatch.setattr(module, "MEMORY_BYTES", 1)
    assert rows.max_rows_in_memory() == 1
    assert rows.small
    assert rows.loaded().in_memory
    monkeypatch.setattr(module, "LOADED_BYTES", 33 * 24 - 1)
    assert not rows.small
    assert rows.loaded() is rows


def test_the_fingerprint_is_of_the_values_not_of_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    X, names = np.arange(60.0).reshape(12, 5), np.array(["a", "bc", "def"])
    whole, both = fingerprint(X), fingerprint(X, names)
    monkeypatch.setattr(module, "HASHED_VALUES", 7)
    assert fingerprint(np.asfortranarray(X)) == fingerprint(np.repeat(X, 2, axis=1)[:, ::2]) == whole
    assert fingerprint(on_disk(X)) == whole
    assert fingerprint(X, names) == both
    others = X.reshape(10, 6), X.astype(int), X[:-1], X.reshape(12, 5, 1)
    assert len({whole, both, fingerprint(names, X), fingerprint(X, names[::-1]), *map(fingerprint, others)}) == 8
