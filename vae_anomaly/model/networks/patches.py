r"""One small VAE of patches at all places of an image: a map of latents, for textures and for large images.

Dense networks of an image have weights for every pixel, and learn what belongs where. On cloth, metal or stone no pixel
has a place, and an image-wide code learns nothing. Here the networks see patches alone (`vae_anomaly.model.places` says
where), with the same weights at every place, as those of a convolution have: an image of any size has the weights of
one patch. Each place has L latents of its own, so an image has P L of them.

What it cannot see is what belongs where beyond a patch: for digits, faces or one kind of part the whole image matters,
and "mlp" has it.

References
----------
From Learning Models of Natural Image Patches to Whole Image Restoration (Zoran & Weiss, ICCV 2011)
Improving Unsupervised Defect Segmentation by Applying Structural Similarity to Autoencoders (Bergmann et al., 2019),
https://arxiv.org/abs/1807.02011, which trains on patches of textures
"""

from __future__ import annotations

from torch import Tensor, nn

from vae_anomaly.model.networks.base import Encoder, Posterior
from vae_anomaly.model.networks.mlp import MLPDecoder, MLPEncoder
from vae_anomaly.model.places import Grid
from vae_anomaly.registry import ARCHITECTURES

HIDDEN = (256,)


class PatchesEncoder(Encoder):
    """The encoder ``patch`` of one patch at all places: rows ``(N, D)`` to a posterior ``(N, P L)``."""

    def __init__(self, grid: Grid, latent_dim: int) -> None:
        super().__init__()
        self.grid = grid
        self.patch = MLPEncoder(grid.n_patch_features, latent_dim, HIDDEN)

    @property
    def hidden_layers(self) -> nn.Sequential:
        return self.patch.hidden

    @property
    def n_places(self) -> int:
        return self.grid.n_places

    def weights_of_places(self, like: Tensor) -> Tensor:
        return self.grid.weights(like).mean(dim=1)

    def as_input(self, x: Tensor) -> Tensor:
        return self.grid.cut(x)

    def forward(self, x: Tensor) -> Posterior:
        mu, sigma, log_var = self.patch(self.as_input(x))
        return Posterior(mu.flatten(1), sigma.flatten(1), log_var.flatten(1))


class PatchesDecoder(nn.Module):
    """The decoder ``patch`` of one patch at all places: latents ``(N, P L)`` to patches, ``(N, P q)``."""

    def __init__(self, grid: Grid, latent_dim: int) -> None:
        super().__init__()
        self.grid = grid
        self.patch = MLPDecoder(grid.n_patch_features, latent_dim, HIDDEN)

    def forward(self, z: Tensor) -> Tensor:
        decoded: Tensor = self.patch(z.reshape(len(z), self.grid.n_places, -1))
        return decoded.flatten(1)


@ARCHITECTURES.register(
    "patches",
    brings={"likelihood": "patches_gaussian", "prior": "normal_places", "input_noise": 0.0},
    of_patches=True,
    scores_left_out=("likelihood_regret",),
)
def patches(shape: tuple[int, ...], latent_dim: int) -> tuple[Encoder, nn.Module]:
    """A small network of 16 x 16 patches at all places, with ``latent_dim`` latents each: textures, large images.

    Raises
    ------
    ValueError
        If the rows are not images.
    """
    if len(shape) != 3:
        raise ValueError(
            f"architecture='patches' needs images, got rows of {shape[0]} features: pass images as (N, H, W) or "
            "(N, H, W, C), give image_shape=, or use architecture='mlp'"
        )
    grid = Grid.of(shape)
    return PatchesEncoder(grid, latent_dim), PatchesDecoder(grid, latent_dim)
