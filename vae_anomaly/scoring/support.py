"""Whether the likelihood gives a density to the values of some rows."""

from __future__ import annotations

import torch

from vae_anomaly.errors import DataError
from vae_anomaly.model.vae import VAE
from vae_anomaly.registry import LIKELIHOODS
from vae_anomaly.storage.rows import Rows


def check_support(vae: VAE, rows: Rows) -> None:
    """Refuse raw rows ``(N, D)`` with values that the likelihood gives no density to.

    Raises
    ------
    DataError
        With the range of the values, if some lie outside.
    """
    support = vae.likelihood.support
    if support is None:
        return
    loc = vae.scaling.loc
    low, high = (vae.scaling(torch.tensor(end, device=loc.device, dtype=loc.dtype)) for end in rows.extremes())
    if low.min() < support[0] or high.max() > support[1]:
        name = LIKELIHOODS.name_of(type(vae.likelihood))
        raise DataError(
            f"likelihood={name!r} needs values in {list(support)} after preprocessing, found "
            f"{float(low.min()):.6g} to {float(high.max()):.6g}: scale the data, or use likelihood='gaussian'"
        )
