r"""Patches of an image on a grid of places, and how what they say of a pixel is put together.

An image of H x W pixels is looked at through a window of h x w pixels at P places. Their distance, the stride, is the
same from place to place, and in each direction one more place ends at the image's edge if the stride does not end
there. So every pixel d is covered, by :math:`c_d \ge 1` places.

*Rule.* The window has 16 x 16 pixels, or the image's side where that is less. The stride is 4 as long as this gives at
most 1,024 places, which it does for 128 x 128; then 8, for at most 4,096; and 16 for yet larger images, where windows
only touch. A model file does not hold the grid: it follows from the image's shape.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vae_anomaly.model.constants import constant

SIDE = 16
STRIDES = ((4, 1_024), (8, 4_096))  # and the most places for which each is taken


@dataclass(frozen=True)
class Grid:
    """The places of windows on images ``(H, W, C)``, which come as flat rows ``(N, D)``.

    Parameters
    ----------
    image_shape
        Height, width and channels.
    window
        Height and width.
    tops, lefts
        The first row, and the first column, of the windows; P of them in all, the columns of each row one by one.
    """

    image_shape: tuple[int, int, int]
    window: tuple[int, int]
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    @classmethod
    def of(cls, image_shape: tuple[int, ...]) -> Grid:
        """The grid for images of this shape, by the module's rule."""
        for stride, most in STRIDES:
            grid = cls.with_stride(image_shape, SIDE, stride)
            if grid.n_places <= most:
                return grid
        return cls.with_stride(image_shape, SIDE, SIDE)

    @classmethod
    def with_stride(cls, image_shape: tuple[int, ...], side: int, stride: int) -> Grid:
        """Windows of ``side`` x ``side`` pixels, or as many as the image has, at this distance."""
        height, width, channels = image_shape
        h, w = min(side, height), min(side, width)
        return cls((height, width, channels), (h, w), starts(height, h, stride), starts(width, w, stride))

    @property
    def n_places(self) -> int:
        """P."""
        return len(self.tops) * len(self.lefts)

    @property
    def patch_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of a patch."""
        return (*self.window, self.image_shape[2])

    @property
    def n_patch_features(self) -> int:
        """Numbers in a patch, q."""
        h, w, channels = self.patch_shape
        return h * w * channels

    def cut(self, x: Tensor) -> Tensor:
        """The patches of images ``(N, D)`` at all places, ``(N, P, q)``."""
        images = x.reshape(-1, *self.image_shape)
        tops, lefts = (constant(at, x.device) for at in (self.tops, self.lefts))
        bands = images.unfold(1, self.window[0], 1)[:, tops]  # (N, tops, W, C, h)
        patches = bands.unfold(2, self.window[1], 1)[:, :, lefts]  # (N, tops, lefts, C, h, w)
        return patches.permute(0, 1, 2, 4, 5, 3).reshape(len(images), self.n_places, self.n_patch_features)

    def mean_over_places(self, values: Tensor) -> Tensor:
        """Each pixel's mean over the places that cover it, ``(N, D)``, of numbers for the pixels of patches.

        ``values`` are ``(N, P, q)``. Sums are taken in one order, so a row's bits depend on no other row.
        """
        (h, w), (height, width, channels), n = self.window, self.image_shape, len(values)
        patches = values.reshape(n, len(self.tops), len(self.lefts), h, w, channels)
        bands = values.new_zeros(n, len(self.tops), h, width, channels)
        for place, left in enumerate(self.lefts):
            bands[..., left : left + w, :] += patches[:, :, place]
        images = values.new_zeros(n, height, width, channels)
        for place, top in enumerate(self.tops):
            images[:, top : top + h] += bands[:, place]
        return images.flatten(1) / self.n_covering(values)

    def n_covering(self, like: Tensor) -> Tensor:
        """How many places cover each pixel, ``(D,)``, in the type and on the device of a tensor."""
        rows, columns = like.new_zeros(self.image_shape[0], 1, 1), like.new_zeros(1, self.image_shape[1], 1)
        for top in self.tops:
            rows[top : top + self.window[0]] += 1
        for left in self.lefts:
            columns[:, left : left + self.window[1]] += 1
        return (rows * columns).expand(self.image_shape).flatten()

    def weights(self, like: Tensor) -> Tensor:
        """What a patch's pixels weigh if each pixel of the image weighs one in all: ``(P, q)``, one over `n_covering`.

        In the type and on the device of a tensor. They sum to D.
        """
        return self.cut(1 / self.n_covering(like)[None])[0]


def starts(side: int, window: int, stride: int) -> tuple[int, ...]:
    """Where windows begin along a side, so that they cover it."""
    last = side - window
    return (*range(0, last, stride), last)
