"""AdamW's steps: those of PyTorch's class, to the bit, without what that class imports."""

from __future__ import annotations

import pytest
import torch

from helpers import python
from vae_anomaly.fitting.optimizer import AdamW


def gradients(n_steps: int) -> list[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [[torch.randn(shape, generator=generator) for shape in ((3, 4), (5,))] for _ in range(n_steps)]


def parameters() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in ((3, 4), (5,))]


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_steps_are_those_of_pytorch(weight_decay: float) -> None:
    ours, theirs = parameters(), parameters()
    optimizer = AdamW(ours, weight_decay)
    oracle = torch.optim.AdamW(theirs, weight_decay=weight_decay, fused=True)
    for step, given in enumerate(gradients(5)):
        rate = 0.1 / (step + 1)
        for ps in (ours, theirs):
            for p, gradient in zip(ps, given, strict=True):
                p.grad = gradient.clone()
        optimizer.step(rate)
        oracle.param_groups[0]["lr"] = rate
        oracle.step()
        assert all(p.grad is None for p in ours)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_restored_state_goes_on_the_same() -> None:
    whole, cut = parameters(), parameters()
    first, second = AdamW(whole), AdamW(cut)
    for step, given in enumerate(gradients(6)):
        if step == 3:
            state = {name: tensor.clone() for name, tensor in second.tensors().items()}
            second = AdamW(cut)
            second.restore(state, step)
        for ps in (whole, cut):
            for p, gradient in zip(ps, given, strict=True):
                p.grad = gradient.clone()
        first.step(0.1)
        second.step(0.1)
    assert all(torch.equal(a, b) for a, b in zip(whole, cut, strict=True))


STEP = """
import sys, torch
from vae_anomaly.fitting.optimizer import AdamW
p = torch.zeros(3, requires_grad=True)
p.grad = torch.ones(3)
before = set(sys.modules)
{step}
print("torch._dynamo" in sys.modules, len(set(sys.modules) - before))
"""


def test_a_step_imports_nothing_where_that_of_pytorch_imports_a_compiler() -> None:
    ours = python(STEP.format(step="AdamW([p]).step(0.1)")).split()
    theirs = python(STEP.format(step="torch.optim.AdamW([p], fused=True).step()")).split()
    assert ours == ["False", "0"]
    assert theirs[0] == "True", "PyTorch's class imports its compiler no more: use it in place of ours"
    assert int(theirs[1]) > 100


def test_a_fit_does_not_import_the_compiler() -> None:
    fit = "VAEDetector(epochs=1).fit(np.random.default_rng(0).normal(size=(200, 8, 8)))"
    code = f"import sys, numpy as np\nfrom vae_anomaly import VAEDetector\n{fit}\nprint('torch._dynamo' in sys.modules)"
    assert python(code).split() == ["False"]
