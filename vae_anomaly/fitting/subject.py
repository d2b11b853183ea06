"""What the training loop trains, and on what: a model on its rows, or the networks of one patch on patches.

Of features that are the same in all training rows a model is trained without (`vae_anomaly.fitting.varying_features`).

An architecture of patches has the same small networks at all places of an image. They are trained as a VAE of their
own, the rows of which are patches cut from random places of the training images, as many from each image; patches of
the validation images stop the training. So a step costs the same for images of any size, and memory is bounded: at most
51,200 patches of 256 MiB in all are kept. The variance of their noise is one number in training.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from vae_anomaly.errors import DataError
from vae_anomaly.fitting.varying_features import varying_part
from vae_anomaly.model.likelihoods.gaussian import Gaussian
from vae_anomaly.model.networks.patches import PatchesEncoder
from vae_anomaly.model.places import Grid
from vae_anomaly.model.vae import VAE
from vae_anomaly.storage.rows import Rows, RowsInMemory

N_PATCHES, N_VALIDATION = 51_200, 4_096
PATCH_BYTES = 256 << 20
READ_BYTES = 32 << 20  # of images, at a time


class Subject(NamedTuple):
    """What is trained.

    Attributes
    ----------
    vae
        The model, that of its features that vary, or that of one patch, which shares its networks.
    training
        Raw rows ``(N, D)``, or patches.
    validation
        The same of others, in memory.
    """

    vae: VAE
    training: Rows
    validation: np.ndarray


def subject_of(
    vae: VAE, training: Rows, validation: RowsInMemory, grid: Grid | None, generator: torch.Generator
) -> Subject:
    """A model or that of its features that vary, with its rows as they are; with a grid that of one patch, and patches.

    Raises
    ------
    DataError
        If the scaling differs from pixel to pixel, and patches are wanted.
    """
    if grid is None:
        return Subject(varying_part(vae, training), training, validation.values)
    return Subject(
        vae_of_patch(vae),
        random_patches(training, grid, N_PATCHES, generator),
        random_patches(validation, grid, N_VALIDATION, generator).values,
    )


def vae_of_patch(vae: VAE) -> VAE:
    """The VAE of one patch, which shares the networks and the scaling of a model of patches."""
    loc = vae.scaling.loc
    if loc.ndim:
        raise DataError(
            "architecture='patches' needs one scale for all pixels: use preprocessing='standardize_globally', "
            "'unit_range' or 'none'"
        )
    assert isinstance(vae.encoder, PatchesEncoder), "an architecture of patches has the encoder and decoder of one"
    return VAE(vae.encoder.patch, vae.decoder.get_submodule("patch"), Gaussian().to(loc.device, loc.dtype), vae.scaling)


def random_patches(rows: Rows, grid: Grid, n: int, generator: torch.Generator) -> RowsInMemory:
    """Up to ``n`` raw patches ``(m, q)`` of images ``(N, D)``, as many of each image as of another, one at most more.

    Fewer than ``n`` where they would take more than 256 MiB, or there are fewer places.
    """
    (height, width, _), (h, w) = grid.image_shape, grid.window
    n_bytes = grid.n_patch_features * rows.dtype.itemsize
    n = min(n, PATCH_BYTES // n_bytes, len(rows) * (height - h + 1) * (width - w + 1))
    of_image = np.sort(torch.randperm(max(n, len(rows)), generator=generator)[:n].numpy() % len(rows))
    tops, lefts = (torch.randint(end, (n,), generator=generator).tolist() for end in (height - h + 1, width - w + 1))
    patches = np.empty((n, *grid.patch_shape), rows.dtype)
    n_read = max(1, READ_BYTES // rows.row_bytes)
    wanted = np.unique(of_image)
    for start in range(0, len(wanted), n_read):
        read = wanted[start : start + n_read]
        images = rows[read].reshape(-1, *grid.image_shape)
        first, last = np.searchsorted(of_image, [read[0], read[-1] + 1])
        for place in range(first, last):
            image = images[np.searchsorted(read, of_image[place])]
            patches[place] = image[tops[place] : tops[place] + h, lefts[place] : lefts[place] + w]
    return RowsInMemory(patches.reshape(n, -1), source=rows.source)
