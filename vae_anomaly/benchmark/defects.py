"""Images with local defects of known place, and textures that changed as a whole, to see which of them are found.

What is random comes from the generator given: same generator, same images. Images are 8-bit, but for digits, which keep
their type; masks are bool, true where a pixel belongs to the defect.

weave
    Woven cloth under a fixed camera, in colour: every pixel has its place in the pattern, and phase, light and noise
    vary a little. Defects are a stain (`blob`), a bright `scratch` and a `missing_thread`, under which the crossing
    threads show.
texture
    Oriented filtered noise, grey: nothing has a place, only the statistics are normal. In `local` the filter is turned
    by a right angle within a patch; `orientation`, `scale` and `contrast` change everywhere by `CHANGE`.
digits
    Handwritten digits, given. `spot` inverts a small square on a stroke or beside it, `missing_piece` interrupts one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter, label

from vae_anomaly.benchmark.corruptions import to_dtype, value_range

PITCH = 6  # pixels from one thread to the next
WARP, WEFT = np.array([0.86, 0.72, 0.55]), np.array([0.62, 0.60, 0.62])  # colours of the threads
LIGHT = 0.03  # standard deviation of the light's logarithm
NOISE = 5.0  # of a pixel, in grey levels of 255
CHANGE = 0.15  # of a texture's scale and contrast, and of a right angle for its orientation
PATCH = 12  # side of a local change of a texture, in pixels
PLACES_TRIED = 50  # to interrupt a stroke
EIGHT = np.ones((3, 3))  # a pixel's neighbours, corners too
SPOT, PIECE = 3 / 28, 2.5 / 28  # side of a spot and radius of a missing piece, in sides of the image

Grid: TypeAlias = tuple[np.ndarray, np.ndarray]
Digits: TypeAlias = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


def weave(
    rng: np.random.Generator,
    n: int,
    side: int = 64,
    *,
    kind: str | None = None,
    jitter: float = 0.0,
    light: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of woven cloth.

    Parameters
    ----------
    rng
        Of everything random.
    n, side
        How many, and pixels along each side. Threads and defects have the same size in pixels for any side.
    kind
        The defect, a key of `WEAVE_DEFECTS`, one in each picture; None: no defect.
    jitter
        The camera is off by at most so many pixels, up or down and left or right, uniformly.
    light
        The light is off by at most this share, uniformly; in addition to the little that it always varies.

    Returns
    -------
    images : ndarray of shape (n, side, side, 3), uint8
    masks : ndarray of shape (n, side, side), bool
    """
    images, masks = np.empty((n, side, side, 3), np.uint8), np.zeros((n, side, side), bool)
    for i in range(n):
        offset = rng.normal(0, PITCH / 40, 2) + rng.uniform(-jitter, jitter, 2)
        rows, columns = (np.arange(side)[:, None] + offset[0], np.arange(side)[None] + offset[1])
        missing = np.zeros((side, side), bool)
        if kind == "missing_thread":
            missing = masks[i] = thread_segment(rng, columns[0], side)
        pixels = cloth((rows, columns), missing)
        if kind in SURFACE_DEFECTS:
            cover, change = SURFACE_DEFECTS[kind](rng, side)
            pixels += cover[..., None] * change
            masks[i] = cover > 0.25
        pixels *= np.exp(rng.normal(0, LIGHT)) * (1 + rng.uniform(-light, light))
        # of a standard deviation of about 1 %, over 6 pixels
        pixels *= 1 + 0.2 * gaussian_filter(rng.normal(size=(side, side)), 6, mode="wrap")[..., None]
        images[i] = np.rint(np.clip(pixels + rng.normal(0, NOISE, pixels.shape), 0, 255))
    return images, masks


