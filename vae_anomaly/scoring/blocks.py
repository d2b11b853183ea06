"""Rows through the networks in blocks of one constant size.

The rounding of a matrix product may depend on how many rows it has. So a block always has as many, the last one filled
up with zeros, and a row's result depends neither on how many rows there are nor on its place among them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from vae_anomaly.errors import DeviceMemoryError
from vae_anomaly.model.vae import VAE
from vae_anomaly.scoring import BLOCK_ROWS
from vae_anomaly.storage.rows import Rows


@torch.inference_mode()
def by_block(
    vae: VAE,
    X: np.ndarray | Rows,
    function: Callable[[Tensor], tuple[Tensor, ...]],
    block_rows: int = BLOCK_ROWS,
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
        Rows in a block; with another number than the default, results differ in their last bits.

    Returns
    -------
    tuple of ndarray of shape (N, ...)
        One for each tensor that ``function`` returns.

    Raises
    ------
    DeviceMemoryError
        If the device's memory does not hold a block of one row.
    """
    dtype, device = vae.scaling.loc.dtype, vae.scaling.loc.device
    gathered: list[np.ndarray] = []
    block, start = np.zeros((block_rows, X.shape[1]), X.dtype), 0
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
