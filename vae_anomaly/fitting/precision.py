"""What training computes with: bfloat16 products where they are quick, and no denormal numbers.

A bfloat16 number has the range of a float32 and 8 bits of its 24; products of them are summed in float32. Weights,
their gradients' moments, and everything but the products stay as the data has them, and so does all scoring.

References
----------
A Study of BFLOAT16 for Deep Learning Training (Kalamkar et al., 2019), https://arxiv.org/abs/1905.12322
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from vae_anomaly.errors import DataError

SIZE = 512
TRIALS = 16
WORTH = 1.3  # processors with bfloat16 products were seen at 1.8 to 2, those that emulate them at 0.1 to 1


def resolved(precision: str, dtype: torch.dtype, device: torch.device) -> str:
    """What ``precision`` comes to be: "full" or "bfloat16".

    Parameters
    ----------
    precision
        One of `vae_anomaly.parameters.PRECISIONS`. "auto" is "bfloat16" where the data has single precision and the
        device's products of bfloat16 numbers are measured to be at least 1.3 times as fast.

    Raises
    ------
    DataError
        If "bfloat16" is asked for data in double precision.
    """
    if dtype == torch.float64:
        if precision == "bfloat16":
            raise DataError("precision='bfloat16' needs float32 or uint8 samples, got float64: convert them")
        return "full"
    if precision == "auto":
        return "bfloat16" if speed_of_bfloat16(device) >= WORTH else "full"
    return precision


@cache
def speed_of_bfloat16(device: torch.device) -> float:
    """How many times as fast as float32 products those of bfloat16 are, on one core of a CPU; measured once a process.

    The best of 16 trials each, in turn, so that what else runs does not decide it.
    """
    x, w = (torch.linspace(-1, 1, n * SIZE, device=device).reshape(n, SIZE) for n in (SIZE // 4, SIZE))
    pairs = [(x, w), (x.bfloat16(), w.bfloat16())]
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = [[seconds(torch.nn.functional.linear, *pair) for pair in pairs] for _ in range(TRIALS)]
    except RuntimeError:  # a device without such products
        return 0.0
    finally:
        torch.set_num_threads(n_threads)
    single, half = (min(column) for column in zip(*times, strict=True))
    return float(single / half)


def seconds(function: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> float:
    """Wall time of a call, the device's work included."""
    start = time.perf_counter()
    function(a, b).sum().item()  # waits for it
    return time.perf_counter() - start


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Count denormal numbers as zero in this thread: moments that fade away make each step slower otherwise."""
    before = bool(torch.tensor(1e-310, dtype=torch.float64) * 1 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