def cloth(at: Grid, missing: np.ndarray) -> np.ndarray:
    """Cloth without noise, in grey levels ``(H, W, 3)``: plain weave, each thread over one and under the next.

    Parameters
    ----------
    at
        Rows ``(H, 1)`` and columns ``(1, W)`` of the pixels in the pattern.
    missing
        Where there is no warp, ``(H, W)`` bool.
    """
    v, u = at[0] / PITCH, at[1] / PITCH
    across_warp, across_weft = (np.sin(np.pi * (place % 1)) for place in (u, v))  # highest in the middle of a thread
    warp_on_top = ((np.floor(u) + np.floor(v)) % 2 == 0) & ~missing
    shade = np.where(missing, 0.6, 1.0)  # a single layer of threads lies deeper
    warp = (0.35 + 0.65 * across_warp) * (0.75 + 0.25 * across_weft)
    weft = (0.35 + 0.65 * across_weft) * (0.75 + 0.25 * across_warp) * shade
    pixels: np.ndarray = 255 * np.where(warp_on_top[..., None], warp[..., None] * WARP, weft[..., None] * WEFT)
    return pixels


def thread_segment(rng: np.random.Generator, columns: np.ndarray, side: int) -> np.ndarray:
    """Where a warp thread is missing, over 14 to 28 pixels of its length, ``(side, side)`` bool."""
    threads = np.floor(columns / PITCH)
    thread = rng.integers(1, side // PITCH - 1)
    length = rng.integers(14, 29)
    first = rng.integers(0, side - length)
    inside = np.zeros((side, side), bool)
    inside[first : first + length, threads == thread] = True
    return inside


def blob(rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray]:
    """A round stain of 2 to 4 pixels radius with a soft edge, darker or brighter: its cover and its colour."""
    row, column = rng.uniform(6, side - 6, 2)
    y, x = np.mgrid[:side, :side]
    distance = np.hypot(y - row, x - column)
    cover = np.clip(rng.uniform(2, 4) + 0.5 - distance, 0, 1)
    return cover, rng.choice([-1, 1]) * rng.uniform(25, 50) * rng.uniform(0.8, 1.2, 3)


def scratch(rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright line of 12 to 24 pixels, a pixel and a half wide: its cover and its colour."""
    row, column = rng.uniform(8, side - 8, 2)
    angle, half = rng.uniform(0, np.pi), rng.uniform(6, 12)
    y, x = np.mgrid[:side, :side]
    along = (x - column) * np.cos(angle) + (y - row) * np.sin(angle)
    off = np.abs((y - row) * np.cos(angle) - (x - column) * np.sin(angle))
    cover = np.clip(1.25 - off, 0, 1) * np.clip(half + 0.5 - np.abs(along), 0, 1)
    return cover, rng.uniform(30, 60) * np.ones(3)


SURFACE_DEFECTS: dict[str, Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]] = {
    "blob": blob,
    "scratch": scratch,
}
WEAVE_DEFECTS = (*SURFACE_DEFECTS, "missing_thread")


def texture(
    rng: np.random.Generator, n: int, side: int = 128, *, kind: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Oriented filtered noise: stripes of about 8 pixels, 30 degrees from upright, that soon lose their phase.

    Parameters
    ----------
    rng
        Of everything random.
    n, side
        How many, and pixels along each side.
    kind
        What is changed, an item of `TEXTURE_CHANGES`; None: nothing.

    Returns
    -------
    images : ndarray of shape (n, side, side), uint8
    masks : ndarray of shape (n, side, side), bool
        All true where the whole image changed.
    """
    spectrum = np.fft.fft2(rng.normal(size=(n, side, side)))
    angle = 30 + (90 * CHANGE if kind == "orientation" else 0)
    values = filtered(spectrum, angle, 1 + CHANGE if kind == "scale" else 1)
    masks = np.full((n, side, side), kind is not None)
    if kind == "local":
        masks[:] = False
        for mask in masks:
            top, left = rng.integers(0, side - PATCH + 1, 2)
            mask[top : top + PATCH, left : left + PATCH] = True
        cover = gaussian_filter(masks.astype(np.float64), (0, 1, 1))
        values += cover * (filtered(spectrum, angle + 90, 1) - values)
    contrast = 40 * (1 + CHANGE if kind == "contrast" else 1)
    grey = 128 + contrast * values + rng.normal(0, 3, values.shape)
    return np.rint(np.clip(grey, 0, 255)).astype(np.uint8), masks


def filtered(spectrum: np.ndarray, angle: float, scale: float) -> np.ndarray:
    """White noise, given by its spectrum ``(n, S, S)``, filtered to waves of one direction, of variance one.

    Parameters
    ----------
    spectrum
        Of noise of variance one.
    angle
        Of the waves' direction from the horizontal, in degrees.
    scale
        Wavelength in units of 8.3 pixels.
    """
    side = spectrum.shape[-1]
    down, right = np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side), indexing="ij")
    turn = np.deg2rad(angle)
    along, across = right * np.cos(turn) + down * np.sin(turn), down * np.cos(turn) - right * np.sin(turn)
    gain = np.exp(-0.5 * ((np.abs(along * scale) - 0.12) / 0.03) ** 2 - 0.5 * (across * scale / 0.04) ** 2)
    waves: np.ndarray = np.fft.ifft2(spectrum * gain).real / np.sqrt(np.square(gain).mean())
    return waves


