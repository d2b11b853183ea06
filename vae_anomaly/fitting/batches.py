"""The order in which an epoch takes the rows, and rows chosen at random.

Rows in memory come in a random permutation. For rows on disk the permutation itself could outgrow the memory, and
reading them one by one is slow. So they are cut into chunks of about a megabyte, and the chunks are permuted; 64 of
them at a time are read into one buffer, the window, and the rows within it are permuted. Where the first chunk begins
is random too (the file's beginning follows its end), so no two epochs have the same chunks.

An order is an array of integers that a checkpoint holds; batches are a function of it alone. They come as tensors on
the device that trains; rows that fit into half of a GPU's free memory stay there as a whole.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vae_anomaly.storage.rows import Rows

CHUNK_BYTES, CHUNK_ROWS = 1 << 20, 1 << 14
WINDOW_CHUNKS = 64
RESIDENT_SHARE = 0.5  # of a GPU's free memory


class Shuffled(Protocol):
    """Rows in a new order each epoch."""

    def order(self, generator: torch.Generator) -> Tensor:
        """Draw an order, int64, on the CPU."""

    def batch(self, order: Tensor, start: int, stop: int, step: int = 1) -> Tensor:
        """Rows ``(n, D)`` at these places of the order, up to ``stop`` or the end; the ``step`` is always the same."""


def shuffled(X: Rows, device: torch.device) -> Shuffled:
    """Rows ``(N, D)``, ready to be brought to a device in any order."""
    if not X.in_memory:
        return Windows(X, device)
    if device.type == "cuda" and len(X) * X.row_bytes <= RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
        return Resident(X, device)
    return Permutation(X, device)


def to_device(rows: np.ndarray, device: torch.device) -> Tensor:
    """Rows as a tensor on a device; a GPU gets them while it computes."""
    tensor = torch.from_numpy(rows)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class Permutation:
    """`Shuffled` for rows in memory; an order is a permutation of them."""

    def __init__(self, X: Rows, device: torch.device) -> None:
        self.X, self.device = X, device

    def order(self, generator: torch.Generator) -> Tensor:
        return torch.randperm(len(self.X), generator=generator, device=generator.device).cpu()

    def batch(self, order: Tensor, start: int, stop: int, step: int = 1) -> Tensor:
        return to_device(self.X[order[start:stop:step].numpy()], self.device)


class Resident(Permutation):
    """A `Permutation` whose rows, and each epoch's order, are on the device from the beginning."""

    def __init__(self, X: Rows, device: torch.device) -> None:
        super().__init__(X, device)
        self.rows = torch.from_numpy(X[:]).to(device)
        self.orders: tuple[Tensor | None, Tensor | None] = None, None  # on the CPU, and the same on the device

    def places(self, order: Tensor, start: int, stop: int, step: int = 1) -> Tensor:
        """Which rows lie at these places of the order, ``(n,)`` int64 on the device."""
        known, there = self.orders
        if there is None or known is not order:
            self.orders = order, (there := order.to(self.device))
        return there[start:stop:step]

    def batch(self, order: Tensor, start: int, stop: int, step: int = 1) -> Tensor:
        return self.rows[self.places(order, start, stop, step)]


class Windows:
    """`Shuffled` for rows on disk; an order is a random number and a permutation of the chunks that are whole."""

    def __init__(self, X: Rows, device: torch.device) -> None:
        self.X, self.device = X, device
        self.chunk_rows = max(1, min(CHUNK_BYTES // X.row_bytes, CHUNK_ROWS))
        self.window_rows = min(self.chunk_rows * WINDOW_CHUNKS, len(X))
        self.buffer = np.empty((self.window_rows, *X.shape[1:]), X.dtype)
        self.loaded = -1, -1, 0, 0
        self.inner = np.empty(0, dtype=np.int64)

    def order(self, generator: torch.Generator) -> Tensor:
        device = generator.device
        number = torch.randint(2**62, (1,), generator=generator, device=device)
        chunks = torch.randperm(len(self.X) // self.chunk_rows, generator=generator, device=device)
        return torch.cat([number, chunks]).cpu()

    def batch(self, order: Tensor, start: int, stop: int, step: int = 1) -> Tensor:
        parts = [self.buffer[:0]]
        stop = min(stop, len(self.X))
        while start < stop:
            window, place = divmod(start, self.window_rows)
            self.load(order.numpy(), window, place % step, step)
            first = place // step
            parts.append(self.buffer[self.inner[first : first + math.ceil((stop - start) / step)]])
            start += step * len(parts[-1])
        return to_device(np.concatenate(parts), self.device)

    def load(self, order: np.ndarray, window: int, first: int, step: int) -> None:
        """Permute a window's rows and read every ``step``-th of them into the buffer, unless they are there already."""
        number, n = int(order[0]), len(self.X)
        if self.loaded == (number, window, first, step):
            return
        chunks = order[1:][window * WINDOW_CHUNKS : (window + 1) * WINDOW_CHUNKS]
        rows = (chunks[:, None] * self.chunk_rows + np.arange(self.chunk_rows)).ravel()
        if (window + 1) * self.window_rows >= n:  # the last window also has the rows that fill no whole chunk
            rows = np.concatenate([rows, np.arange(n - n % self.chunk_rows, n)])
        rows = (rows + number % n) % n
        self.loaded = -1, -1, 0, 0
        wanted = np.random.default_rng((number, window)).permutation(len(rows))[first::step]
        places = np.sort(wanted)
        self.X.read(rows[places], self.buffer[: len(places)])
        self.inner = np.searchsorted(places, wanted)
        self.loaded = number, window, first, step


class TorchRandom:
    """A generator of torch's, which lives on the CPU, as the source of randomness that `Rows` take."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def permutation(self, n: int) -> np.ndarray:
        return torch.randperm(n, generator=self.generator).numpy()

    def seed(self) -> int:
        return int(torch.randint(2**62, (), generator=self.generator))


def sample_indices(X: Rows, n: int, generator: torch.Generator, *, more: int = 0) -> np.ndarray:
    """Indices of up to ``n`` different rows, in random order, as `Rows.sample_indices` gives them."""
    return X.sample_indices(n, TorchRandom(generator), more=more)
