"""AdamW by PyTorch's own kernels, without its optimiser classes.

The first of those that a process makes imports PyTorch's compiler, which takes about a second; these never compile.

References
----------
Decoupled Weight Decay Regularization (Loshchilov & Hutter, 2019), https://arxiv.org/abs/1711.05101
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.optim.adamw import adamw

MOMENTS = ("exp_avg", "exp_avg_sq")


class AdamW:
    """Moves tensors in place, against their gradients.

    Parameters
    ----------
    parameters
        Tensors of any shapes, which all get a gradient before each step.
    weight_decay
        Share of the learning rate by which a step shrinks every element.
    """

    def __init__(self, parameters: Iterable[Tensor], weight_decay: float = 0.01) -> None:
        self.parameters = list(parameters)
        self.weight_decay = weight_decay
        self.moments = tuple([torch.zeros_like(p) for p in self.parameters] for _ in MOMENTS)
        self.steps = [torch.zeros((), device=p.device) for p in self.parameters]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Take one step and drop the gradients."""
        adamw(
            self.parameters,
            [p.grad for p in self.parameters if p.grad is not None],
            self.moments[0],
            self.moments[1],
            [],
            self.steps,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=self.weight_decay,
            eps=1e-8,
            maximize=False,
        )
        for p in self.parameters:
            p.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """Its state, but for the number of steps taken."""
        return dict(self.named_moments())

    def restore(self, tensors: dict[str, Tensor], taken: int) -> None:
        """Take on a state that `tensors` gave after as many steps; the tensors are copied."""
        for name, moment in self.named_moments():
            moment.copy_(tensors[name])
        for step in self.steps:
            step.fill_(taken)

    def named_moments(self) -> Iterator[tuple[str, Tensor]]:
        """Running means of the gradients and of their squares, with a name for each."""
        for name, moments in zip(MOMENTS, self.moments, strict=True):
            for i, moment in enumerate(moments):
                yield f"{name}.{i}", moment
