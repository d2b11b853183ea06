r"""What scores learn about the normals once training is over: spreads and neighbours, no weights.

Everything is a buffer in the model's own precision, so it travels with the weights; distances are computed in
double precision, where the square of no finite single-precision number overflows.

Few rows know little, so each spread is drawn towards a common one or bounded below by it: no score divides by
zero, nor by the spread of a feature that the rows at hand happened not to move.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from vae_anomaly.model.affine import affine
from vae_anomaly.model.elbo import elbo_terms
from vae_anomaly.model.networks.conv import ConvEncoder
from vae_anomaly.model.vae import VAE

MAX_ROWS = 10_000
BANK_ROWS = 5_000
NEIGHBOURS = 5
NEIGHBOUR_ROWS = 32
PATH_COLUMNS = 1_024
COMPONENT_ROWS = 1_000
CHUNK_ROWS = 512


class Normals(nn.Module):
    """Statistics of normal rows; `fit_normals` makes them, and a file's buffers restore them.

    Parameters
    ----------
    latent_mean, latent_whitening : Tensor
        ``(L,)`` and ``(L, L)``: the affine map after which latent means have zero mean and unit covariance.
    bank : Tensor
        ``(B, L)``: whitened latent means of training rows.
    path_mean, path_whitening : Tensor
        ``(C,)`` and ``(R, C)``: the same for `path_difference`, restricted to the R directions that vary.
    residual_variance : Tensor
        ``(D,)``: the decoder's squared error, a feature.
    component_mean, component_std : Tensor
        ``(3,)`` each: of `components` on held-out rows.
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

        def mean(whitened: Tensor) -> Tensor:
            distances = torch.cdist(whitened, bank, compute_mode="donot_use_mm_for_euclid_dist")
            return distances.topk(min(NEIGHBOURS, len(bank)), largest=False).values.mean(dim=-1)

        # in small parts: freed blocks as large as all the distances would stay with the process
        return torch.cat([mean(part) for part in torch.split(self.whitened(mu), NEIGHBOUR_ROWS)])

    def path_distance(self, difference: Tensor) -> Tensor:
        """Length of whitened activation differences, ``(N,)``."""
        centred = difference.double() - self.path_mean.double()
        return affine(centred, self.path_whitening.double()).square().sum(dim=-1).sqrt()


def normals_from(buffers: dict[str, Tensor], latent_dim: int, n_features: int) -> Normals:
    """What a file says about the normals, checked, since it may come from anywhere.

    Raises
    ------
    ValueError
        If shapes do not fit.
    TypeError
        If there are other buffers.
    """
    normals = Normals(**buffers)
    n_columns, one = len(normals.path_mean), (latent_dim,)
    for name, shape in {
        "latent_mean": one,
        "latent_whitening": one * 2,
        "bank": (*normals.bank.shape[:1], latent_dim),
        "path_mean": (n_columns,),
        "path_whitening": (*normals.path_whitening.shape[:1], n_columns),
        "residual_variance": (n_features,),
        "component_mean": (3,),
        "component_std": (3,),
    }.items():
        if buffers[name].shape != shape:
            raise ValueError(f"its {name} has shape {tuple(buffers[name].shape)}, expected {shape}")
    return normals


