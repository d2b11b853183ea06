"""The numbers that training computes with: bfloat16 products where they are faster, and no denormal numbers.

A bfloat16 number has the range of a float32 and 8 of its 24 significant bits; products of them are summed in float32.
Only the matrix products of training use it. Weights, the optimiser's moments, sums and all scoring have the precision
of the data.

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

MINIMUM_SPEED_UP = 1.3  # processors with bfloat16 products were seen at 1.8 to 2, those that emulate them at 0.1 to 1
N_FEATURES = 512  # of the products that are timed
TRIALS = 16


def resolve_precision(precision: str, dtype: torch.dtype, device: torch.device) -> str:
    """The precision to train in, "full" or "bfloat16", for a parameter that may leave it open.

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
        return "bfloat16" if bfloat16_speed_up(device) >= MINIMUM_SPEED_UP else "full"
    return precision


@cache
def bfloat16_speed_up(device: torch.device) -> float:
    """How many times as fast bfloat16 products are as float32 ones, on one core of a CPU; measured once a process.

    The best of 16 trials each, taken in turn, so that other programs on the machine do not decide it.
    """
    rows, weights = (
        torch.linspace(-1, 1, n * N_FEATURES, device=device).reshape(n, N_FEATURES)
        for n in (N_FEATURES // 4, N_FEATURES)
    )
    pairs = [(rows, weights), (rows.bfloat16(), weights.bfloat16())]
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
    """In a ``with`` block, count this thread's denormal numbers as zero: fading moments slow each step otherwise."""
    before = bool(torch.tensor(1e-310, dtype=torch.float64) * 1 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
