"""The order in which an epoch takes the rows, and rows drawn at random.

Rows in memory come in a random permutation. Of rows on disk the permutation itself could outgrow the memory, and to
read them one by one is slow: they are cut into blocks of about a megabyte, the blocks are permuted, 64 of them at a
time are read into one buffer, the window, and the rows are permuted within it. Where the first block begins is random
too, the file's beginning following its end, so no two epochs have the same blocks.

An order is an array of integers that a checkpoint holds; batches are a function of it alone. They come as tensors on
the device that trains; rows that fit into a part of a GPU's free memory are kept there whole.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vae_anomaly.storage.rows import Rows, RowsOnDisk

BLOCK_BYTES, BLOCK_ROWS = 1 << 20, 1 << 14
WINDOW_BLOCKS = 64
RESIDENT_SHARE = 0.5  # of a GPU's free memory


class Shuffled(Protocol):
    """Rows in a new order each epoch."""

    def order(self, generator: torch.Generator) -> Tensor:
        """Draw an order, int64, on the CPU."""

    def batch(self, order: Tensor, start: int, stop: int, step: int = 1) -> Tensor:
        """Rows ``(n, D)`` at these places of the order, up to ``stop`` or the end; the ``step`` is always the same."""


def shuffled(X: Rows, device: torch.device) -> Shuffled:
    """Rows ``(N, D)``, ready to be taken to a device in any order."""
    if isinstance(X, RowsOnDisk):
        return Windows(X, device)
    if device.type == "cuda" and X.nbytes <= RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
        return Resident(X, device)
    return Permutation(X, device)


def sent(rows: np.ndarray, device: torch.device) -> Tensor:
    """Rows on their way to a device, which a GPU does not wait for."""
    tensor = torch.from_numpy(rows)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class Permutation:
    """`Shuffled` for an array; an order is the permutation of its rows."""

    def __init__(self, X: np.ndarray, device: torch.device) -> None:
        self.X, self.device = X, device

    def order(self, generator: torch.Generator) -> Tensor:
        return torch.randperm(len(self.X), generator=generator, device=generator.device).cpu()

    def batch(self, order: Tensor, start: int, stop: int, step: int = 1) -> Tensor:
        return sent(self.X[order[start:stop:step].numpy()], self.device)


class Resident(Permutation):
    """A `Permutation` whose rows, and each epoch's order, are on the device from the beginning."""

    def __init__(self, X: np.ndarray, device: torch.device) -> None:
        super().__init__(X, device)
        self.rows = torch.from_numpy(X).to(device)
        self.orders: tuple[Tensor | None, Tensor | None] = None, None  # on the CPU, and the same on the device

    def batch(self, order: Tensor, start: int, stop: int, step: int = 1) -> Tensor:
        known, there = self.orders
        if there is None or known is not order:
            self.orders = order, (there := order.to(self.device))
        return self.rows[there[start:stop:step]]


class Windows:
    """`Shuffled` for rows on disk; an order is a random number and the permutation of the blocks that are whole."""

    def __init__(self, X: RowsOnDisk, device: torch.device) -> None:
        self.X, self.device = X, device
        self.block = max(1, min(BLOCK_BYTES // X.row_bytes, BLOCK_ROWS))
        self.n_rows = min(self.block * WINDOW_BLOCKS, len(X))  # of a window
        self.buffer = np.empty((self.n_rows, *X.shape[1:]), X.dtype)
        self.loaded = -1, -1, 0, 0
        self.inner = np.empty(0, dtype=np.int64)

    def order(self, generator: torch.Generator) -> Tensor:
        device = generator.device
        number = torch.randint(2**62, (1,), generator=generator, device=device)
        return torch.cat([number, torch.randperm(len(self.X) // self.block, generator=generator, device=device)]).cpu()

    def batch(self, order: Tensor, start: int, stop: int, step: int = 1) -> Tensor:
        parts = [self.buffer[:0]]
        stop = min(stop, len(self.X))
        while start < stop:
            window, place = divmod(start, self.n_rows)
            self.load(order.numpy(), window, place % step, step)
            first = place // step
            parts.append(self.buffer[self.inner[first : first + math.ceil((stop - start) / step)]])
            start += step * len(parts[-1])
        return sent(np.concatenate(parts), self.device)

    def load(self, order: np.ndarray, window: int, first: int, step: int) -> None:
        """Permute a window's rows and read every so many of them into the buffer, unless they are there."""
        number, n = int(order[0]), len(self.X)
        if self.loaded == (number, window, first, step):
            return
        blocks = order[1:][window * WINDOW_BLOCKS : (window + 1) * WINDOW_BLOCKS]
        rows = (blocks[:, None] * self.block + np.arange(self.block)).ravel()
        if (window + 1) * self.n_rows >= n:  # the last window has what is left of no whole block
            rows = np.concatenate([rows, np.arange(n - n % self.block, n)])
        rows = (rows + number % n) % n
        self.loaded = -1, -1, 0, 0
        wanted = np.random.default_rng((number, window)).permutation(len(rows))[first::step]
        places = np.sort(wanted)
        self.X.read(rows[places], self.buffer[: len(places)])
        self.inner = np.searchsorted(places, wanted)
        self.loaded = number, window, first, step


def drawn(X: Rows, n: int, generator: torch.Generator, *, more: int = 0) -> np.ndarray:
    """Indices of up to ``n`` different rows at random, in random order; with ``more`` also of that many rows after X.

    The generator lives on the CPU. For rows on disk, memory does not grow with their number.
    """
    total = len(X) + more
    if not isinstance(X, RowsOnDisk):
        return torch.randperm(total, generator=generator)[:n].numpy()
    seed = int(torch.randint(2**62, (), generator=generator))
    return np.random.default_rng(seed).choice(total, min(n, total), replace=False)
