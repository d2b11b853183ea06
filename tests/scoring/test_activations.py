"""Hidden activations: all of a dense network's, and those of convolutions averaged to a bounded width."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from random_models import random_vae
from vae_anomaly.registry import ARCHITECTURES
from vae_anomaly.scoring.activations import MAX_COLUMNS, hidden_activations, path_difference


def by_hooks(encoder: nn.Module, x: Tensor) -> Tensor:
    """The outputs of an encoder's rectifiers, flat and side by side."""
    seen: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda layer, inputs, output: seen.append(output.flatten(1)))
        for layer in next(child for child in encoder.children() if isinstance(child, nn.Sequential))
        if isinstance(layer, nn.ReLU)
    ]
    encoder(x)
    for hook in hooks:
        hook.remove()
    return torch.cat(seen, dim=1)


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["mlp", "article"])
def test_dense_layers_are_taken_whole(architecture: str) -> None:
    vae, x = random_vae((7,), architecture=architecture), torch.from_numpy(np.random.default_rng(0).normal(size=(9, 7)))
    activations = hidden_activations(vae.encoder, x)
    torch.testing.assert_close(activations, by_hooks(vae.encoder, x))
    expected = activations - by_hooks(vae.encoder, vae.reconstruct(x))
    torch.testing.assert_close(path_difference(vae, x), expected)


@torch.no_grad()
@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (64, 48, 3)])
def test_convolutions_are_averaged_to_a_bounded_width(shape: tuple[int, int, int]) -> None:
    vae = random_vae(shape, architecture="conv")
    x = torch.rand(2, math.prod(shape), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    activations = hidden_activations(vae.encoder, x)
    maps = vae.encoder.convolutions[:2](x.reshape(-1, *shape).permute(0, 3, 1, 2))
    assert activations.shape[1] <= MAX_COLUMNS
    if shape[0] == 64:  # 32 maps of 32 x 24 on 4 x 4 cells
        expected = maps.reshape(2, 32, 4, 8, 4, 6).mean(dim=(3, 5)).flatten(1)
        torch.testing.assert_close(activations[:, : 32 * 16], expected)


@torch.no_grad()
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_has_activations_that_differ_between_rows(architecture: str) -> None:
    vae = random_vae((9, 8, 1), architecture=architecture)
    activations = hidden_activations(vae.encoder, torch.rand(5, 72, dtype=torch.float64))
    assert activations.shape[0] == 5
    assert (activations.std(dim=0) > 0).any()
