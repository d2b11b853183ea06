"""Numbers that are sent to a device once."""

from __future__ import annotations

import torch

from vae_anomaly.model.constants import constant


def test_a_constant_is_made_once_and_serves_training_after_scoring() -> None:
    constant.cache_clear()
    with torch.inference_mode():
        first = constant((0, 2), torch.device("cpu"))
    assert constant((0, 2), torch.device("cpu")) is first
    x = torch.ones(1, 3, requires_grad=True)
    x.square().gather(1, first[None]).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[2, 0, 2]]
