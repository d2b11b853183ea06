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

from vae_anomaly.model.memo import remembered
from vae_anomaly.model.networks.base import Encoder
from vae_anomaly.model.scaling import filled
from vae_anomaly.model.vae import VAE

MAX_COLUMNS = 1_024


@remembered("likelihood")
def path_difference(vae: VAE, x: Tensor) -> Tensor:
    """Hidden activations of scaled rows ``(N, D)`` minus those of their reconstructions, ``(N, C)``."""
    return hidden_activations(vae.encoder, filled(x)) - hidden_activations(vae.encoder, vae.reconstruct(x))


def hidden_activations(encoder: Encoder, x: Tensor) -> Tensor:
    """Outputs of the encoder's hidden layers side by side, ``(N, C)``.

    Dense layers are taken whole, and averaged over the places if they see a row place by place. The maps of a
    convolution are averaged over the cells of a grid, the finest that keeps all layers together within 1,024 columns:
    otherwise whitening them would cost more than the network.
    """
    h, layers = encoder.as_input(x), encoder.hidden_layers
    n_convolutions = sum(isinstance(layer, nn.Conv2d) for layer in layers)
    outputs = []
    for layer in layers:
        h = layer(h)
        if isinstance(layer, nn.ReLU):
            outputs.append(flat(h, MAX_COLUMNS // max(1, n_convolutions)))
    return torch.cat(outputs, dim=-1)


def n_path_columns(encoder: Encoder, n_features: int) -> int:
    """Columns of `path_difference`, by arithmetic alone: the encoder may be on the meta device."""
    shape = encoder.as_input(torch.empty(1, n_features, dtype=torch.uint8, device="cpu")).shape
    layers = encoder.hidden_layers
    n_convolutions = sum(isinstance(layer, nn.Conv2d) for layer in layers)
    columns = width = 0
    for layer in layers:
        if isinstance(layer, nn.Linear):
            width = layer.out_features
        elif isinstance(layer, nn.Conv2d):
            assert not isinstance(layer.padding, str), "networks give it as numbers"
            sizes = zip(shape[2:], layer.kernel_size, layer.stride, layer.padding, strict=True)
            sides = [(side + 2 * padding - kernel) // stride + 1 for side, kernel, stride, padding in sizes]
            shape = torch.Size([1, layer.out_channels, *sides])
            width = layer.out_channels * math.prod(grid(shape, MAX_COLUMNS // n_convolutions))
        elif isinstance(layer, nn.ReLU):
            columns += width
    return columns


def flat(h: Tensor, max_columns: int) -> Tensor:
    """Activations as ``(N, C)``: of a dense layer ``(N, C)``, of one at P places ``(N, P, C)``, or maps."""
    if h.ndim == 4:
        return pooled(h, max_columns)
    return h if h.ndim == 2 else h.mean(dim=1)


def pooled(maps: Tensor, max_columns: int) -> Tensor:
    """Maps ``(N, channels, height, width)`` averaged over a square grid of cells, flat: ``(N, up to max_columns)``."""
    return functional.adaptive_avg_pool2d(maps, grid(maps.shape, max_columns)).flatten(1)


def grid(shape: torch.Size, max_columns: int) -> tuple[int, int]:
    """Cells in height and width of the grid that maps of a shape ``(N, channels, height, width)`` are averaged over."""
    cells = max(1, math.isqrt(max_columns // shape[1]))
    height, width = (min(side, cells) for side in shape[2:])
    return height, width
