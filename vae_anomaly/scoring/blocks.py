"""Rows through the networks in blocks of one size, which depends on the model and the kind of device alone.

The rounding of a matrix product may depend on how many rows it has. So a block always has as many, the last one filled
up with zeros, and a row's result depends neither on how many rows there are nor on its place among them.

A block has 512 rows, halved until what is held for it is within a bound. So a single wide row does not cost hundreds of
them, and no model, wherever it comes from, makes a few rows take huge memory.

On a GPU a block has up to 16 times as many, since launching an operation takes as long as computing a few hundred rows
does. Results stay there until there are 64 MiB of them, and come back in one piece; the host waits for a block only to
learn whether plain numbers have gaps (`vae_anomaly.scoring.gaps`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from vae_anomaly.errors import DeviceMemoryError
from vae_anomaly.model.threads import refuse_forked_threads
from vae_anomaly.model.vae import VAE
from vae_anomaly.scoring import BLOCK_ROWS
from vae_anomaly.scoring.transfer import is_gpu, sender_to
from vae_anomaly.storage.rows import Rows

BLOCK_VALUES = 1 << 26  # held for a block; the gradients of some scores take a few times as many
BLOCK_PLACES = 1 << 10  # of maps of latents: products of so many rows are fast, and one image costs no block of others
INPUT_VALUES = 1 << 19  # of them in the block itself: 512 rows of up to 1,024 features, 32 of 64 x 64 x 3 pixels
DENSE_ROWS = 16  # that dense networks take at least: reading their weights, once a block, takes as long
MORE_ON_A_GPU = 16  # times all of these
RESULT_BYTES = 1 << 26  # that stay on a GPU


def rows_of_block(vae: VAE, n_features: int, n_draws: int = 1) -> int:
    """Rows in a block of this model, a power of two of at most 512, or of 8,192 on a GPU.

    For each draw a row needs the decoder's dense layers and its features once more, and once what the prior holds.
    """
    n_places = vae.encoder.n_places
    widths = n_places * sum(layer.out_features for layer in vae.decoder.modules() if isinstance(layer, nn.Linear))
    held = n_draws * (n_features + widths) + vae.prior.values_per_row
    convolves = any(isinstance(layer, nn.Conv2d) for layer in vae.modules())
    inputs = INPUT_VALUES if convolves else max(INPUT_VALUES, DENSE_ROWS * n_features)
    more = MORE_ON_A_GPU if is_gpu(vae.scaling.loc.device) else 1
    rows = more * BLOCK_ROWS
    while rows > 1 and (
        rows * held > more * BLOCK_VALUES or rows * n_features > more * inputs or rows * n_places > more * BLOCK_PLACES
    ):
        rows //= 2
    return rows


class Gathered:
    """Results of block after block, put together in the host's memory.

    Parameters
    ----------
    n_rows
        Of all blocks.
    kept_bytes
        So much of them waits on the device until it is fetched.
    """

    def __init__(self, n_rows: int, kept_bytes: int) -> None:
        self.n_rows, self.kept_bytes = n_rows, kept_bytes
        self.whole: list[np.ndarray] = []
        self.waiting: list[Sequence[Tensor]] = []
        self.n_fetched = self.n_bytes = 0

    def add(self, results: Sequence[Tensor], n: int) -> None:
        """Take the first ``n`` entries of each result of a block."""
        self.waiting.append([result[:n] for result in results])
        self.n_bytes += sum(part.nbytes for part in self.waiting[-1])
        if self.n_bytes > self.kept_bytes:
            self.fetch()

    def fetch(self) -> None:
        """Bring what waits on the device, each result of all blocks at once."""
        if not self.waiting:
            return
        parts = [on_host(blocks).numpy() for blocks in zip(*self.waiting, strict=True)]
        self.waiting.clear()
        self.n_bytes = 0
        # copied: small results that stay where large blocks were freed would keep those from being used again
        self.whole = self.whole or [np.empty((self.n_rows, *part.shape[1:]), part.dtype) for part in parts]
        end = self.n_fetched + len(parts[0])
        for whole, part in zip(self.whole, parts, strict=True):
            whole[self.n_fetched : end] = part
        self.n_fetched = end


def on_host(blocks: tuple[Tensor, ...]) -> Tensor:
    """Blocks one after the other in the host's memory, in one transfer, if the device has room to join them."""
    try:
        return torch.cat(blocks).cpu()
    except torch.OutOfMemoryError:
        return torch.cat([block.cpu() for block in blocks])


@torch.inference_mode()
def by_block(
    vae: VAE,
    X: np.ndarray | Rows,
    function: Callable[[Tensor], tuple[Tensor, ...]],
    block_rows: int | None = None,
) -> tuple[np.ndarray, ...]:
    """Apply a function to all rows, a block at a time, and put its results together.

    Where the device runs out of memory (torch reports this for CUDA alone), the remaining rows are computed in blocks
    of half the size, and so on; the last bits of their results may then differ.

    Parameters
    ----------
    vae
        Gives the scaling, the precision and the device.
    X
        Raw rows ``(N, D)``.
    function
        Scaled rows ``(block_rows, D)`` to tensors with one entry a row.
    block_rows
        Rows in a block; with another number, results differ in their last bits. None: `rows_of_block`, with one draw.

    Returns
    -------
    tuple of ndarray of shape (N, ...)
        One for each tensor that ``function`` returns.

    Raises
    ------
    DeviceMemoryError
        If the device's memory does not hold a block of one row.
    ForkError
        As `refuse_forked_threads` has it.
    """
    refuse_forked_threads()
    dtype, device = vae.scaling.loc.dtype, vae.scaling.loc.device
    gathered = Gathered(len(X), RESULT_BYTES if is_gpu(device) else 0)
    n, start = block_rows or rows_of_block(vae, X.shape[1]), 0
    sender = sender_to(device, n, X.shape, X.dtype)
    while start < len(X):
        rows, results = X[start : start + n], None
        try:
            results = function(vae.scaling(sender.send(rows).to(device, dtype)))
        except torch.OutOfMemoryError as error:
            if n == 1:
                raise DeviceMemoryError(
                    f"{device} has too little free memory for even one row of {X.shape[1]:,} features: free some, or "
                    "use device='cpu'"
                ) from error
        if results is None:  # past the error, which keeps what was computed until then
            gathered.fetch()
            n //= 2
            sender = sender_to(device, n, X.shape, X.dtype)
            continue
        gathered.add(results, len(rows))
        start += len(rows)
    gathered.fetch()
    return tuple(gathered.whole)
