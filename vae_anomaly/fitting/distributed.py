"""Training by several processes, the ranks, started by torchrun or an engine: which rank takes which rows of a batch.

All ranks draw the same order of the rows and the same noise from the same generator, and each takes every n-th row of a
batch, beginning at its own. So, except for rounding, a step is that of one process with the whole batch, whatever the
number of ranks, and a checkpoint can be used by any number of ranks. Gradients are averaged by DistributedDataParallel;
the few other numbers of a step are exchanged by hand.

References
----------
PyTorch Distributed: Experiences on Accelerating Data Parallel Training (Li et al., 2020),
https://arxiv.org/abs/2006.15704
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vae_anomaly.errors import EngineError

Forward: TypeAlias = Callable[[], Any]


@dataclass(frozen=True)
class Ranks:
    """All processes that train one model, as one of them sees them; a process alone computes as if there were no ranks.

    Parameters
    ----------
    rank
        The number of this process, from 0.
    size
        How many there are.
    """

    rank: int = 0
    size: int = 1

    def own_rows(self, start: int) -> slice:
        """Which rows of a batch are this rank's, if the batch begins at ``start`` of the epoch's order."""
        return slice((self.rank - start) % self.size, None, self.size)

    def data_parallel(self, model: nn.Module) -> Callable[[Forward], Any]:
        """What runs a forward pass of the model, itself a function, so that the backward pass averages all gradients.

        Every rank then has the mean of the ranks' gradients.
        """
        return call if self.size == 1 else DistributedDataParallel(CalledForward(model))

    def batch_mean(self, values: Tensor, n: int) -> Tensor:
        """A number whose gradient, averaged over the ranks, is that of the mean of all ``n`` values of a batch.

        ``values`` are those of this rank's rows. Their sum times ``size / n`` averages to the batch's mean.
        """
        return values.mean() if self.size == 1 else values.sum() * (self.size / n)

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """The sum of the ranks' tensors, in place."""
        if self.size > 1:
            torch.distributed.all_reduce(values)
        return values

    def average_buffers(self, module: nn.Module, share: float) -> None:
        """Set each buffer to the mean of the ranks' own, weighted by their share of the batch."""
        if self.size > 1:
            for buffer in module.buffers():
                buffer.copy_(self.sum_over_ranks(buffer * share))

    def broadcast_from_first(self, values: Sequence[float]) -> list[float]:
        """The first rank's numbers, so that all ranks decide the same."""
        if self.size == 1:
            return list(values)
        shared = torch.tensor(values, dtype=torch.float64, device=device_of_collectives())
        torch.distributed.broadcast(shared, 0)
        return [float(value) for value in shared]

    def true_on_any(self, flags: Sequence[bool]) -> list[bool]:
        """For each flag, whether it is set on any rank."""
        if self.size == 1:
            return list(flags)
        found = torch.tensor(flags, dtype=torch.int32, device=device_of_collectives())
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        return [bool(flag) for flag in found]


def call(forward: Forward) -> Any:
    """Run a forward pass as it is."""
    return forward()


class CalledForward(nn.Module):
    """A model whose forward pass is any function: DistributedDataParallel prepares the backward pass of that call."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Forward) -> Any:
        return function()


def current_ranks() -> Ranks:
    """The ranks of this process's group; without a group, this process alone."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size())
    return Ranks()


def device_of_collectives() -> torch.device:
    """Where tensors have to lie that the ranks exchange."""
    return torch.device("cuda" if torch.distributed.get_backend() == "nccl" else "cpu")


@contextlib.contextmanager
def joined() -> Iterator[Ranks]:
    """Join the process group of the torchrun that started this process, if one did, for a ``with`` block.

    Raises
    ------
    EngineError
        If the other ranks cannot be reached.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or torch.distributed.is_initialized():
        yield current_ranks()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    try:
        torch.distributed.init_process_group(None if torch.cuda.is_available() else "gloo")
    except (RuntimeError, ValueError) as error:
        raise EngineError(f"the other ranks cannot be reached: {str(error).partition(chr(10))[0]}") from error
    try:
        yield current_ranks()
    finally:
        torch.distributed.destroy_process_group()
