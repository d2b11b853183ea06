r"""What scores know about normal rows in addition to the networks: means, whitening matrices, neighbours, spreads.

A whitening of mean m and matrix W turns a vector v into :math:`W(v - m)`, whose coordinates are uncorrelated and of
unit variance among normal rows. Its length is then a distance in units of the normals' own spread; with W the inverse
root of the covariance it is the Mahalanobis distance.

`vae_anomaly.fitting.normal_statistics` fits them. Everything is a buffer in the model's own precision, so that it
travels with the weights. Distances are computed in double precision, where the square of no finite single-precision
number overflows.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from vae_anomaly.model.affine import affine
from vae_anomaly.model.vae import VAE

NEIGHBOURS = 5
NEIGHBOUR_ROWS = 32


class NormalStatistics(nn.Module):
    """Statistics of normal rows; a model file has them under the prefix ``normals.``.

    Parameters
    ----------
    latent_mean, latent_whitening : Tensor
        ``(L,)`` and ``(L, L)``: the whitening of latent means.
    bank : Tensor
        ``(B, L)``: whitened latent means of training rows.
    path_mean, path_whitening : Tensor
        ``(C,)`` and ``(R, C)``: the whitening of `path_difference`, restricted to the R directions that vary.
    residual_variance : Tensor
        ``(D,)``: the decoder's mean squared error of each feature.
    component_mean, component_std : Tensor
        ``(3,)`` each: of the combined score's components on held-out rows.
    """

    positive_buffers: ClassVar[frozenset[str]] = frozenset({"residual_variance", "component_std"})

    def __init__(
        self,
        *,
        latent_mean: Tensor,
        latent_whitening: Tensor,
        bank: Tensor,
        path_mean: Tensor,
        path_whitening: Tensor,
        residual_variance: Tensor,
        component_mean: Tensor,
        component_std: Tensor,
    ) -> None:
        super().__init__()
        self.latent_mean: Tensor
        self.latent_whitening: Tensor
        self.bank: Tensor
        self.path_mean: Tensor
        self.path_whitening: Tensor
        self.residual_variance: Tensor
        self.component_mean: Tensor
        self.component_std: Tensor
        self.register_buffer("latent_mean", latent_mean)
        self.register_buffer("latent_whitening", latent_whitening)
        self.register_buffer("bank", bank)
        self.register_buffer("path_mean", path_mean)
        self.register_buffer("path_whitening", path_whitening)
        self.register_buffer("residual_variance", residual_variance)
        self.register_buffer("component_mean", component_mean)
        self.register_buffer("component_std", component_std)

    def whitened(self, mu: Tensor) -> Tensor:
        """Latent means in units of their spread among normals, ``(N, L)``, double precision."""
        return affine(mu.double() - self.latent_mean.double(), self.latent_whitening.double())

    def latent_distance(self, mu: Tensor) -> Tensor:
        """Mahalanobis distance of latent means from their centre, ``(N,)``."""
        return self.whitened(mu).square().sum(dim=-1).sqrt()

    def neighbour_distance(self, mu: Tensor) -> Tensor:
        """Mean distance to the nearest rows of the bank, after whitening, ``(N,)``."""
        bank = self.bank.double()

        def to_nearest(whitened: Tensor) -> Tensor:
            distances = torch.cdist(whitened, bank, compute_mode="donot_use_mm_for_euclid_dist")
            return distances.topk(min(NEIGHBOURS, len(bank)), largest=False).values.mean(dim=-1)

        # a few rows at a time: the process would keep the memory of all distances together, even once it is freed
        return torch.cat([to_nearest(rows) for rows in torch.split(self.whitened(mu), NEIGHBOUR_ROWS)])

    def path_distance(self, difference: Tensor) -> Tensor:
        """Length of whitened activation differences, ``(N,)``."""
        centred = difference.double() - self.path_mean.double()
        return affine(centred, self.path_whitening.double()).square().sum(dim=-1).sqrt()


def checked_statistics(buffers: dict[str, Tensor], latent_dim: int, n_features: int) -> NormalStatistics:
    """The statistics that a model file holds; their shapes are checked, since the file may come from anywhere.

    Raises
    ------
    ValueError
        If shapes do not fit.
    TypeError
        If there are other buffers.
    """
    statistics = NormalStatistics(**buffers)
    n_columns, latent = len(statistics.path_mean), (latent_dim,)
    for name, shape in {
        "latent_mean": latent,
        "latent_whitening": latent * 2,
        "bank": (*statistics.bank.shape[:1], latent_dim),
        "path_mean": (n_columns,),
        "path_whitening": (*statistics.path_whitening.shape[:1], n_columns),
        "residual_variance": (n_features,),
        "component_mean": (3,),
        "component_std": (3,),
    }.items():
        if buffers[name].shape != shape:
            raise ValueError(f"its {name} has shape {tuple(buffers[name].shape)}, expected {shape}")
    return statistics


def statistics_of(vae: VAE) -> NormalStatistics:
    """The model's statistics of normal rows.

    Raises
    ------
    ValueError
        If it has none.
    """
    statistics = getattr(vae, "normals", None)
    if not isinstance(statistics, NormalStatistics):
        raise ValueError("this score needs statistics of the normals, which this model lacks: fit the model again")
    return statistics
