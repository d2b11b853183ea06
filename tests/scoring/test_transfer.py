"""Blocks on their way to a GPU, for which a device stands in that copies as late as it may."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vae_anomaly.scoring import transfer
from vae_anomaly.scoring.transfer import PinnedMemory, SameMemory, sender_to

CPU = torch.device("cpu")


class Driver:
    """Stands for what `PinnedMemory` uses of PyTorch's CUDA; ``late``: nothing is copied until someone waits for it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, late: bool) -> None:
        self.late, self.side, self.on_side = late, Stream(self), False
        self.copies: list[Callable[[], object]] = []
        self.n_pinned = self.n_computed = 0
        self.can_lock = True
        empty = torch.empty

        def pinned(*args: Any, pin_memory: bool = False, **kwargs: Any) -> Tensor:
            if pin_memory and not self.can_lock:
                raise RuntimeError("CUDA error: out of memory")
            self.n_pinned += pin_memory
            return empty(*args, **kwargs)

        def to(source: Tensor, device: torch.device, *, non_blocking: bool) -> Tensor:
            assert non_blocking
            assert self.on_side, "copies have a stream of their own"
            copy = empty(source.shape, dtype=source.dtype)
            self.copies.append(lambda: copy.copy_(source))
            return copy

        monkeypatch.setattr(torch, "empty", pinned)
        monkeypatch.setattr(Tensor, "to", to)
        monkeypatch.setattr(Tensor, "record_stream", lambda block, stream: stream.recorded.append(block))
        monkeypatch.setattr(torch.cuda, "Event", lambda: Event(self))
        monkeypatch.setattr(transfer, "copy_stream", lambda device: self.side)
        monkeypatch.setattr(torch.cuda, "stream", self.on)
        self.computing = Stream(self)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self.computing)

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        self.on_side = stream is self.side
        yield
        self.on_side = False

    def catch_up(self) -> None:
        """Make all copies that are under way."""
        for copy in self.copies:
            copy()
        self.copies.clear()


class Event:
    def __init__(self, driver: Driver) -> None:
        self.driver, self.copies = driver, list[Callable[[], object]]()
        self.n_computed: int | None = None

    def record(self, stream: Stream | None = None) -> None:
        assert self.driver.on_side == (stream is None), "a copy's event is one of the stream that copies"
        self.copies = [] if stream else list(self.driver.copies)
        self.n_computed = len(self.driver.computing.recorded)

    def synchronize(self) -> None:
        if self.n_computed is not None:
            self.driver.n_computed = max(self.driver.n_computed, self.n_computed)
        for copy in self.copies:
            if copy in self.driver.copies:
                self.driver.copies.remove(copy)
                copy()


class Stream:
    def __init__(self, driver: Driver) -> None:
        self.driver, self.recorded, self.waited_for = driver, list[Tensor](), list[Event]()

    def wait_event(self, event: Event) -> None:
        self.waited_for.append(event)
        if not self.driver.late:
            event.synchronize()


def rows(n: int, n_features: int = 3, dtype: str = "float64") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(n, n_features)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8"])
def test_a_buffer_is_filled_anew_only_when_its_last_block_has_left(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    driver, X = Driver(monkeypatch, late=True), rows(20, dtype=dtype)
    sender = PinnedMemory(4, 3, X.dtype, CPU, len(X))
    blocks = []
    for start in range(0, len(X), 4):
        blocks.append(sender.send(X[start : start + 4]))
        assert len(driver.copies) <= 2, "more than there are buffers"
        assert len(blocks) - driver.n_computed <= 2, "the host runs further ahead"
    assert driver.copies, "the host waits for the last blocks"
    driver.catch_up()
    np.testing.assert_array_equal(torch.cat(blocks).numpy(), X)
    assert driver.n_pinned == 2


def test_what_computes_waits_for_the_copy_and_keeps_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    driver, X = Driver(monkeypatch, late=False), rows(11)
    sender = PinnedMemory(4, 3, X.dtype, CPU, len(X))
    for n_sent, start in enumerate(range(0, len(X), 4), start=1):
        some = X[start : start + 4]
        block = sender.send(some)
        assert block.shape == (4, 3)
        np.testing.assert_array_equal(block[: len(some)].numpy(), some)
        assert not block[len(some) :].any()
        assert len(driver.computing.waited_for) == len(driver.computing.recorded) == n_sent


@pytest.mark.parametrize(("n_rows", "n_buffers", "held"), [(1, 1, 1), (4, 1, 4), (5, 2, 4), (100, 2, 4)])
def test_buffers_are_no_larger_than_what_is_sent(
    monkeypatch: pytest.MonkeyPatch, n_rows: int, n_buffers: int, held: int
) -> None:
    Driver(monkeypatch, late=False)
    sender = PinnedMemory(4, 3, np.dtype("float32"), CPU, n_rows)
    assert [buffer.shape for buffer in sender.buffers] == n_buffers * [(held, 3)]


def test_where_no_memory_can_be_locked_plain_memory_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    driver, X = Driver(monkeypatch, late=False), rows(11)
    driver.can_lock = False
    sender = PinnedMemory(4, 3, X.dtype, CPU, len(X))
    np.testing.assert_array_equal(sender.send(X[:4]).numpy(), X[:4])
    assert driver.n_pinned == 0


def test_a_cpu_reads_blocks_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    X = rows(6)
    sender = sender_to(CPU, 4, X.shape, X.dtype)
    assert isinstance(sender, SameMemory)
    first = sender.send(X[:4])
    np.testing.assert_array_equal(first.numpy(), X[:4])
    second = sender.send(X[4:])
    assert second.data_ptr() == first.data_ptr()
    np.testing.assert_array_equal(second.numpy(), [*X[4:], [0, 0, 0], [0, 0, 0]])
    Driver(monkeypatch, late=False)
    monkeypatch.setattr(transfer, "is_gpu", lambda device: True)
    assert isinstance(sender_to(CPU, 4, X.shape, X.dtype), PinnedMemory)
