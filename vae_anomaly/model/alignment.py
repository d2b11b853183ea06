r"""Images of one fixed scene, brought into one place and one light before they are scaled.

A camera that shakes and a lamp that ages change every pixel a little. Of a scene with the mean image T such an image
is

.. math::

    x(p) = g \, T(p + s) + e(p)

for a move s of a pixel or two, a gain g of all channels, and what is left, e. Both are estimated by least squares on
the pixels that are known for any move: first the best move by whole pixels, then steps of Gauss and Newton, which
regress the image as it is moved back on T and the slopes of T. A move costs the mean squared residual for each squared
pixel, so that a scene without edges, which does not show a move, keeps its place. The *aligned image* is

.. math::

    y(p) = T(p) + w(p) \, \big[ x(p - s) - g \, T(p) \big] ,

with Lanczos' interpolation, which blurs little and moves by whole pixels exactly. A pixel from beyond the border has
w = 0: it is as expected. The rest is not divided by the gain, since a camera's noise hardly grows with the light. A
move beyond 2 pixels and a gain outside 4/5 to 5/4 are not undone in full: what exceeds them stays odd. So does a turn.

All of it depends on the image alone. A score is that of the aligned image: no Jacobian is added, as the model is
of aligned images.

References
----------
An Iterative Image Registration Technique (Lucas & Kanade, 1981), IJCAI
Lucas-Kanade 20 Years On (Baker & Matthews, 2004), IJCV 56: the slopes are those of the template (inverse compositional)
Lanczos filtering in one and two dimensions (Duchon, 1979), Journal of Applied Meteorology 18
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from vae_anomaly.model.scaling import Scaling

MOST_PIXELS = 2  # of a move, along each axis
MOST_GAIN = 1.25  # and its inverse
MARGIN = MOST_PIXELS + 1  # pixels at each border that the estimate leaves out
STEPS = 4
TAPS = 3.0  # of Lanczos' kernel, to each side
SMALLEST_SIDE, LARGEST_SIDE = 16, 512  # of an image that can be aligned, which takes the square of its sides


class AlignedScaling(Scaling):
    """A `Scaling` of images that are aligned first; its inverse gives aligned images.

    Parameters
    ----------
    loc, scale : Tensor
        ``(D,)`` or ``()``, of aligned images.
    template : Tensor
        The scene, ``(D,)``, in raw units.
    image_shape
        Height, width and channels.
    """

    aligns = True

    def __init__(self, loc: Tensor, scale: Tensor, template: Tensor, image_shape: tuple[int, ...]) -> None:
        super().__init__(loc, scale)
        self.register_buffer("template", template)
        self.template: Tensor
        self.image_shape = image_shape

    def forward(self, raw: Tensor) -> Tensor:
        return super().forward(aligned(raw, self.template, self.image_shape).to(self.loc))


def aligned(raw: Tensor, template: Tensor, image_shape: tuple[int, ...]) -> Tensor:
    """Flat images ``(N, D)`` aligned with a flat template ``(D,)``, in double precision; a gap, NaN, stays there."""
    scene = as_images(template.double()[None], image_shape)
    images = as_images(raw.double(), image_shape)
    gaps = torch.isnan(images)
    images = torch.where(gaps, scene, images)
    shift, gain = estimate(images, scene)
    result = scene + (moved(images, -shift) - gain * scene) * known_share(images, shift)
    return as_rows(result.masked_fill(gaps, torch.nan))


def as_images(rows: Tensor, image_shape: tuple[int, ...]) -> Tensor:
    """Flat images ``(N, D)`` as ``(N, C, H, W)``."""
    return rows.reshape(-1, *image_shape).permute(0, 3, 1, 2)


def as_rows(images: Tensor) -> Tensor:
    """Images ``(N, C, H, W)`` as flat rows ``(N, D)``."""
    return images.permute(0, 2, 3, 1).flatten(1)


def estimate(images: Tensor, scene: Tensor) -> tuple[Tensor, Tensor]:
    """Moves ``(N, 2)``, down and right, and gains ``(N, 1, 1, 1)`` of images ``(N, C, H, W)``, each within its bounds.

    What is not finite, since values overflow, counts as no move and no gain.
    """
    shift, variance = whole_pixels(images, scene)
    steps = torch.tensor([[0.5, 0.0], [-0.5, 0.0], [0.0, 0.5], [0.0, -0.5]], dtype=scene.dtype, device=scene.device)
    down, up, right, left = moved(scene.expand(4, *scene.shape[1:]), steps)
    slopes = torch.stack([scene[0], down - up, right - left])
    basis = inner(slopes)
    gram = basis @ basis.T
    size = gram.diagonal().max().clamp(min=torch.finfo(gram.dtype).tiny)
    of_moves = torch.diag(gram.new_tensor([0.0, 1.0, 1.0]))
    damped = gram / size + 1e-9 * torch.eye(3).to(gram) + (variance / size)[:, None, None] * of_moves
    for _ in range(STEPS):
        fitted = torch.linalg.solve_ex(damped, inner(moved(images, -shift)) @ basis.T / size)[0]
        step = fitted[:, 1:] / fitted[:, :1].abs().clamp(min=1 / MOST_GAIN)
        shift = torch.nan_to_num(shift + step).clamp(-MOST_PIXELS, MOST_PIXELS)
    gain = inner(moved(images, -shift)) @ basis[0] / gram[0, 0].clamp(min=torch.finfo(gram.dtype).tiny)
    gain = torch.nan_to_num(gain, nan=1.0).clamp(1 / MOST_GAIN, MOST_GAIN)
    return shift, gain[:, None, None, None]


def whole_pixels(images: Tensor, scene: Tensor) -> tuple[Tensor, Tensor]:
    """The best move by whole pixels, ``(N, 2)``, and the mean squared residual in place, ``(N,)``."""
    reach = range(-MOST_PIXELS, MOST_PIXELS + 1)
    moves = torch.tensor(list(itertools.product(reach, reach)), dtype=scene.dtype, device=scene.device)
    moves = moves[moves.abs().sum(dim=1).argsort(stable=True)]  # no move first, which wins where none is better
    scenes = inner(moved(scene.expand(len(moves), *scene.shape[1:]), moves))
    x = inner(images)
    explained = (x @ scenes.T).square() / scenes.square().sum(dim=1).clamp(min=torch.finfo(x.dtype).tiny)
    variance = (x.square().sum(dim=1) - explained[:, 0]).clamp(min=0) / x.shape[1]
    best = (explained - variance[:, None] * moves.square().sum(dim=1)).argmax(dim=1)
    return moves[best], torch.nan_to_num(variance, nan=0.0, posinf=0.0)


def inner(images: Tensor) -> Tensor:
    """Pixels that are known for any move, of images ``(N, C, H, W)``, as flat rows."""
    return images[..., MARGIN:-MARGIN, MARGIN:-MARGIN].flatten(1)


def moved(images: Tensor, shift: Tensor) -> Tensor:
    """Images ``(N, C, H, W)`` at the places p + shift ``(N, 2)``; beyond the border the pixel there."""
    height, width = images.shape[2:]
    down, right = weights(height, shift[:, 0]), weights(width, shift[:, 1])
    return down[:, None] @ images @ right[:, None].transpose(2, 3)


def weights(side: int, shift: Tensor) -> Tensor:
    """What pixels of a line weigh at each place of it moved by ``shift``, ``(N,)``: ``(N, side, side)``."""
    places = torch.arange(side, dtype=shift.dtype, device=shift.device)
    distance = (places + shift[:, None]).clamp(0, side - 1)[:, :, None] - places
    kernel = torch.sinc(distance) * torch.sinc(distance / TAPS) * (distance.abs() < TAPS)
    return kernel / kernel.sum(dim=2, keepdim=True)


def known_share(images: Tensor, shift: Tensor) -> Tensor:
    """One where p - shift lies in the image, falling to zero half a pixel beyond it: ``(N, 1, H, W)``."""

    def along(side: int, by: Tensor) -> Tensor:
        places = torch.arange(side, dtype=by.dtype, device=by.device) - by[:, None]
        beyond = (-places).clamp(min=0) + (places - (side - 1)).clamp(min=0)
        return (1 - 2 * beyond).clamp(min=0)

    down, right = along(images.shape[2], shift[:, 0]), along(images.shape[3], shift[:, 1])
    return (down[:, :, None] * right[:, None])[:, None]
