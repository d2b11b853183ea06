"""Rows that lack values, for a model of plain numbers, which was fitted on rows that lack none.

White noise of one variance is numbers that share theirs, and the likelihood of those integrates gaps out
(`vae_anomaly.model.likelihoods.mixed`). So rows with gaps go through the same networks and the same prior with that
likelihood, and all others are computed as ever, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from vae_anomaly.model.likelihoods.mixed import Mixed
from vae_anomaly.model.vae import VAE

RowFunction: TypeAlias = Callable[[VAE, Tensor, Tensor], tuple[Tensor, ...]]
"""``function(vae, x, noise)``: from scaled rows ``(n, D)`` to tensors that begin with ``n``."""


def leaving_out_gaps(vae: VAE, function: RowFunction, noise: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    """``function(vae, x, noise)`` of scaled rows ``(n, D)``, in which NaN is a gap that is integrated out."""
    results = function(vae, x, noise)
    with_gap = torch.isnan(x).any(dim=1)
    if not with_gap.any():
        return results
    others = function(twin_for_gaps(vae, x.shape[1]), x, noise)
    return tuple(
        torch.where(with_gap.view(-1, *[1] * (result.ndim - 1)), other.to(result), result)
        for result, other in zip(results, others, strict=True)
    )


def twin_for_gaps(vae: VAE, n_features: int) -> VAE:
    """The same model, nothing copied but its variance, with a likelihood that leaves gaps out.

    Raises
    ------
    ValueError
        If its noise has more than one variance.
    """
    variance = vae.likelihood.shared_variance
    if variance is None:
        raise ValueError(f"the likelihood {type(vae.likelihood).__name__} cannot leave values out")
    likelihood = Mixed(n_features, ()).to(variance)
    likelihood.variance.copy_(variance.expand(n_features))
    twin = VAE(vae.encoder, vae.decoder, likelihood, vae.scaling)
    twin.prior, twin.normals = vae.prior, vae.normals
    return twin
