r"""What a model computed of the tensors at hand, remembered for as long as they are.

Several scores of a block share it. Most begin alike: the posterior of its rows, the decoder's output for each draw, the
terms of the ELBO. `VAE.remembering` gives the same model with a `Memo`, and what is marked `remembered` looks there
before it computes. A result that is found is the very tensor that was computed, so a score has the same bits alone and
with others.

Tensors are known by where their values lie, and kept together with the result, so that no others come to lie there. So
nothing that takes part may change a tensor that it was given. Nothing is remembered where gradients are recorded: each
step of an optimisation has new tensors, and their graphs would all be held.

What is of the model alone, such as its exemplars in the form that products take, has a memo of its own, which all
blocks of a call share (`VAE.for_all_blocks`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


class Memo:
    """Results by the function and the arguments that they are of."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[Any, Any]] = {}

    def recall(self, compute: Callable[..., Any], about: tuple[Any, ...], *arguments: Any) -> Any:
        """``compute(*arguments)``, or what it was for the same function, ``about`` and all arguments but the first."""
        known_by = (compute, about, arguments[1:])
        key = identity(known_by)
        if key not in self._kept:
            self._kept[key] = (known_by, compute(*arguments))
        return self._kept[key][1]


def identity(value: Any) -> Hashable:
    """What tells arguments apart: of a tensor where its values lie and how they are read, of all else itself."""
    if isinstance(value, Tensor):
        return (value.data_ptr(), value.shape, value.stride(), value.dtype, value.device)
    return tuple(map(identity, value)) if isinstance(value, tuple) else value


def remembered(
    *depends_on: str,
    lasts: bool = False,
) -> Callable[[Callable[Concatenate[Any, P], R]], Callable[Concatenate[Any, P], R]]:
    """Mark a function of a model and tensors, whose results the model's memo keeps, if it has one.

    Parameters
    ----------
    *depends_on
        The model's attributes that the result depends on beside its networks, which no model changes while it
        remembers: a twin with another likelihood has the same posterior, but another ELBO.
    lasts
        Whether the result is of no rows: the memo that keeps it is that of all blocks.
    """

    def decorate(compute: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
        @wraps(compute)
        def recall(vae: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
            memo: Memo | None = getattr(vae, "memo_of_all_blocks" if lasts else "memo", None)
            if memo is None or torch.is_grad_enabled() or kwargs:
                return compute(vae, *args, **kwargs)
            result: R = memo.recall(compute, tuple(getattr(vae, name) for name in depends_on), vae, *args)
            return result

        return recall

    return decorate
