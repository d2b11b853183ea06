"""Orders: each takes every row once, and a batch is a function of its order and its place alone."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vae_anomaly.fitting import batches as batches_module
from vae_anomaly.fitting.batches import Permutation, Resident, Windows, sample_indices, shuffled
from vae_anomaly.storage.rows import RowsInMemory, RowsOnDisk

CPU = torch.device("cpu")

SMALL = {"n": st.integers(1, 60), "chunk": st.integers(1, 9), "window": st.integers(1, 5), "size": st.integers(1, 70)}
PATCHED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def numbered(n: int) -> RowsOnDisk:
    return RowsOnDisk(io.BytesIO(np.arange(3.0 * n).tobytes()), 0, (n, 3), np.dtype(float), "file")


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    def patch(chunk: int, window: int) -> None:
        monkeypatch.setattr(batches_module, "CHUNK_ROWS", chunk)
        monkeypatch.setattr(batches_module, "WINDOW_CHUNKS", window)

    return patch


def epoch(X: RowsOnDisk, seed: int, size: int) -> Iterator[np.ndarray]:
    rows, generator = shuffled(X, CPU), torch.Generator().manual_seed(seed)
    order = rows.order(generator)
    for start in range(0, len(X), size):
        yield rows.batch(order, start, start + size).numpy()


@given(**SMALL, seed=st.integers(0, 9), left_out=st.sets(st.integers(0, 59)))
@PATCHED
def test_every_row_comes_once(
    n: int, chunk: int, window: int, size: int, seed: int, left_out: set[int], cut: Callable[[int, int], None]
) -> None:
    cut(chunk, window)
    left_out = {row for row in left_out if row < n - 1}
    X = numbered(n).without(np.array(sorted(left_out), dtype=np.int64))
    batches = list(epoch(X, seed, size))
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    taken = np.concatenate(batches)
    np.testing.assert_array_equal(taken[np.argsort(taken[:, 0])], X[:])


@given(**SMALL, data=st.data())
@PATCHED
def test_a_batch_depends_on_the_order_and_its_place_alone(
    n: int, chunk: int, window: int, size: int, data: st.DataObject, cut: Callable[[int, int], None]
) -> None:
    cut(chunk, window)
    X, generator = numbered(n), torch.Generator().manual_seed(0)
    used = Windows(X, CPU)
    first, second = used.order(generator), used.order(generator)
    whole = used.batch(first, 0, n)
    for start in data.draw(st.lists(st.integers(0, n - 1), max_size=4)):
        used.batch(second, start, start + size)
        for rows in (used, Windows(X, CPU)):
            np.testing.assert_array_equal(rows.batch(first, start, start + size), whole[start : start + size])


def test_an_order_holds_chunks_not_rows_and_a_window_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read, method = [], RowsOnDisk.read

    def counting(self: RowsOnDisk, rows: np.ndarray, out: np.ndarray) -> None:
        read.append(rows.copy())
        method(self, rows, out)

    monkeypatch.setattr(RowsOnDisk, "read", counting)
    monkeypatch.setattr(batches_module, "CHUNK_BYTES", 24 * 10)
    X = numbered(2345)
    rows = Windows(X, CPU)
    order = rows.order(torch.Generator().manual_seed(0))
    assert len(order) == 1 + 234
    assert rows.buffer.nbytes == 64 * 10 * 24
    for start in range(0, len(X), 50):
        rows.batch(order, start, start + 50)
    assert [len(r) for r in read] == [640, 640, 640, 425]
    stretches = sum(np.count_nonzero(np.diff(r) != 1) + 1 for r in read)
    assert stretches <= 236  # 235 chunks, one of which may pass the file's end


def test_orders_differ_between_and_within_chunks_and_neighbours_part(cut: Callable[[int, int], None]) -> None:
    cut(10, 16)
    X, generator = numbered(1605), torch.Generator().manual_seed(0)
    rows = Windows(X, CPU)
    orders = [rows.order(generator) for _ in range(2)]
    first, second = (rows.batch(order, 0, 1605)[:, 0].numpy() // 3 for order in orders)
    assert (first == second).mean() < 0.02
    assert len(set(first[:100] // 10)) > 10  # a batch is of many chunks
    assert np.mean(np.abs(np.diff(first)) == 1) < 0.02
    assert {int(row) % 10 for row in first} == set(range(10))


def test_the_last_rows_of_an_epoch_are_not_always_the_same(cut: Callable[[int, int], None]) -> None:
    cut(10, 2)
    X, generator = numbered(65), torch.Generator().manual_seed(0)
    rows = Windows(X, CPU)
    last = [frozenset(rows.batch(rows.order(generator), 60, 65)[:, 0].tolist()) for _ in range(5)]
    assert len(set(last)) == 5


def test_an_array_is_permuted_as_a_whole() -> None:
    X = np.arange(20.0).reshape(10, 2)
    rows = shuffled(RowsInMemory(X), CPU)
    assert isinstance(rows, Permutation)
    order = rows.order(torch.Generator().manual_seed(3))
    assert torch.equal(order, torch.randperm(10, generator=torch.Generator().manual_seed(3)))
    np.testing.assert_array_equal(rows.batch(order, 8, 12), X[order[8:].numpy()])


def test_rows_that_stay_on_a_device_come_in_the_same_batches() -> None:
    X, generator = np.arange(60, dtype=np.uint8).reshape(20, 3), torch.Generator().manual_seed(0)
    rows = RowsInMemory(X)
    sent, resident = Permutation(rows, CPU), Resident(rows, CPU)
    for order in [sent.order(generator), sent.order(generator)]:
        for start in range(0, 20, 6):
            for first, step in ((0, 1), (1, 2)):
                batch = resident.batch(order, start + first, start + 6, step)
                assert torch.equal(batch, sent.batch(order, start + first, start + 6, step))


@pytest.mark.parametrize(("free", "kind"), [(1000, Resident), (119, Permutation)])
def test_what_fits_into_a_gpu_stays_there(monkeypatch: pytest.MonkeyPatch, free: int, kind: type) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10_000))
    monkeypatch.setattr(Resident, "__init__", Permutation.__init__)
    assert type(shuffled(RowsInMemory(np.zeros((20, 3), dtype=np.uint8)), torch.device("cuda"))) is kind


@given(n=st.integers(1, 50), most=st.integers(1, 60), more=st.integers(0, 5), seed=st.integers(0, 99))
def test_indices_are_of_different_rows(n: int, most: int, more: int, seed: int) -> None:
    for X in (RowsInMemory(np.empty((n, 1))), numbered(n)):
        first, again = (sample_indices(X, most, torch.Generator().manual_seed(seed), more=more) for _ in range(2))
        np.testing.assert_array_equal(first, again)
        assert len(set(first.tolist())) == len(first) == min(most, n + more)
        assert first.min() >= 0
        assert first.max() < n + more


def test_choosing_among_very_many_rows_takes_no_memory_for_each() -> None:
    X = RowsOnDisk(io.BytesIO(), 0, (10**13, 2), np.dtype(float), "file")
    found = sample_indices(X, 20_000, torch.Generator().manual_seed(0))
    assert len(np.unique(found)) == 20_000
    assert 4.9e12 < found.mean() < 5.1e12
