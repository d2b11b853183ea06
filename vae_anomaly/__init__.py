"""Anomaly detection with variational autoencoders.

What is exported is loaded on first use, so that importing the package stays free of torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from vae_anomaly.detector import VAEDetector
    from vae_anomaly.engines.score_dataset import score_dataset
    from vae_anomaly.fitted_model import FittedModel

__version__ = "0.1.0"
__all__ = ["FittedModel", "VAEDetector", "__version__", "score_dataset"]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "detector": ["VAEDetector"],
        "engines.score_dataset": ["score_dataset"],
        "fitted_model": ["FittedModel"],
    },
)
