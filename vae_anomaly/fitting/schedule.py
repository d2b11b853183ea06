r"""How large a training's steps are, and when it stops: functions of counts alone.

*Learning rate* of step t = 0, ..., T - 1, for its peak :math:`\eta` and a warm-up of :math:`W = \max(1, \lfloor T / 10
\rfloor)` steps: linear, then a half cosine to zero.

.. math::

    \eta_t = \eta \cdot \begin{cases} (t + 1) / W & t < W \\
    \frac12 \big(1 + \cos(\pi \frac{t - W}{\max(1, T - W)})\big) & t \ge W \end{cases}

*Weight of a batch* in the running estimate of a likelihood's variance:

.. math::

    w_t = \max\Big(\frac{1}{t + 1}, 0.02\Big),

which makes it the mean over all batches until there were 50, and then forgets older ones, by half in 34 steps.

*Early stopping*, after epoch e of at most E, if e' had the highest validation ELBO and p epochs of patience:

.. math::

    e = E \quad \text{or} \quad e - \max(e', \lfloor E / 10 \rfloor) \ge p.

So the epochs of the warm-up do not count against a training.

References
----------
SGDR: Stochastic Gradient Descent with Warm Restarts (Loshchilov & Hutter, 2017), https://arxiv.org/abs/1608.03983
Early Stopping - But When? (Prechelt, 1998), in Neural Networks: Tricks of the Trade
"""

from __future__ import annotations

import math

SMALLEST_WEIGHT = 0.02


def warmup_cosine(step: int, total: int) -> float:
    """Factor on the peak learning rate in a step, counted from 0, of so many."""
    warmup = max(1, total // 10)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def variance_weight(step: int) -> float:
    """Weight of the batch of a step, counted from 0, in the running estimate of the variance."""
    return max(1 / (step + 1), SMALLEST_WEIGHT)


def is_over(n_epochs: int, best_epoch: int, *, epochs: int, patience: int) -> bool:
    """Whether training stops after ``n_epochs`` of at most ``epochs``, or goes on."""
    waited = n_epochs - max(best_epoch, epochs // 10)
    return n_epochs == epochs or waited >= patience
