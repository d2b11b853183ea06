"""Blocks of rows on their way to the device that computes them.

To a GPU they go through page-locked memory, from which the driver copies while host and GPU do other work. There are
two such buffers, and a stream for the copies: while one block is computed the next one is copied and the one after it
is read, from disk perhaps. The host runs no further ahead, so that few blocks take memory.

References
----------
Pinned memory and non-blocking copies, in PyTorch's tutorials:
https://docs.pytorch.org/tutorials/intermediate/pinmem_nonblock.html
"""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


class Sender(Protocol):
    """Sends rows in blocks of one size, the last one filled up with zeros."""

    def send(self, rows: np.ndarray) -> Tensor:
        """Send at most a block's rows ``(n, D)``: ``(block_rows, D)`` in their own type, until the next are sent."""


class SameMemory:
    """`Sender` that leaves rows in the host's memory: every block lies where the one before did.

    Parameters
    ----------
    block_rows, n_features, dtype
        Of a block.
    """

    def __init__(self, block_rows: int, n_features: int, dtype: np.dtype[Any]) -> None:
        self.block = np.zeros((block_rows, n_features), dtype)

    def send(self, rows: np.ndarray) -> Tensor:
        self.block[: len(rows)] = rows
        self.block[len(rows) :] = 0
        return torch.from_numpy(self.block)


class PinnedMemory:
    """`Sender` to a GPU: what sends a block waits for the one before the last, and for no other.

    Parameters
    ----------
    block_rows, n_features, dtype
        Of a block.
    device
        The GPU.
    n_rows
        All that will be sent: buffers are no larger, and no more, than they need.
    """

    def __init__(
        self, block_rows: int, n_features: int, dtype: np.dtype[Any], device: torch.device, n_rows: int
    ) -> None:
        self.block_rows, self.device = block_rows, device
        kind = torch.from_numpy(np.empty(0, dtype)).dtype
        shape = min(block_rows, n_rows), n_features
        n_buffers = 1 if n_rows <= block_rows else 2
        self.buffers = [page_locked(shape, kind) for _ in range(n_buffers)]
        self.copied, self.computed = ([torch.cuda.Event() for _ in self.buffers] for _ in range(2))  # type: ignore[no-untyped-call]  # of PyTorch's
        self.n_sent = 0

    def send(self, rows: np.ndarray) -> Tensor:
        turn, before = self.n_sent % len(self.buffers), (self.n_sent - 1) % len(self.buffers)
        computing = torch.cuda.current_stream(self.device)
        if self.n_sent:
            self.computed[before].record(computing)  # all that the last block needs has been launched by now
        self.n_sent += 1
        buffer, copied = self.buffers[turn][: len(rows)], self.copied[turn]
        copied.synchronize()
        self.computed[turn].synchronize()
        buffer.numpy()[:] = rows
        with torch.cuda.stream(copy_stream(self.device)):
            block = buffer.to(self.device, non_blocking=True)
            copied.record()
        computing.wait_event(copied)
        block.record_stream(computing)  # its memory is not given away before it has been read there
        missing = self.block_rows - len(rows)
        return functional.pad(block, (0, 0, 0, missing)) if missing else block


def page_locked(shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Memory to copy from while others work, or plain memory where the system has no more of it to lock."""
    try:
        return torch.empty(shape, dtype=dtype, device="cpu", pin_memory=True)
    except RuntimeError:
        return torch.empty(shape, dtype=dtype, device="cpu")


@cache
def copy_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all copies to a device: PyTorch keeps what was freed for the stream that had it."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # of PyTorch's


def sender_to(device: torch.device, block_rows: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Sender:
    """What sends rows of this shape ``(N, D)`` and type on their way to a device; to a GPU all the way."""
    n_rows, n_features = shape
    if is_gpu(device):
        return PinnedMemory(block_rows, n_features, dtype, device, n_rows)
    return SameMemory(block_rows, n_features, dtype)


def is_gpu(device: torch.device) -> bool:
    """Whether the host runs ahead of a device, so that nothing should wait for it."""
    return device.type == "cuda"
