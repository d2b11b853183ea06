"""Numbers that a module needs as a tensor again and again, sent to a device once.

A copy from the host makes a GPU wait, and a training step that is captured as a CUDA graph
(`vae_anomaly.fitting.captured_step`) may hold none. A graph reads what it captured where it was, so no constant is ever
dropped.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


@cache
def constant(values: tuple[int, ...], device: torch.device) -> Tensor:
    """These integers as a tensor ``(n,)`` int64 on a device; nobody may change it."""
    with torch.inference_mode(mode=False):  # scoring may be the first to ask, and training needs it for its gradients
        return torch.tensor(values, dtype=torch.int64, device=device)
