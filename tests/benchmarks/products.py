"""The matrix products and convolutions that a piece of code makes: recorded, and made again by themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

NAMES = ("mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward")
WHOLE = ("linear", "matmul", "conv2d", "conv_transpose2d")  # in inference mode these arrive undivided


class Recorder(TorchDispatchMode):
    """Keeps each product's operands; in the backward pass too, which a CPU makes in the thread that asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(func).startswith(tuple(f"aten.{name}." for name in (*NAMES, *WHOLE))):
            self.calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))


def products_of(function: Callable[[], object]) -> Callable[[], None]:
    """What makes the products of ``function`` again, and nothing else."""
    with Recorder() as recorder:
        function()

    @torch.inference_mode()
    def replay() -> None:
        for func, args, kwargs in recorder.calls:
            func(*args, **kwargs)

    return replay
