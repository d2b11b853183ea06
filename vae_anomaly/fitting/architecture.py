r"""The choice of an architecture, where the parameter says "auto": from normal images alone, before anything is fitted.

- Tables, and images of less than 32 x 32 pixels: "mlp".
- Images of more than 24,576 numbers: "patches", since dense networks would have over 25 million weights.
- Other images: "patches" if pixels carry no position, otherwise "mlp".

*Position.* Where a pixel's place says something of its value, images that are moved aside fit other images less well.
Of up to 200 images, each without its own mean, one half gives a mean image and up to 16 principal components V; of the
variance of the other half these explain the share

.. math::

    R^2 = 1 - \frac{\sum_i \lVert (I - V^T V) (x_i - \bar x) \rVert^2}{\sum_i \lVert x_i \rVert^2}.

The same is asked of the other half moved by a quarter to three quarters of their sides, at random and around the edges.
For a stationary texture both shares are the same, whether few components explain much of it or not; for digits,
clothes, characters, and for cloth whose threads lie on the same pixels in every image, the share falls by 0.25 to 2 (it
is negative where the mean image is misleading). Strokes are thin, so both are also asked of images reduced to 16 x 16
cells, and the larger fall counts. If it is below 0.2, pixels carry no position.

References
----------
Turk & Pentland (1991), Eigenfaces for Recognition, Journal of Cognitive Neuroscience 3: images of things in place have
few principal components
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vae_anomaly.model.build import Choices
from vae_anomaly.registry import ARCHITECTURES
from vae_anomaly.storage.rows import Rows

SMALLEST_SIDE = 32  # two patches
MOST_OF_MLP = 24_576  # numbers in an image
MOST_IMAGES, FEWEST_IMAGES = 200, 10
N_COMPONENTS = 16
CELLS = 16
LEAST_FALL = 0.2


def chosen_architecture(parameters: Mapping[str, Any], choices: Choices, rows: Rows) -> tuple[str, str]:
    """The architecture for normal samples ``(N, D)``, and why in a few words; of what is no image, "".

    Parameters
    ----------
    parameters
        Of `VAEDetector`, by name, the architecture "auto".
    choices
        Of these parameters, for samples of this shape.
    rows
        All that are given to fit.
    """
    if choices.image_shape is None or min(choices.image_shape[:2]) < SMALLEST_SIDE:
        return "mlp", ""
    if name := parameter_in_the_way(parameters):
        return "mlp", f"{name}={parameters[name]!r} is not for patches"
    if choices.n_features > MOST_OF_MLP:
        return "patches", f"an image has {choices.n_features:,} numbers, more than the {MOST_OF_MLP:,} of mlp"
    if len(rows) < FEWEST_IMAGES:
        return "mlp", f"fewer than {FEWEST_IMAGES} images do not show whether pixels have a place"
    in_place, aside = shares_explained(even_images(rows, choices.image_shape))
    explained = f"other images explain {in_place:.0%} of an image in its place and {aside:.0%} moved aside"
    if in_place - aside < LEAST_FALL:
        return "patches", f"a texture, whose pixels have no place: {explained}"
    return "mlp", f"pixels have a place: {explained}"


def parameter_in_the_way(parameters: Mapping[str, Any]) -> str:
    """The first parameter that was given a value which patches cannot have, or an empty string."""
    facts = ARCHITECTURES.entry("patches").facts
    possible = {
        "likelihood": ("auto", "gaussian"),
        "prior": ("auto", "normal"),
        "preprocessing": ("auto", "standardize_globally", "unit_range", "none"),
    }
    for name, values in possible.items():
        if parameters[name] not in values:
            return name
    return "score_name" if parameters["score_name"] in facts["scores_left_out"] else ""


def even_images(rows: Rows, image_shape: tuple[int, ...]) -> Tensor:
    """Up to 200 images at equal distances, ``(n, C, H, W)``, each without its own mean."""
    n = min(MOST_IMAGES, len(rows))
    x = torch.from_numpy(np.array(rows[np.arange(n) * len(rows) // n], dtype=np.float32))
    return (x - x.mean(dim=1, keepdim=True)).reshape(-1, *image_shape).permute(0, 3, 1, 2)


def shares_explained(images: Tensor) -> tuple[float, float]:
    """R^2 of images ``(n, C, H, W)`` in place and moved aside; of the same reduced, if it falls more there."""
    height, width = images.shape[2:]
    rng = np.random.default_rng(0)
    by = (rng.integers(side // 4, side - side // 4 + 1, len(images)).tolist() for side in (height, width))
    aside = torch.stack([image.roll(shifts, (1, 2)) for image, *shifts in zip(images, *by, strict=True)])
    cells = min(CELLS, height), min(CELLS, width)
    in_place = explained_shares(images.flatten(1), aside.flatten(1))
    reduced = explained_shares(*(functional.adaptive_avg_pool2d(x, cells).flatten(1) for x in (images, aside)))
    return max(in_place, reduced, key=fall)


def fall(shares: tuple[float, float]) -> float:
    """The first minus the second."""
    return shares[0] - shares[1]


def explained_shares(x: Tensor, aside: Tensor) -> tuple[float, float]:
    """R^2 of every second row of ``(n, D)``, and of the same rows of ``aside``, by the other rows of ``x``."""
    known = x[::2].double()
    mean = known.mean(dim=0)
    _, _, directions = torch.linalg.svd(known - mean, full_matrices=False)
    directions = directions[: min(N_COMPONENTS, len(known) // 4)]

    def share(new: Tensor) -> float:
        rest = new - mean
        rest = rest - rest @ directions.T @ directions
        total = float(new.square().sum())
        return 1 - float(rest.square().sum()) / total if total else 1.0

    return share(x[1::2].double()), share(aside[1::2].double())
