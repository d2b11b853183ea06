r"""Hidden activations of the encoder, and how far they move when a row is replaced by its reconstruction.

With :math:`h_l(x)` the output of the encoder's hidden layer l and :math:`\hat x` the reconstruction of x,

.. math::

    d(x) = \big(h_1(x) - h_1(\hat x), \ldots, h_L(x) - h_L(\hat x)\big).

Where the decoder knows a row, its reconstruction excites the same hidden units and :math:`d(x)` is small. The input and
the latent space, which the original paper counts among the layers, have scores of their own here.

References
----------
RaPP: Novelty Detection with Reconstruction along Projection Pathway (Kim et al., ICLR 2020),
https://openreview.net/forum?id=HkgeGeBYDB
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from vae_anomaly.model.networks.base import Encoder
from vae_anomaly.model.scaling import filled
from vae_anomaly.model.vae import VAE

MAX_COLUMNS = 1_024


def path_difference(vae: VAE, x: Tensor) -> Tensor:
    """Hidden activations of scaled rows ``(N, D)`` minus those of their reconstructions, ``(N, C)``."""
    return hidden_activations(vae.encoder, filled(x)) - hidden_activations(vae.encoder, vae.reconstruct(x))


def hidden_activations(encoder: Encoder, x: Tensor) -> Tensor:
    """Outputs of the encoder's hidden layers side by side, ``(N, C)``.

    Dense layers are taken whole. The maps of a convolution are averaged over the cells of a grid, the finest that keeps
    all layers together within 1,024 columns: otherwise whitening them would cost more than the network.
    """
    h, layers = encoder.as_input(x), encoder.hidden_layers
    n_convolutions = sum(isinstance(layer, nn.Conv2d) for layer in layers)
    outputs = []
    for layer in layers:
        h = layer(h)
        if isinstance(layer, nn.ReLU):
            outputs.append(h if h.ndim == 2 else pooled(h, MAX_COLUMNS // n_convolutions))
    return torch.cat(outputs, dim=-1)


def pooled(maps: Tensor, max_columns: int) -> Tensor:
    """Maps ``(N, channels, height, width)`` averaged over a square grid of cells, flat: ``(N, up to max_columns)``."""
    cells = max(1, math.isqrt(max_columns // maps.shape[1]))
    height, width = (min(side, cells) for side in maps.shape[2:])
    return functional.adaptive_avg_pool2d(maps, (height, width)).flatten(1)