def hidden_activations(encoder: nn.Module, x: Tensor) -> Tensor:
    """Outputs of the encoder's hidden layers side by side, ``(N, C)``.

    Dense layers are taken whole. A convolution's maps are averaged over the cells of a grid, the finest that keeps
    all layers together within 1,024 columns: otherwise whitening them would cost more than the network.
    """
    h = x
    if isinstance(encoder, ConvEncoder):
        h = x.reshape(-1, *encoder.image_shape).permute(0, 3, 1, 2).contiguous()
    layers = next(child for child in encoder.children() if isinstance(child, nn.Sequential))
    n_maps = sum(isinstance(layer, nn.Conv2d) for layer in layers)
    outputs = []
    for layer in layers:
        h = layer(h)
        if isinstance(layer, nn.ReLU):
            outputs.append(h if h.ndim == 2 else pooled(h, PATH_COLUMNS // n_maps))
    return torch.cat(outputs, dim=-1)


def pooled(maps: Tensor, columns: int) -> Tensor:
    """Maps ``(N, channels, height, width)`` averaged over a square grid of cells, flat, at most ``columns`` wide."""
    cells = max(1, math.isqrt(columns // maps.shape[1]))
    height, width = (min(side, cells) for side in maps.shape[2:])
    return functional.adaptive_avg_pool2d(maps, (height, width)).flatten(1)


def path_difference(vae: VAE, x: Tensor) -> Tensor:
    """Hidden activations of rows minus those of their reconstructions, ``(N, C)``."""
    return hidden_activations(vae.encoder, x) - hidden_activations(vae.encoder, vae.reconstruct(x))


def components(vae: VAE, normals: Normals, x: Tensor, noise: Tensor) -> Tensor:
    """ELBO, negative activation-path distance and negative neighbour distance, ``(N, 3)``: higher is more normal."""
    reconstruction, kl = elbo_terms(vae, x, noise)
    path = normals.path_distance(path_difference(vae, x))
    neighbours = normals.neighbour_distance(vae.encode(x).mu)
    return torch.stack([reconstruction.double() - kl.double(), -path, -neighbours], dim=-1)


@torch.no_grad()
def fit_normals(vae: VAE, x: Tensor, x_held_out: Tensor, noise: Tensor, generator: torch.Generator) -> Normals:
    """Statistics of the normals under a trained model.

    Parameters
    ----------
    vae
        Trained.
    x
        Scaled training rows ``(N, D)``; of more than 10,000, as many at random serve.
    x_held_out
        Scaled rows ``(M, D)`` that no weight was fitted to: what is compared with a new row's value rests on them.
    noise
        Latent draws ``(K, 1, L)`` of the scores.
    generator
        Picks the rows; on any device.

    Returns
    -------
    Normals
        On the device and in the precision of ``x``.
    """
    chosen = torch.randperm(len(x), generator=generator, device=generator.device)[:MAX_ROWS]
    x = x[chosen.to(x.device)]
    parts = [(vae.encode(rows).mu.double(), path_difference(vae, rows).double()) for rows in torch.split(x, CHUNK_ROWS)]
    mu, difference = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
    activations = hidden_activations(vae.encoder, x[:CHUNK_ROWS]).double()
    whitening = shrunk_whitening(mu)
    normals = Normals(
        latent_mean=mu.mean(dim=0),
        latent_whitening=whitening,
        bank=(mu[:BANK_ROWS] - mu.mean(dim=0)) @ whitening,
        path_mean=difference.mean(dim=0),
        path_whitening=path_whitening(difference, rounding=1e-6 * float(activations.square().mean().sqrt())),
        residual_variance=residual_variance(vae, x_held_out, noise),
        component_mean=torch.zeros(3),
        component_std=torch.ones(3),
    ).to(x)
    some = x_held_out[:: math.ceil(len(x_held_out) / COMPONENT_ROWS)]
    held_out = torch.cat([components(vae, normals, rows, noise) for rows in torch.split(some, CHUNK_ROWS)])
    mean = held_out.mean(dim=0)
    normals.component_mean.copy_(mean)
    # one row has no spread: its own size stands in, so that its like are not judged by rounding errors
    std = held_out.std(dim=0) if len(held_out) > 1 else mean.abs()
    normals.component_std.copy_(torch.maximum(std, 1e-3 * mean.abs()).clamp(min=1e-6))
    return normals


def shrunk_whitening(mu: Tensor) -> Tensor:
    """The symmetric ``(L, L)`` matrix that whitens latent means ``(N, L)``.

    Their covariance is shrunk towards a multiple of the identity (Ledoit & Wolf, "A well-conditioned estimator for
    large-dimensional covariance matrices", 2004); where the rows do not vary at all, it is taken to be the prior's.
    """
    from sklearn.covariance import ledoit_wolf  # a second, which scoring does without

    centred = mu - mu.mean(dim=0)
    mean_variance = float(centred.square().mean())
    if mean_variance < 1e-12:
        return torch.eye(mu.shape[1], dtype=mu.dtype)
    covariance, _ = ledoit_wolf(centred.numpy(), assume_centered=True)
    variances, directions = torch.linalg.eigh(torch.from_numpy(covariance))
    whitening: Tensor = directions * variances.clamp(min=1e-6 * mean_variance).rsqrt() @ directions.T
    return whitening


def path_whitening(difference: Tensor, rounding: float) -> Tensor:
    """Directions ``(R, C)``, each over its spread, in which rows ``(N, C)`` vary.

    Left out are those whose spread is below a thousandth of the largest or below what ``rounding`` of activations
    makes; where nothing varies, one row of zeros remains.
    """
    centred = difference - difference.mean(dim=0)
    covariance = centred.T @ centred / len(centred)
    nothing = torch.zeros(1, len(covariance), dtype=difference.dtype)
    if float(covariance.trace()) <= rounding**2:  # of mere rounding errors eigh may find no eigenvalues
        return nothing
    variances, directions = torch.linalg.eigh(covariance)
    kept = variances > max(1e-6 * float(variances[-1]), rounding**2)
    if not kept.any():
        return nothing
    whitening: Tensor = directions[:, kept] * variances[kept].rsqrt()
    return whitening.T.contiguous()


def residual_variance(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of generated rows, ``(D,)``, in double precision.

    Each feature starts with ten rows' worth of the features' average, so that a few rows cannot claim that it never
    errs, and is at least a hundredth of that average.
    """
    total = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device)
    for rows in torch.split(x, CHUNK_ROWS):
        posterior = vae.encode(rows)
        for eps in noise:
            residual = rows - vae.generate(vae.rsample(posterior, eps))
            total += residual.double().square().sum(dim=0) / len(noise)
    average = (total.mean() / len(x)).clamp(min=1e-6)
    return ((total + 10 * average) / (len(x) + 10)).clamp(min=float(0.01 * average))
