r"""How large a training's steps are, and when it stops: functions of counts alone.

*Learning rate* of step t = 0, ..., T - 1, for its peak :math:`\eta`, a warm-up of :math:`W = \max(1, \lfloor T / 10
\rfloor)` steps and a decay of :math:`C = \max(1, \lfloor 3 T / 10 \rfloor)`: it rises linearly, stays, and falls
linearly.

.. math::

    \eta_t = \eta \cdot \min\Big(\frac{t + 1}{W},\; 1,\; \frac{T - t}{C}\Big)

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
Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations (Hägele et al., 2024),
https://arxiv.org/abs/2405.18392
Early Stopping - But When? (Prechelt, 1998), in Neural Networks: Tricks of the Trade
"""

from __future__ import annotations

SMALLEST_WEIGHT = 0.02


def trapezoid(step: int, total: int) -> float:
    """Factor on the peak learning rate in a step, counted from 0, of so many."""
    warmup, decay = max(1, total // 10), max(1, 3 * total // 10)
    return min((step + 1) / warmup, 1.0, (total - step) / decay)


def variance_weight(step: int) -> float:
    """Weight of the batch of a step, counted from 0, in the running estimate of the variance."""
    return max(1 / (step + 1), SMALLEST_WEIGHT)


def is_over(n_epochs: int, best_epoch: int, *, epochs: int, patience: int) -> bool:
    """Whether training stops after ``n_epochs`` of at most ``epochs``, or goes on."""
    waited = n_epochs - max(best_epoch, epochs // 10)
    return n_epochs == epochs or waited >= patience
