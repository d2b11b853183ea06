r"""AdamW by PyTorch's own kernels, without its optimiser classes.

With the gradient :math:`g_t` of the parameters :math:`\theta`, the learning rate :math:`\eta_t` and the weight decay
:math:`\lambda`:

.. math::

    m_t = 0.9\, m_{t-1} + 0.1\, g_t, \quad
    v_t = 0.999\, v_{t-1} + 0.001\, g_t^2, \quad
    \theta_t = (1 - \eta_t \lambda)\, \theta_{t-1}
    - \eta_t \frac{m_t / (1 - 0.9^t)}{\sqrt{v_t / (1 - 0.999^t)} + 10^{-8}}

The first step of one of PyTorch's classes imports PyTorch's compiler, some 800 modules that take a second or more and
that nothing here uses. This class calls the same kernel and gives the same bits. PyTorch's classes also count the steps
of each parameter in a tensor of its own; here all share one, since they take every step together.

References
----------
Decoupled Weight Decay Regularization (Loshchilov & Hutter, 2019), https://arxiv.org/abs/1711.05101
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

MOMENTS = ("exp_avg", "exp_avg_sq")


class AdamW:
    """Moves tensors in place, against their gradients.

    Parameters
    ----------
    parameters
        Tensors of any shapes on one device, which all get a gradient before each step.
    weight_decay
        Share of the learning rate by which a step shrinks every element.
    """

    def __init__(self, parameters: Iterable[Tensor], weight_decay: float = 0.01) -> None:
        self.parameters = list(parameters)
        self.weight_decay = weight_decay
        self.moments = tuple([torch.zeros_like(p) for p in self.parameters] for _ in MOMENTS)
        self.taken = torch.zeros((), device=self.parameters[0].device)

    @torch.no_grad()
    def step(self, learning_rate: float | Tensor) -> None:
        """Take one step and drop the gradients.

        On a GPU the learning rate may be a tensor ``()`` float32 there, and nothing waits for it.
        """
        self.taken.add_(1)
        torch._fused_adamw_(
            self.parameters,
            [p.grad for p in self.parameters if p.grad is not None],
            self.moments[0],
            self.moments[1],
            [],
            [self.taken] * len(self.parameters),
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=self.weight_decay,
            eps=1e-8,
            maximize=False,
        )
        self.drop_gradients()

    def drop_gradients(self) -> None:
        """Forget all gradients, and free their memory."""
        for p in self.parameters:
            p.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """Its state, without the number of steps taken."""
        return dict(self.named_moments())

    def restore(self, tensors: dict[str, Tensor], taken: int) -> None:
        """Take on the state that `tensors` gave after ``taken`` steps; the tensors are copied."""
        for name, moment in self.named_moments():
            moment.copy_(tensors[name])
        self.taken.fill_(taken)

    def named_moments(self) -> Iterator[tuple[str, Tensor]]:
        """Running means of the gradients and of their squares, with a name for each."""
        for name, moments in zip(MOMENTS, self.moments, strict=True):
            for i, moment in enumerate(moments):
                yield f"{name}.{i}", moment
