"""Training by several processes, the ranks, which torchrun or an engine has started: who takes which rows of a batch.

All ranks draw the same order of the rows and the same noise from the same generator, and each takes every n-th row of a
batch, beginning at its own. So a step is that of one process with the whole batch but for rounding, whatever the number
of ranks, and a checkpoint of one number of ranks serves any other. Gradients are averaged by DistributedDataParallel;
the few other sums of a step are exchanged by hand.

References
----------
PyTorch Distributed: Experiences on Accelerating Data Parallel Training (Li et al., 2020),
https://arxiv.org/abs/2006.15704
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vae_anomaly.errors import EngineError

Forward: TypeAlias = Callable[[], Any]


@dataclass(frozen=True)
class Team:
    """A process among all that train one model; alone it changes no bit.

    Parameters
    ----------
    rank, size
        Which one of how many.
    """

    rank: int = 0
    size: int = 1

    def part(self, start: int) -> tuple[int, int]:
        """First place and step of the own rows in a batch that begins at ``start`` of the epoch's order."""
        return (self.rank - start) % self.size, self.size

    def parallel(self, model: nn.Module) -> Callable[[Forward], Any]:
        """What runs a forward pass so that the backward pass after it gives all ranks the mean of their gradients."""
        if self.size == 1:
            return lambda forward: forward()
        return DistributedDataParallel(Running(model))

    def mean(self, values: Tensor, n: int) -> Tensor:
        """What has the gradients' mean over the ranks for that of the mean of all ``n`` values of a batch."""
        return values.mean() if self.size == 1 else values.sum() * (self.size / n)

    def summed(self, values: Tensor) -> Tensor:
        """The sum over the ranks."""
        if self.size > 1:
            torch.distributed.all_reduce(values)
        return values

    def share_buffers(self, module: nn.Module, share: float) -> None:
        """Set buffers of floats to their mean over the ranks, which weigh by their share of the batch."""
        if self.size > 1:
            for buffer in module.buffers():
                buffer.copy_(self.summed(buffer * share))

    def of_first(self, values: list[float]) -> list[float]:
        """What the first rank has, so that all decide the same."""
        if self.size == 1:
            return values
        shared = torch.tensor(values, dtype=torch.float64, device=device_of_collectives())
        torch.distributed.broadcast(shared, 0)
        return [float(value) for value in shared]

    def any_of(self, *flags: bool) -> list[bool]:
        """Whether any rank says so, for each."""
        if self.size == 1:
            return list(flags)
        said = torch.tensor(flags, dtype=torch.int32, device=device_of_collectives())
        torch.distributed.all_reduce(said, torch.distributed.ReduceOp.MAX)
        return [bool(flag) for flag in said]


class Running(nn.Module):
    """A model whose forward pass is whatever function uses it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Forward) -> Any:
        return function()


def team() -> Team:
    """The ranks this process is one of; just itself unless a process group is there."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return Team(torch.distributed.get_rank(), torch.distributed.get_world_size())
    return Team()


def device_of_collectives() -> torch.device:
    """Where what is exchanged has to lie."""
    return torch.device("cuda" if torch.distributed.get_backend() == "nccl" else "cpu")


@contextlib.contextmanager
def joined() -> Iterator[Team]:
    """Join the process group of the torchrun that started this process, if one did, for the block.

    Raises
    ------
    EngineError
        If the other ranks cannot be reached.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or torch.distributed.is_initialized():
        yield team()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    try:
        torch.distributed.init_process_group(None if torch.cuda.is_available() else "gloo")
    except (RuntimeError, ValueError) as error:
        raise EngineError(f"the other ranks cannot be reached: {str(error).partition(chr(10))[0]}") from error
    try:
        yield team()
    finally:
        torch.distributed.destroy_process_group()
