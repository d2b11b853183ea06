"""The standard normal prior of a map of latents: what a place counts follows from the grid, and nothing is fitted."""

from __future__ import annotations

from vae_anomaly.fitting.prior_fit import FittingRows, PriorFit
from vae_anomaly.model.priors.normal_places import NormalPlaces
from vae_anomaly.model.vae import VAE
from vae_anomaly.registry import PRIOR_FITS


@PRIOR_FITS.register("normal_places")
class NormalPlacesFit(PriorFit):
    """N(0, I) at every place, as training used it, with the weights of the places."""

    def before_likelihood(self, vae: VAE, rows: FittingRows) -> None:
        vae.prior = NormalPlaces(vae.encoder.weights_of_places(vae.scaling.loc))
