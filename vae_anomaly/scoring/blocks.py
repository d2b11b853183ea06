"""Rows through the networks in blocks of one size, which depends on the model alone.

The rounding of a matrix product may depend on how many rows it has. So a block always has as many, the last one filled
up with zeros, and a row's result depends neither on how many rows there are nor on its place among them.

A block has 512 rows, halved until what is held for it is within a bound. So a single wide row does not cost hundreds of
them, and no model, wherever it comes from, makes a few rows take huge memory.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from vae_anomaly.errors import DeviceMemoryError
from vae_anomaly.model.threads import refuse_forked_threads
from vae_anomaly.model.vae import VAE
from vae_anomaly.scoring import BLOCK_ROWS
from vae_anomaly.storage.rows import Rows

BLOCK_VALUES = 1 << 26  # held for a block; the gradients of some scores take a few times as many
BLOCK_PLACES = 1 << 10  # of maps of latents: products of so many rows are fast, and one image costs no block of others
INPUT_VALUES = 1 << 19  # of them in the block itself: 512 rows of up to 1,024 features, 32 of 64 x 64 x 3 pixels


def rows_of_block(vae: VAE, n_features: int, n_draws: int = 1) -> int:
    """Rows in a block of this model, a power of two of at most 512.

    For each draw a row needs the decoder's dense layers and its features once more, and once what the prior holds.
    """
    n_places = vae.encoder.n_places
    widths = n_places * sum(layer.out_features for layer in vae.decoder.modules() if isinstance(layer, nn.Linear))
    held = n_draws * (n_features + widths) + vae.prior.values_per_row
    rows = BLOCK_ROWS
    while rows > 1 and (
        rows * held > BLOCK_VALUES or rows * n_features > INPUT_VALUES or rows * n_places > BLOCK_PLACES
    ):
        rows //= 2
    return rows


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
    gathered: list[np.ndarray] = []
    block, start = np.zeros((block_rows or rows_of_block(vae, X.shape[1]), X.shape[1]), X.dtype), 0
    while start < len(X):
        rows = X[start : start + len(block)]
        block[: len(rows)] = rows
        block[len(rows) :] = 0
        try:
            results = [part.cpu().numpy() for part in function(vae.scaling(torch.from_numpy(block).to(device, dtype)))]
        except torch.OutOfMemoryError as error:
            if len(block) == 1:
                raise DeviceMemoryError(
                    f"{device} has too little free memory for even one row of {X.shape[1]:,} features: free some, or "
                    "use device='cpu'"
                ) from error
            block = block[: len(block) // 2]
            continue
        # copied: small results that stay where large blocks were freed would keep those from being used again
        gathered = gathered or [np.empty((len(X), *result.shape[1:]), result.dtype) for result in results]
        for whole, result in zip(gathered, results, strict=True):
            whole[start : start + len(rows)] = result[: len(rows)]
        start += len(rows)
    return tuple(gathered)
