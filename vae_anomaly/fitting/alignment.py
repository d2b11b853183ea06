"""Whether images show one fixed scene, by the normals alone; and the fit to such images as a moving camera takes them.

*The rule.* Up to 100 training images, at equal distances: every second one makes a template, and the others are aligned
with it (`vae_anomaly.model.alignment`). They show one scene if the template then explains at least 80 % of the variance
of the pixels of nine in ten of them. A texture has less than nothing. Images below 32 x 32 are left as they are.

*The template* is the mean of images, which are then aligned with it and make the next, three times, so that it is sharp
where they moved.

*Moved copies.* An image taken between two pixels is interpolated once it is moved back, which sharp edges show, and a
camera that stood still gives no such images. So each image is moved by up to a pixel along each axis, at random, before
it is aligned, and the networks, the statistics and the thresholds are fitted to that: they know what moving does to
normals. Without, a model of cloth under a still camera flagged 38 % of the normals once it moved; with it, 2 %.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vae_anomaly.errors import DataError
from vae_anomaly.fitting.architecture import FEWEST_IMAGES
from vae_anomaly.model.alignment import (
    LARGEST_SIDE,
    SMALLEST_SIDE,
    AlignedScaling,
    aligned,
    as_images,
    as_rows,
    estimate,
    moved,
)
from vae_anomaly.model.build import Choices
from vae_anomaly.model.scaling import Scaling
from vae_anomaly.registry import LIKELIHOODS, PRIORS
from vae_anomaly.storage.rows import Rows, RowsInMemory

SMALLEST_SIDE_OF_AUTO = 32
MOST_IMAGES = 100  # that show whether there is a scene; twice as many make its template
ROUNDS = 3
LEAST_SHARE, OF_IMAGES = 0.8, 0.9
MOST_BYTES = 1 << 30  # of copies in memory
BLOCK_VALUES = 1 << 19
MOVE = 1.0  # of a copy, in pixels to each side


@dataclass(frozen=True)
class Scene:
    """A fixed scene that images show.

    Parameters
    ----------
    template
        ``(D,)`` float64, in raw units.
    image_shape
        Height, width and channels.
    """

    template: Tensor
    image_shape: tuple[int, ...]

    def scaling(self, of_aligned: Scaling) -> AlignedScaling:
        """The scaling of raw images, from that of aligned ones."""
        template = self.template.to(of_aligned.loc)
        return AlignedScaling(of_aligned.loc, of_aligned.scale, template, self.image_shape)

    def seen(
        self, parts: tuple[Rows, Rows, Rows], generator: torch.Generator
    ) -> tuple[RowsInMemory, RowsInMemory, RowsInMemory]:
        """Copies of the parts of a fit: of the first two aligned, of the last, which the model will align, raw."""
        training, validation, calibration = (self.moved_copies(part, generator) for part in parts)
        return self.aligned(training), self.aligned(validation), calibration

    def moved_copies(self, rows: Rows, generator: torch.Generator) -> RowsInMemory:
        """Each of raw images ``(N, D)`` moved by up to a pixel along each axis."""

        def move(raw: Tensor) -> Tensor:
            shift = MOVE * (2 * torch.rand(len(raw), 2, generator=generator, dtype=torch.float64) - 1)
            gaps = torch.isnan(raw)
            images = as_images(torch.where(gaps, self.template, raw), self.image_shape)
            return as_rows(moved(images, shift)).masked_fill(gaps, torch.nan)

        return self._of_blocks(rows, move)

    def aligned(self, rows: Rows) -> RowsInMemory:
        """Raw images ``(N, D)``, aligned."""
        return self._of_blocks(rows, partial(aligned, template=self.template, image_shape=self.image_shape))

    def _of_blocks(self, rows: Rows, function: Callable[[Tensor], Tensor]) -> RowsInMemory:
        size, dtype = max(1, BLOCK_VALUES // rows.shape[1]), np.float64 if rows.dtype == np.float64 else np.float32
        values = np.empty(rows.shape, dtype)
        for start in range(0, len(rows), size):
            raw = torch.from_numpy(np.array(rows[start : start + size], dtype=np.float64))
            values[start : start + size] = function(raw).numpy()
        return RowsInMemory(values, rows.feature_names, rows.source)


def chosen_scene(parameters: Mapping[str, Any], choices: Choices, training: Rows) -> tuple[Scene | None, str]:
    """The scene that training images ``(N, D)`` are to be aligned with, if any, and why "auto" chose it, or "".

    Raises
    ------
    DataError
        If images are to be aligned, and cannot be.
    """
    wanted = parameters["alignment"]
    if wanted == "none" or (wanted == "auto" and choices.image_shape is None):
        return None, ""
    hindrance = what_hinders(parameters, choices, training)
    if wanted == "camera" and hindrance:
        raise DataError(f"alignment='camera' is not for {hindrance}, or use alignment='none'")
    if hindrance or choices.image_shape is None:
        return None, ""
    why = ""
    if wanted == "auto":
        if min(choices.image_shape[:2]) < SMALLEST_SIDE_OF_AUTO or len(training) < FEWEST_IMAGES:
            return None, ""
        share = share_explained(even(training, MOST_IMAGES), choices.image_shape)
        if share < LEAST_SHARE:
            return None, ""
        why = f"their mean explains {share:.0%} or more of nine in ten of them"
    return Scene(template_of(even(training, 2 * MOST_IMAGES), choices.image_shape), choices.image_shape), why


def what_hinders(parameters: Mapping[str, Any], choices: Choices, training: Rows) -> str:
    """What images cannot be aligned with, and what to do; an empty string if they can."""
    if choices.image_shape is None:
        return "rows that are no images: pass images as (N, H, W) or (N, H, W, C), give image_shape="
    if min(choices.image_shape[:2]) < SMALLEST_SIDE or max(choices.image_shape[:2]) > LARGEST_SIDE:
        height, width, _ = choices.image_shape
        return f"images of {height} x {width} pixels: resize them to sides of {SMALLEST_SIDE} to {LARGEST_SIDE}"
    if choices.grid is not None:
        return "architecture='patches': resize the images, use architecture='mlp'"
    if LIKELIHOODS.entry(choices.likelihood).facts.get("support") is not None:
        return f"likelihood={choices.likelihood!r}, whose values are bounded: use likelihood='auto'"
    if PRIORS[choices.prior].leaves_out_own_row:
        return f"prior={choices.prior!r}, which knows training images as they are: use prior='auto'"
    if choices.preprocessing(training.dtype) == "by_column":
        return "preprocessing='by_column': use preprocessing='auto'"
    if not training.in_memory or training.shape[0] * training.shape[1] * 4 > MOST_BYTES:
        return "more images than memory is taken for: give fewer"
    return ""


def even(rows: Rows, n: int) -> Tensor:
    """At most ``n`` rows at equal distances, ``(n, D)`` float64; a gap has the mean of its pixel."""
    n = min(n, len(rows))
    values = np.array(rows[np.arange(n) * len(rows) // n], dtype=np.float64)
    gaps = np.isnan(values)
    if gaps.any():
        known = np.maximum((~gaps).sum(axis=0), 1)
        values = np.where(gaps, np.where(gaps, 0, values).sum(axis=0) / known, values)
    return torch.from_numpy(values)


def template_of(rows: Tensor, image_shape: tuple[int, ...]) -> Tensor:
    """The mean ``(D,)`` of images ``(N, D)`` that are brought into one place and one light."""
    images = as_images(rows, image_shape)
    template = images.mean(dim=0, keepdim=True)
    for _ in range(ROUNDS):
        shift, gain = estimate(images, template)
        template = (moved(images, -shift) / gain).mean(dim=0, keepdim=True)
    return as_rows(template)[0]


def share_explained(rows: Tensor, image_shape: tuple[int, ...]) -> float:
    """What the template of every second of images ``(N, D)`` explains of nine in ten of the others' variance."""
    template, others = template_of(rows[::2], image_shape), rows[1::2]
    rest = (aligned(others, template, image_shape) - template).square().sum(dim=1)
    total = (others - others.mean(dim=1, keepdim=True)).square().sum(dim=1)
    shares = 1 - rest / total.clamp(min=torch.finfo(total.dtype).tiny)
    return float(shares.quantile(1 - OF_IMAGES))
