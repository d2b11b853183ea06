"""Anomaly detection with variational autoencoders.

``VAEDetector`` is loaded on first use, so that importing the package stays free of torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vae_anomaly.detector import VAEDetector

__version__ = "0.1.0"
__all__ = ["VAEDetector", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "VAEDetector":
        from vae_anomaly.detector import VAEDetector

        return VAEDetector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
