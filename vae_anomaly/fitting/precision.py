"""The numbers that training computes with: bfloat16 products where they are faster, and no denormal numbers.

A bfloat16 number has the range of a float32 and 8 of its 24 significant bits; products of them are summed in float32.
Only the matrix products of training use it. Weights, the optimiser's moments, sums and all scoring have the precision
of the data.

On a CPU one product of fixed size decides, so that fits on machines of one kind train alike. On a GPU small products
take as long in either precision, and the casts around them take time too. So there the passes through the networks
decide, at the batch size of the fit and captured as a graph, as its steps are.

References
----------
A Study of BFLOAT16 for Deep Learning Training (Kalamkar et al., 2019), https://arxiv.org/abs/1905.12322
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from vae_anomaly.errors import DataError
from vae_anomaly.fitting.captured_step import WARM_UP, GraphRecorder
from vae_anomaly.model.vae import VAE
from vae_anomaly.scoring.transfer import is_gpu

MINIMUM_SPEED_UP = 1.3  # processors with bfloat16 products were seen at 1.8 to 2, those that emulate them at 0.1 to 1
N_FEATURES = 512  # of the products that are timed
TRIALS = 16
REPLAYS = 10  # in a trial


def resolve_precision(precision: str, dtype: torch.dtype, speed_up: Callable[[], float]) -> str:
    """The precision to train in, "full" or "bfloat16", for a parameter that may leave it open.

    Parameters
    ----------
    precision
        One of `vae_anomaly.parameters.PRECISIONS`. "auto" is "bfloat16" where the data has single precision and
        products of bfloat16 numbers are measured to be at least 1.3 times as fast.
    dtype
        Of the data.
    speed_up
        Measures how many times as fast they are.

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
        return "bfloat16" if speed_up() >= MINIMUM_SPEED_UP else "full"
    return precision


def speed_up_in_training(vae: VAE, batch: np.ndarray) -> float:
    """How many times as fast bfloat16 products are as float32 ones, for a model and a batch of raw rows ``(n, D)``."""
    device = vae.scaling.loc.device
    return bfloat16_speed_up_of(vae, batch) if is_gpu(device) else bfloat16_speed_up(device)


def bfloat16_speed_up_of(vae: VAE, batch: np.ndarray) -> float:
    """The same on a GPU, of a pass forth and back through the networks; 0 where it cannot be captured.

    The best of 16 trials each, taken in turn.
    """
    loc = vae.scaling.loc
    x, parameters = vae.scaling(torch.tensor(batch).to(loc.device, loc.dtype)), list(vae.parameters())

    def passes(*, in_bfloat16: bool) -> None:
        with torch.autocast(loc.device.type, torch.bfloat16, enabled=in_bfloat16, cache_enabled=False):
            decoded = vae.decode(vae.encode(x).mu)
        torch.autograd.grad(decoded.sum(), parameters, allow_unused=True)  # the scale of the posterior takes no part

    recorders = [GraphRecorder(loc.device, torch.Generator(loc.device)) for _ in range(2)]
    try:
        for recorder, in_bfloat16 in zip(recorders, (False, True), strict=True):
            function = partial(passes, in_bfloat16=in_bfloat16)
            for _ in range(WARM_UP):
                recorder.aside(function)
            recorder.capture(function)
    except RuntimeError:
        return 0.0
    for _ in range(TRIALS):  # until the card has raised its clocks
        for recorder in recorders:
            seconds_of_replays(recorder, loc.device)
    times = [[seconds_of_replays(recorder, loc.device) for recorder in recorders] for _ in range(TRIALS)]
    single, half = (min(column) for column in zip(*times, strict=True))
    return float(single / half)


def seconds_of_replays(recorder: GraphRecorder, device: torch.device) -> float:
    """Wall time in which a GPU does ten times what was recorded."""
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in range(REPLAYS):
        recorder.replay()
    torch.cuda.synchronize(device)
    return time.perf_counter() - start


@cache
def bfloat16_speed_up(device: torch.device) -> float:
    """The same on one core of a CPU, of one product; measured once a process.

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
    """Wall time of a call."""
    start = time.perf_counter()
    function(a, b)
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