TEXTURE_CHANGES = ("local", "orientation", "scale", "contrast")


def spot(images: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A square of a ninth of the side inverted, half of the time on the ink and half beside it; and the masks.

    Images are ``(N, H, W)``; of 28 pixels the square has 3.
    """
    low, high = value_range(images)
    size = max(1, round(SPOT * images.shape[1]))
    result, masks = images.copy(), np.zeros(images.shape, bool)
    for image, mask in zip(result, masks, strict=True):
        ink = ink_of(image, low, high)
        near, nearer = (binary_dilation(ink, EIGHT, iterations=reach) for reach in (size + 1, size // 2 + 1))
        row, column = some_pixel(ink if rng.random() < 0.5 else near & ~nearer, rng)
        top, left = (
            min(max(place - size // 2, 0), full - size) for place, full in zip((row, column), image.shape, strict=True)
        )
        mask[top : top + size, left : left + size] = True
        image[mask] = to_dtype(low + high - image[mask].astype(np.float64), image)
    return result, masks


def missing_piece(images: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A stroke interrupted by a disc without ink, of 5 pixels in 28; and the masks of what was ink there.

    Images are ``(N, H, W)`` and have ink. Where none of some random places leaves ink on both sides, an end is missing.
    """
    low, high = value_range(images)
    radius = max(1.0, PIECE * images.shape[1])
    y, x = np.mgrid[: images.shape[1], : images.shape[2]]
    result, masks = images.copy(), np.zeros(images.shape, bool)
    for image, mask in zip(result, masks, strict=True):
        ink = ink_of(image, low, high)
        n_strokes = label(ink, EIGHT)[1]
        for place in rng.permutation(np.flatnonzero(ink))[:PLACES_TRIED]:
            row, column = divmod(int(place), image.shape[1])
            disc = np.hypot(y - row, x - column) <= radius
            if label(ink & ~disc, EIGHT)[1] > n_strokes:
                break
        mask[:] = disc & (image > low)
        image[disc] = to_dtype(np.array(low), image)
    return result, masks


def ink_of(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Where an image ``(H, W)`` has ink: more than half of the brightest it can be, or else of the brightest it has."""
    top = min(high, float(image.max()))
    ink: np.ndarray = image > (low + top) / 2
    return ink


def some_pixel(where: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """Row and column of a pixel of a mask ``(H, W)``; of any pixel if the mask is empty."""
    places = np.flatnonzero(where) if where.any() else np.arange(where.size)
    row, column = divmod(int(rng.choice(places)), where.shape[1])
    return row, column


DIGIT_DEFECTS: dict[str, Digits] = {"spot": spot, "missing_piece": missing_piece}
