"""Anomaly detection with variational autoencoders.

What is exported is loaded on first use, so that importing the package stays free of torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vae_anomaly.detector import VAEDetector
    from vae_anomaly.engines.score_dataset import score_dataset

__version__ = "0.1.0"
__all__ = ["VAEDetector", "__version__", "score_dataset"]


def __getattr__(name: str) -> Any:
    if name == "VAEDetector":
        from vae_anomaly.detector import VAEDetector

        return VAEDetector
    if name == "score_dataset":
        from vae_anomaly.engines.score_dataset import score_dataset

        return score_dataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
