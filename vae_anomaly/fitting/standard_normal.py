"""The standard normal prior: nothing is fitted."""

from __future__ import annotations

from vae_anomaly.fitting.prior_fit import PriorFit
from vae_anomaly.registry import PRIOR_FITS


@PRIOR_FITS.register("normal")
class StandardNormalFit(PriorFit):
    """N(0, I) is what training used, and stays."""
