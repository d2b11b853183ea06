r"""What a model keeps of the images that it was fitted on: how they were made from files, and what their pixels were.

Images that come in another form than those that a model was fitted on (divided by 255, inverted, with red and blue
exchanged) all look anomalous to it, for a reason that nobody looks for. They are known by their values alone. Of the
training images the model keeps the mean distribution of values, a histogram for each channel, and how far single images
are from it. The distance of two distributions is Wasserstein's, the mean distance that values have to move, in parts of
the range of values,

.. math:: d(p, q) = \int_0^1 |F_p(v) - F_q(v)| dv .

Images count as inverted, or as having red and blue exchanged, if as they are they are more than twice as far from the
training images as 99 % of these are, and turned back no farther than these, and at most a third as far as before.
Anomalies that are darker, brighter or of another colour seldom match so well after such a change. Values count as of
another range if most images exceed by a factor of 8 whatever training images had, or what 8 bits hold where these had 8
bits; if they are negative where those never were; or if they are fractions in [0, 1] where those were whole numbers, or
would be like those of the training if they were multiplied by the largest of these.

References
----------
Wasserstein distances of histograms: The Earth Mover's Distance (Rubner et al., 2000)
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from vae_anomaly.errors import UnlikeTrainingWarning

BINS = 32
MAX_IMAGES, MAX_PIXELS = 256, 4_096  # that are looked at, at equal distances
RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (0.0, 65_535.0))
FAR, NEAR, CERTAINLY, CLOSE = 2.0, 1 / 3, 0.02, 0.15
LARGER, SMALLER, NEGATIVE, OUTSIDE = 8.0, 1 / 50, 0.1, 0.2
MATCHING = (0.25, 2.0)  # of the usual largest value, after a conversion
MIN_VALUES = 8  # different ones, below which a conversion is no explanation


@dataclass(frozen=True, kw_only=True)
class FittedImages:
    """What is known of the images that a model was fitted on.

    Parameters
    ----------
    dtype
        Of their values, as NumPy names it.
    low, high
        The smallest and the largest value.
    usual_high
        The median, over images, of their largest absolute value.
    levels
        The mean histogram of each channel, ``BINS`` shares each, over the range that ``low`` and ``high`` suggest.
    spread
        Distance from it that 99 % of the images keep.
    resize, crop
        Height and width that images were brought to, None if they were not; commands do the same to all they read.
    """

    dtype: str
    low: float
    high: float
    usual_high: float
    levels: tuple[tuple[float, ...], ...]
    spread: float
    resize: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None

    @classmethod
    def of(cls, rows: Any, image_shape: tuple[int, ...], dtype: np.dtype[Any]) -> Self:
        """From training rows ``(N, D)``, in memory or on disk, that came in a type."""
        some = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MAX_IMAGES)).astype(int))]
        values = pixels(some, image_shape)
        low, high = float(values.min()), float(values.max())
        found = histograms(values, *natural_range(low, high, dtype))
        mean = found.mean(axis=0)
        return cls(
            dtype=dtype.name,
            low=low,
            high=high,
            usual_high=float(np.median(np.abs(values).max(axis=(1, 2)))),
            levels=tuple(map(tuple, mean.tolist())),
            spread=float(np.quantile([distance(one, mean) for one in found], 0.99)),
        )

    @classmethod
    def from_json(cls, stated: Mapping[str, Any], image_shape: tuple[int, ...] | None) -> Self:
        """From what `to_json` gave, each field checked, for a model of images of this shape.

        Raises
        ------
        ValueError
            If they are of no such images.
        """
        sizes = {name: None if stated[name] is None else tuple(stated[name]) for name in ("resize", "crop")}
        size = sizes["crop"] or sizes["resize"]
        if image_shape is None or len(stated["levels"]) != image_shape[2]:
            raise ValueError("it describes images of another shape than its samples have")
        if stated["low"] > stated["high"] or (size is not None and size != tuple(image_shape[:2])):
            raise ValueError("what it says of its images does not fit the rest")
        return cls(**{**stated, **sizes, "levels": tuple(map(tuple, stated["levels"]))})

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return asdict(self)

    def warn_if_unlike(self, X: np.ndarray, image_shape: tuple[int, ...] | None, source: str) -> None:
        """A warning, `UnlikeTrainingWarning`, if images ``(N, ...)`` are in another form than those of the training."""
        found = None if image_shape is None else self.difference(X, image_shape)
        if found is not None:
            warnings.warn(UnlikeTrainingWarning(f"{source}: {found}"), stacklevel=2)

    def difference(self, X: np.ndarray, image_shape: tuple[int, ...]) -> str | None:
        """In what other form images ``(N, ...)`` are than those of the training, in words; None: in none."""
        if not len(X):
            return None
        step = -(-len(X) // MAX_IMAGES)
        values = pixels(X[::step], image_shape)
        return self._other_range(values, X.dtype) or self._other_form(values)

    def _other_range(self, values: np.ndarray, dtype: np.dtype[Any]) -> str | None:
        if dtype.name == self.dtype and dtype.kind in "ub":
            return None
        high = float(np.median(np.abs(values).max(axis=(1, 2))))
        lowest, highest = float(np.median(values.min(axis=(1, 2)))), float(np.median(values.max(axis=(1, 2))))
        scale = max(abs(self.low), abs(self.high))
        got = natural_range(float(values.min()), float(values.max()), dtype)
        known = f"values of another range: trained on {ends(*self._range)}, got {ends(*got)}"
        if self.low >= 0 and lowest < -NEGATIVE * high:
            return f"{known}; were they standardised?"
        if high > LARGER * scale or (self.dtype == "uint8" and highest > (1 + OUTSIDE) * 255):
            factor = got[1] / self._range[1]
            is_usual = got in RANGES and self._range in RANGES and got[0] == self._range[0]
            return f"{known}; divide by {factor:,.0f} first" if is_usual and factor > 1 else known
        if 0 < high < SMALLER * self.usual_high and self._is_shrunk(values, high):
            return f"{known}; multiply by {self._range[1]:,.0f} first" if self._range in RANGES else known
        return None

    def _is_shrunk(self, values: np.ndarray, high: float) -> bool:
        """Whether values in [0, 1] are those of the training, divided by the largest that there can be."""
        is_unit = self._range[0] >= 0 and values.min() >= 0 and values.max() <= 1
        if not is_unit or len(np.unique(values[:8])) < MIN_VALUES:
            return False
        if np.dtype(self.dtype).kind in "ui":
            return True  # fractions, where whole numbers were
        found = histograms(values * self._range[1], *self._range).mean(axis=0)
        is_near = distance(found, self._mean) <= max(FAR * self.spread, CLOSE)
        return is_near and MATCHING[0] < high * self._range[1] / self.usual_high < MATCHING[1]

    def _other_form(self, values: np.ndarray) -> str | None:
        found = histograms(values, *self._range).mean(axis=0)
        far = distance(found, self._mean)
        if far <= FAR * self.spread + CERTAINLY:
            return None
        changed = {"values are inverted, dark for bright": found[:, ::-1]}
        if len(found) == 3:
            changed["red and blue are exchanged (BGR for RGB)"] = found[::-1]
        for words, turned in changed.items():
            if distance(turned, self._mean) <= min(self.spread, NEAR * far):
                return f"it seems that {words}: their distribution then is that of the training images"
        return None

    @property
    def _range(self) -> tuple[float, float]:
        return natural_range(self.low, self.high, np.dtype(self.dtype))

    @property
    def _mean(self) -> np.ndarray:
        return np.array(self.levels)


def pixels(X: np.ndarray, image_shape: tuple[int, ...]) -> np.ndarray:
    """Some pixels of each image, ``(n, P, channels)`` float64."""
    channels = (*image_shape, 1)[2]
    values = X.reshape(len(X), -1, channels)
    return np.asarray(values[:, :: -(-values.shape[1] // MAX_PIXELS)], dtype=np.float64)


def natural_range(low: float, high: float, dtype: np.dtype[Any]) -> tuple[float, float]:
    """The range of values that these are of: a usual one that they fill at least half, or their own."""
    if dtype == np.uint8:
        return 0.0, 255.0
    for usual_low, usual_high in RANGES:
        if usual_low <= low and usual_high / 2 < high <= usual_high and (usual_low == 0 or low < 0):
            return usual_low, usual_high
    return (low, high) if low < high else (low - 1, low + 1)


def histograms(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Shares of values ``(n, P, channels)`` in equal bins, ``(n, channels, BINS)``; those outside count at the ends."""
    n, _, channels = values.shape
    with np.errstate(over="ignore", invalid="ignore"):
        places = np.clip((values - low) * (BINS / (high - low)), 0, BINS - 1)
    places = np.nan_to_num(places).astype(np.int64)
    offsets = BINS * (np.arange(n)[:, None, None] * channels + np.arange(channels))
    counts = np.bincount((places + offsets).ravel(), minlength=n * channels * BINS)
    return np.asarray(counts.reshape(n, channels, BINS) / values.shape[1])


def distance(found: np.ndarray, known: np.ndarray) -> float:
    """How far values have to move, in parts of their range: the mean over channels of ``(channels, BINS)`` shares."""
    return float(np.abs((found - known).cumsum(axis=1)).mean())


def ends(low: float, high: float) -> str:
    """A range of values, for people."""
    return f"{low:.5g}..{high:.5g}"
