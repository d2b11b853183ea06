r"""Training without the features that are the same in all training rows, such as the dark border of images.

Such a feature tells the encoder nothing, and its reconstruction can be exact from the start. So a smaller model is
trained whose networks neither see nor decode it; afterwards the whole model gets the smaller one's weights, and its
decoder a bias that is the feature's value. Of the training rows the ELBO is the whole model's: with d of D features
that vary, the residuals of the others being zero,

.. math::

    \log p(x|z) = -\frac{\lVert x_d - \hat x_d \rVert^2}{2 v} - \frac D2 \log(2 \pi v), \qquad
    v^* = \tfrac1D \, \mathrm{mean} \, \lVert x_d - \hat x_d \rVert^2.

(The loss is divided by d in place of D, which AdamW does not see.) Where validation rows differ in such a feature, its
residual takes no part in stopping the training.

A new row that differs there has a residual, and another code: the encoder's weights for these features are those that
were drawn, with a bias that takes away what they give for the constant values. Scores of latents see such rows, too.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from vae_anomaly.model.likelihoods.correlated_gaussian import CorrelatedGaussian
from vae_anomaly.model.likelihoods.gaussian import Gaussian
from vae_anomaly.model.networks.base import Linear
from vae_anomaly.model.networks.mlp import MLPDecoder, MLPEncoder
from vae_anomaly.model.scaling import Scaling, scaling_of
from vae_anomaly.model.vae import VAE
from vae_anomaly.storage.rows import Rows

MOST_VARYING = 0.9  # of all features; where more vary, leaving out the rest saves next to nothing


class VaryingScaling(Scaling):
    """A `Scaling` of some features ``(d,)`` of raw rows ``(N, D)``.

    Parameters
    ----------
    whole
        That of all features.
    places : Tensor
        Which ones, int64.
    """

    def __init__(self, whole: Scaling, places: Tensor) -> None:
        nn.Module.__init__(self)
        self.part = scaling_of({name: value[places] if value.ndim else value for name, value in whole.named_buffers()})
        self.register_buffer("places", places)
        self.places: Tensor

    @property
    def loc(self) -> Tensor:  # type: ignore[override]
        """Of these features, or of all."""
        return self.part.loc

    def forward(self, raw: Tensor) -> Tensor:
        scaled: Tensor = self.part(raw.index_select(1, self.places))
        return scaled


class VaryingGaussian(Gaussian):
    """The `Gaussian` of rows of which some features are given, and the others are reconstructed exactly.

    Parameters
    ----------
    n_features
        Of a whole row.
    """

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.n_features = n_features

    def size(self, x: Tensor) -> int:
        return self.n_features


def varying_part(vae: VAE, rows: Rows) -> VAE:
    """What is trained of an initialised model: itself, or the model of those features of its training rows that vary.

    The latter only where the networks are dense and the noise is Gaussian, and where it saves a tenth of the features.
    """
    if not isinstance(vae.encoder, MLPEncoder) or type(vae.likelihood) not in (Gaussian, CorrelatedGaussian):
        return vae
    sample = rows.even_sample()
    if np.mean(sample.min(axis=0) != sample.max(axis=0)) > MOST_VARYING:
        return vae  # without another pass over all rows
    low, high = rows.extremes()
    places = np.flatnonzero(low != high)
    if not 0 < len(places) <= MOST_VARYING * rows.shape[1]:
        return vae
    at = torch.from_numpy(places).to(vae.scaling.loc.device)
    encoder, decoder = copy.deepcopy(vae.encoder), copy.deepcopy(vae.decoder)
    first, last = ends(encoder, decoder)
    first.weight = nn.Parameter(first.weight.detach()[:, at])
    last.weight, last.bias = nn.Parameter(last.weight.detach()[at]), nn.Parameter(last.bias.detach()[at])
    first.in_features = last.out_features = len(at)
    likelihood = VaryingGaussian(rows.shape[1]).to(vae.scaling.loc.device, vae.scaling.loc.dtype)
    return VAE(encoder, decoder, likelihood, VaryingScaling(vae.scaling, at))


@torch.no_grad()
def complete(vae: VAE, trained: VAE, rows: Rows) -> None:
    """Give a model what was trained in its place by `varying_part`, and to its other features their value in all rows.

    Parameters
    ----------
    vae
        The whole model.
    trained
        What `varying_part` gave for it.
    rows
        All have that value.
    """
    if not isinstance(trained.scaling, VaryingScaling):
        return
    at = trained.scaling.places
    for whole, part in ((vae.encoder, trained.encoder), (vae.decoder, trained.decoder)):
        shapes = {name: value.shape for name, value in whole.state_dict().items()}
        same = {name: value for name, value in part.state_dict().items() if value.shape == shapes[name]}
        whole.load_state_dict(same, strict=False)
    first, last = ends(vae.encoder, vae.decoder)
    first_trained, last_trained = ends(trained.encoder, trained.decoder)
    value = vae.scaling(torch.from_numpy(np.array(rows[:1])).to(vae.scaling.loc))[0]
    of_constant = first.weight.clone()
    of_constant[:, at] = 0
    first.bias.sub_(of_constant @ value)
    first.weight[:, at] = first_trained.weight
    last.weight.zero_()[at] = last_trained.weight
    last.bias.copy_(value)[at] = last_trained.bias
    vae.likelihood.load_state_dict(trained.likelihood.state_dict(), strict=False)  # one variance


def ends(encoder: nn.Module, decoder: nn.Module) -> tuple[Linear, Linear]:
    """The layer of dense networks that takes the features, and the one that gives them."""
    assert isinstance(encoder, MLPEncoder), "dense"
    assert isinstance(decoder, MLPDecoder), "dense"
    first = encoder.hidden[0]
    assert isinstance(first, Linear), "dense"
    return first, decoder.output
