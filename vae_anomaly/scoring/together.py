"""Several functions of the same rows in one pass, to the bits that each of them gives alone."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from vae_anomaly.model.vae import VAE
from vae_anomaly.scoring.gaps import RowFunction


def together(*functions: Callable[[VAE, Tensor, Tensor], Tensor | tuple[Tensor, ...]]) -> RowFunction:
    """The results of all ``functions(vae, x, noise)`` side by side; what they begin with alike is computed once."""

    def of_block(vae: VAE, x: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        vae = vae.remembering()  # of this block alone
        results = (function(vae, x, noise) for function in functions)
        return tuple(part for result in results for part in ((result,) if isinstance(result, Tensor) else result))

    return of_block
