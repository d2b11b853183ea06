"""What parameters left to the program ("auto" or None) come to be, and the module that they describe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from vae_anomaly.errors import DataError
from vae_anomaly.model.likelihoods import Likelihood
from vae_anomaly.model.scaling import Scaling
from vae_anomaly.model.vae import VAE
from vae_anomaly.registry import ARCHITECTURES, LIKELIHOODS

AUTO_LATENT = 16


class Choices:
    """What the parameters come to be for samples of one shape.

    Parameters
    ----------
    parameters
        Those of `VAEDetector` by name, checked.
    sample_shape
        ``(D,)``, ``(H, W)`` or ``(H, W, C)``.

    Attributes
    ----------
    n_features : int
        Features a sample.
    image_shape : tuple of int or None
        Height, width and channels, if samples are images: by their shape or by the parameter of that name.

    Raises
    ------
    DataError
        If the parameter ``image_shape`` has another number of pixels than the samples.
    """

    def __init__(self, parameters: Mapping[str, Any], sample_shape: tuple[int, ...]) -> None:
        self.parameters = parameters
        self.n_features = math.prod(sample_shape)
        shape: tuple[int, ...] | None = parameters["image_shape"] if len(sample_shape) == 1 else sample_shape
        if shape is not None and math.prod(shape) != self.n_features:
            raise DataError(
                f"image_shape={shape} has {math.prod(shape)} pixels, the samples have {self.n_features} features"
            )
        self.image_shape = None if shape is None else (*shape, 1)[:3]

    @property
    def brought(self) -> Mapping[str, Any]:
        """What the architecture brings along in place of what would be chosen."""
        brought: Mapping[str, Any] = ARCHITECTURES.entry(self.parameters["architecture"]).facts.get("brings", {})
        return brought

    def chosen(self, name: str) -> Any:
        """A parameter that was given or comes with the architecture; None if it is left to the program."""
        given = self.parameters[name]
        return self.brought.get(name) if given in ("auto", None) else given

    @property
    def likelihood(self) -> str:
        """A key of `LIKELIHOODS`."""
        given = self.brought.get("likelihood") or self.chosen("likelihood")
        return str(given or ("gaussian" if self.image_shape is None else "correlated_gaussian"))

    @property
    def prior(self) -> str:
        """A key of `PRIORS`."""
        if (given := self.chosen("prior")) is not None:
            return str(given)
        if self.on_unit_interval:
            return "normal"
        return "exemplars" if self.image_shape is None else "mixture"

    @property
    def latent_dim(self) -> int:
        """Size of the latent space."""
        return int(self.chosen("latent_dim") or max(1, min(AUTO_LATENT, self.n_features // 2)))

    @property
    def input_noise(self) -> float:
        """Standard deviation of noise in training, as a multiple of the root mean square deviation of scaled rows."""
        if (given := self.chosen("input_noise")) is not None:
            return float(given)
        if self.image_shape is None:
            return 0.2
        height, width, _ = self.image_shape
        return min(2.0, math.sqrt(height * width) / 14)

    def preprocessing(self, dtype: np.dtype[Any]) -> str:
        """A key of `PREPROCESSING`, for rows of this type."""
        if (given := self.chosen("preprocessing")) is not None:
            return str(given)
        if self.on_unit_interval:
            return "unit_range" if self.image_shape is not None or dtype == np.uint8 else "none"
        return "standardize" if self.image_shape is None else "standardize_globally"

    @property
    def on_unit_interval(self) -> bool:
        """Whether the likelihood gives a density to values in [0, 1] alone."""
        return bool(LIKELIHOODS.entry(self.likelihood).facts.get("on_unit_interval"))

    def build(self, rows_to_units: Scaling) -> VAE:
        """The module, its weights not yet drawn; building it reads no random state.

        Raises
        ------
        DataError
            If the likelihood is for images, and samples are none.
        """
        likelihood: Likelihood = LIKELIHOODS[self.likelihood].for_samples(self.image_shape)
        with torch.device("meta"):
            encoder, decoder = ARCHITECTURES[self.parameters["architecture"]](
                self.image_shape or (self.n_features,), self.latent_dim
            )
        vae = VAE(encoder, decoder, likelihood, rows_to_units)
        if rows_to_units.loc.device.type != "meta":
            for module in (encoder, decoder):  # as `to_empty` has it, which takes half a second once
                state = {name: torch.empty(value.shape) for name, value in module.state_dict().items()}
                module.load_state_dict(state, assign=True)
        return vae


def device_of(name: str) -> torch.device:
    """The device that a name stands for; "auto" is CUDA where there is one, else the CPU.

    Raises
    ------
    ValueError
        If it cannot be used.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        reason = str(error).splitlines()[0]
        raise ValueError(f"device={name!r} cannot be used ({reason}): try 'auto' or 'cpu'") from error
    return torch.device(name)
