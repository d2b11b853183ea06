"""The values of parameters that are left open ("auto" or None), and the module that all of them describe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from vae_anomaly.columns import Columns
from vae_anomaly.errors import DataError
from vae_anomaly.model.likelihoods.base import Likelihood
from vae_anomaly.model.places import Grid
from vae_anomaly.model.scaling import Scaling
from vae_anomaly.model.vae import VAE
from vae_anomaly.registry import ARCHITECTURES, LIKELIHOODS

AUTO_LATENT = 16


class Choices:
    """The values of the parameters for samples of one shape: given, fixed by the architecture, or chosen here.

    Parameters
    ----------
    parameters
        Of `VAEDetector`, by name, already checked; an architecture "auto" that no images have decided on is "mlp".
    sample_shape
        ``(D,)``, ``(H, W)`` or ``(H, W, C)``.
    columns
        What the columns are, of a table that has more than plain numbers.

    Attributes
    ----------
    n_features : int
        Features of a sample.
    image_shape : tuple of int or None
        Height, width and channels if samples are images, by their shape or by the parameter of that name.
    architecture : str
        A key of `ARCHITECTURES`.
    grid : Grid or None
        Where an architecture of patches cuts them from the images.

    Raises
    ------
    DataError
        If the parameter ``image_shape`` does not have as many pixels as the samples have features, a parameter does
        not suit a table with categories, dates or gaps, or the architecture cuts patches and samples are not images.
    """

    def __init__(
        self, parameters: Mapping[str, Any], sample_shape: tuple[int, ...], columns: Columns | None = None
    ) -> None:
        self.parameters, self.columns = parameters, columns
        self.n_features = math.prod(sample_shape)
        shape: tuple[int, ...] | None = parameters["image_shape"] if len(sample_shape) == 1 else sample_shape
        if shape is not None and math.prod(shape) != self.n_features:
            raise DataError(
                f"image_shape={shape} has {math.prod(shape)} pixels, the samples have {self.n_features} features"
            )
        self.image_shape = None if shape is None else (*shape, 1)[:3]
        self.architecture = "mlp" if parameters["architecture"] == "auto" else str(parameters["architecture"])
        if columns is not None:
            self._check_columns()
        self.grid: Grid | None = None
        if ARCHITECTURES.entry(self.architecture).facts.get("of_patches"):
            if self.image_shape is None:
                raise DataError(
                    f"architecture={self.architecture!r} needs images: pass them as (N, H, W) or (N, H, W, C), give "
                    "image_shape=, or use architecture='mlp'"
                )
            self.grid = Grid.of(self.image_shape)

    def _check_columns(self) -> None:
        for name, possible in (
            ("likelihood", ("auto", "gaussian")),
            ("preprocessing", ("auto", "by_column", "standardize")),
        ):
            given = self.chosen(name) or "auto"
            if given not in possible:
                raise DataError(
                    f"{name}={given!r} is for rows of plain numbers, and these have categories, dates or gaps: leave "
                    f"{name}='auto', or prepare the columns first"
                )
        if self.image_shape is not None:
            raise DataError("image_shape is for rows of plain numbers, and these have categories, dates or gaps")

    @property
    def of_architecture(self) -> Mapping[str, Any]:
        """Values that come with the architecture, by name."""
        values: Mapping[str, Any] = ARCHITECTURES.entry(self.architecture).facts.get("brings", {})
        return values

    def chosen(self, name: str) -> Any:
        """A parameter that was given or comes with the architecture; None if it is left open."""
        given = self.parameters[name]
        return self.of_architecture.get(name) if given in ("auto", None) else given

    @property
    def likelihood(self) -> str:
        """A key of `LIKELIHOODS`."""
        if self.columns is not None:
            return "mixed"
        given = self.of_architecture.get("likelihood") or self.chosen("likelihood")
        return str(given or ("gaussian" if self.image_shape is None else "correlated_gaussian"))

    @property
    def prior(self) -> str:
        """A key of `PRIORS`."""
        if (given := self.of_architecture.get("prior") or self.chosen("prior")) is not None:
            return str(given)
        if not LIKELIHOODS.entry(self.likelihood).facts.get("gaussian"):
            return "normal"
        return "exemplars" if self.image_shape is None else "mixture"

    @property
    def prior_fit(self) -> str:
        """A key of `PRIOR_FITS`."""
        fits: Mapping[str, str] = LIKELIHOODS.entry(self.likelihood).facts.get("prior_fits", {})
        return fits.get(self.prior, self.prior)

    @property
    def n_units(self) -> int:
        """What the networks take: one number a feature, and one for each level of a category."""
        return self.n_features if self.columns is None else len(self.columns.of_units)

    @property
    def latents_of_place(self) -> int:
        """Latents that are encoded together: of all units, or of one patch."""
        n_units = self.n_units if self.grid is None else self.grid.n_patch_features
        return int(self.chosen("latent_dim") or max(1, min(AUTO_LATENT, n_units // 2)))

    @property
    def n_places(self) -> int:
        """Places that have latents of their own."""
        return 1 if self.grid is None else self.grid.n_places

    @property
    def latent_dim(self) -> int:
        """Size of the latent space, of all places together."""
        return self.n_places * self.latents_of_place

    @property
    def input_noise(self) -> float:
        """Standard deviation of the noise on training inputs, over the root mean square deviation of scaled rows."""
        if (given := self.chosen("input_noise")) is not None:
            return float(given)
        if self.image_shape is None:
            return 0.2
        height, width, _ = self.image_shape
        return min(2.0, math.sqrt(height * width) / 14)

    @property
    def score(self) -> str:
        """A key of `vae_anomaly.registry.SCORES`: the one that decides."""
        return str(self.chosen("score_name") or ("elbo" if self.image_shape is None else "smallest_p"))

    def preprocessing(self, dtype: np.dtype[Any]) -> str:
        """A key of `PREPROCESSING`, for rows of this dtype."""
        if (given := self.chosen("preprocessing")) is not None:
            return str(given)
        if self.on_unit_interval:
            return "unit_range" if self.image_shape is not None or dtype == np.uint8 else "none"
        return "by_column" if self.image_shape is None else "standardize_globally"

    @property
    def on_unit_interval(self) -> bool:
        """Whether the likelihood is for values in [0, 1] only."""
        return LIKELIHOODS.entry(self.likelihood).facts.get("support") == (0.0, 1.0)

    def build(self, rows_to_units: Scaling) -> VAE:
        """The module, its weights not initialised yet; building it uses no random state.

        Parameters
        ----------
        rows_to_units
            The scaling; if it is on the device "meta", so are the networks.

        Raises
        ------
        DataError
            If the likelihood is for images, and samples are not images.
        """
        if self.image_shape is None and LIKELIHOODS.entry(self.likelihood).facts.get("needs_images"):
            raise DataError(
                f"likelihood={self.likelihood!r} needs images: pass them as (N, H, W) or (N, H, W, C), give "
                "image_shape=, or use likelihood='gaussian'"
            )
        likelihood: Likelihood = LIKELIHOODS[self.likelihood].for_samples(self.image_shape, self.columns)
        with torch.device("meta"):
            encoder, decoder = ARCHITECTURES[self.architecture](
                self.image_shape or (self.n_units,), self.latents_of_place
            )
        vae = VAE(encoder, decoder, likelihood, rows_to_units)
        if not rows_to_units.loc.is_meta:
            for module in (encoder, decoder):  # what `to_empty` does, whose first call takes half a second
                state = {name: torch.empty(value.shape) for name, value in module.state_dict().items()}
                module.load_state_dict(state, assign=True)
        return vae


def device_of(name: str) -> torch.device:
    """The device with this name; "auto" is CUDA where there is one, and else the CPU.

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
