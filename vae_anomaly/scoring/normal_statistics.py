r"""What scores know about normal rows in addition to the networks: means, whitening matrices, neighbours, spreads.

A whitening of mean m and matrix W turns a vector v into :math:`W(v - m)`, whose coordinates are uncorrelated and of
unit variance among normal rows. Its length is then a distance in units of the normals' own spread; with W the inverse
root of the covariance it is the Mahalanobis distance.

`vae_anomaly.fitting.normal_statistics` fits them. Everything is a buffer in the model's own precision, so that it
travels with the weights. Distances are computed in double precision, where the square of no finite single-precision
number overflows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from vae_anomaly.model.affine import affine, affine_of_filled, filled_up
from vae_anomaly.model.memo import remembered
from vae_anomaly.model.vae import VAE
from vae_anomaly.model.validity import check_shapes
from vae_anomaly.scoring.activations import path_difference

BANK_ROWS = 5_000
NEIGHBOURS = 5
SPARE_CANDIDATES = 3  # so that rounding puts no neighbour beyond the last one
NEIGHBOUR_ROWS = 64
SAME_ROW = 1e-4  # whitened latent means of one row are nearer, however many rows are encoded with it


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

    shapes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "latent_mean": ("latent_dim",),
        "latent_whitening": ("latent_dim", "latent_dim"),
        "bank": ("B", "latent_dim"),
        "path_mean": ("C",),
        "path_whitening": ("R", "C"),
        "residual_variance": ("n_features",),
        "component_mean": ("n_components",),
        "component_std": ("n_components",),
    }
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
        """Mean distance to the nearest rows of the bank, after whitening, ``(N,)``; a row that is in it is left out.

        A product in the model's precision finds candidates, a few more than are needed; their distances are exact.
        """
        n_nearest = min(NEIGHBOURS, max(1, len(self.bank) - 1))
        n_candidates = min(n_nearest + 1 + SPARE_CANDIDATES, len(self.bank))
        filled = filled_up(-2 * self.bank, self.bank.square().sum(dim=1))

        def to_nearest(whitened: Tensor) -> Tensor:
            nearness = affine_of_filled(whitened.to(self.bank), *filled)[:, : len(self.bank)]
            candidates = self.bank[nearness.topk(n_candidates, largest=False, sorted=False).indices].double()
            distances = torch.linalg.vector_norm(candidates - whitened[:, None], dim=-1)
            nearest = distances.topk(min(n_nearest + 1, n_candidates), largest=False).values
            itself = nearest[:, 0] <= SAME_ROW
            return torch.where(itself, nearest[:, -n_nearest:].mean(dim=-1), nearest[:, :n_nearest].mean(dim=-1))

        # a few rows at a time: the process would keep the memory of all distances together, even once it is freed
        return torch.cat([to_nearest(rows) for rows in torch.split(self.whitened(mu), NEIGHBOUR_ROWS)])

    def path_distance(self, difference: Tensor) -> Tensor:
        """Length of whitened activation differences, ``(N,)``."""
        centred = difference.double() - self.path_mean.double()
        return affine(centred, self.path_whitening.double()).square().sum(dim=-1).sqrt()


@remembered("likelihood")
def path_distance(vae: VAE, statistics: NormalStatistics, x: Tensor) -> Tensor:
    """`NormalStatistics.path_distance` of scaled rows ``(N, D)``."""
    return statistics.path_distance(path_difference(vae, x))


@remembered()
def neighbour_distance(vae: VAE, statistics: NormalStatistics, x: Tensor) -> Tensor:
    """`NormalStatistics.neighbour_distance` of scaled rows ``(N, D)``."""
    return statistics.neighbour_distance(vae.codes(x))


def checked_statistics(
    buffers: dict[str, Tensor], latent_dim: int, n_features: int, n_columns: int
) -> NormalStatistics:
    """The statistics that a model file holds; names and shapes are checked, since the file may come from anywhere.

    Parameters
    ----------
    buffers
        By name.
    latent_dim, n_features
        Of the model.
    n_columns
        Columns of its `path_difference`.

    Raises
    ------
    ValueError
        If there are other names or shapes, or larger ones than a fit makes.
    """
    limits = {"B": BANK_ROWS, "R": n_columns}
    sizes = {"latent_dim": latent_dim, "n_features": n_features, "C": n_columns, "n_components": 3}
    check_shapes(buffers, NormalStatistics.shapes, "a model's statistics of normals", limits, **sizes)
    return NormalStatistics(**buffers)


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
