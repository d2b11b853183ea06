r"""How well maps of pixels find defects whose place is known.

With the pixels of all images in one heap, let a threshold t fall from the highest value. :math:`F(t)` is the share of
the normal pixels above it, those of images without a defect included.

*Pixel ROC-AUC* is the area under the share of the defects' pixels above t against F. A large defect counts for more
than a small one, in proportion to its pixels, and with a few anomalous pixels in a thousand an area near one is still
compatible with more false pixels than true ones; *average precision* shows these.

*Per-region overlap* (PRO) counts every defect alike. With the connected regions :math:`R_k` of the masks, k = 1 to K,

.. math:: P(t) = \frac1K \sum_k \frac{|\{p \in R_k : \text{heat}_p > t\}|}{|R_k|}, \qquad
    \mathrm{PRO} = \frac{1}{0.3} \int_0^{0.3} P \, dF

so 1 is perfect, and a map that knows nothing has 0.15 (Bergmann et al.). The three differ in what a defect's pixel
weighs, 1 for the first two and :math:`1 / (K |R_k|)` for the last, so one sort serves them all. Equal values are passed
at once, and the curve is straight between distinct ones.

*Intervals.* Pixels of an image are not independent, so images are resampled, those with a defect apart from those
without, whole with all their regions; 95 % percentile intervals. What the images at hand do not hold no resample holds:
of few images they are too narrow. There is none of fewer than `LEAST_IMAGES` images with a defect, nor where all
resamples give the same, as perfect maps do: that nothing went wrong yet bounds nothing.

References
----------
MVTec AD: A comprehensive real-world dataset for unsupervised anomaly detection (Bergmann et al., 2019),
doi:10.1109/CVPR.2019.00982
The MVTec anomaly detection dataset (Bergmann et al., 2021), doi:10.1007/s11263-020-01400-4
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vae_anomaly.calibration.intervals import TAIL
from vae_anomaly.errors import DataError
from vae_anomaly.evaluation.bootstrap import n_resamples
from vae_anomaly.evaluation.precision_recall import average_precision
from vae_anomaly.evaluation.regions import regions_of
from vae_anomaly.evaluation.roc import area, rates

PRO_LIMIT = 0.3  # share of false positives up to which PRO is averaged
LEAST_IMAGES = 5  # with a defect, for an interval


@dataclass(frozen=True)
class PixelEstimate:
    """A figure of maps with its interval, whose ends are None where there is none."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class PixelEvaluation:
    """What `evaluate_pixels` found.

    Parameters
    ----------
    roc_auc, average_precision, pro
        Of all pixels, and per-region overlap, each in [0, 1].
    average_precision_chance
        What a random map gets: the share of pixels that belong to a defect.
    n_images, n_anomalous
        Images, and those with a defect.
    n_regions
        Defects: connected regions of the masks.
    """

    roc_auc: PixelEstimate
    average_precision: PixelEstimate
    average_precision_chance: float
    pro: PixelEstimate
    n_images: int
    n_anomalous: int
    n_regions: int

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries and numbers, ready for JSON."""
        return asdict(self)


def evaluate_pixels(maps: ArrayLike, masks: ArrayLike) -> PixelEvaluation:
    """ROC-AUC, average precision and per-region overlap of maps, with intervals over images.

    Parameters
    ----------
    maps : array_like of shape (N, H, W)
        How anomalous each pixel is, in any unit that is the same for all images; higher is more anomalous.
    masks : array_like of shape (N, H, W)
        Where the defects are, bool or 1 and 0. Images without a defect belong here too, with an empty mask: false
        positives are counted over all images.

    Returns
    -------
    PixelEvaluation
        The same for the same arrays: resamples come from a fixed seed.

    Raises
    ------
    DataError
        If shapes differ or are others, a value is NaN, a mask is neither bool nor 1 and 0, or no pixel or every pixel
        belongs to a defect.

    Examples
    --------
    >>> masks = np.zeros((6, 8, 8), bool)
    >>> masks[:3, 2:4, 2:5] = True
    >>> maps = np.where(masks, 2.0, np.random.default_rng(0).random(masks.shape))
    >>> evaluate_pixels(maps, masks).pro.value
    1.0
    """
    pixels = OrderedPixels(*checked(maps, masks))
    once = np.ones(pixels.n_images)
    values = pixels.figures(once)
    low = high = np.full(len(values), np.nan)
    if pixels.is_anomalous.sum() >= LEAST_IMAGES:
        rng = np.random.default_rng(0)
        figures = [pixels.figures(pixels.resample(rng)) for _ in range(n_resamples(pixels.n_pixels))]
        low, high = np.quantile(figures, (TAIL, 1 - TAIL), axis=0)
    estimates = [
        PixelEstimate(float(value), *((float(a), float(b)) if a < b else (None, None)))
        for value, a, b in zip(values, low, high, strict=True)
    ]
    return PixelEvaluation(
        roc_auc=estimates[0],
        average_precision=estimates[1],
        average_precision_chance=len(pixels.of_defects) / pixels.n_pixels,
        pro=estimates[2],
        n_images=pixels.n_images,
        n_anomalous=int(pixels.is_anomalous.sum()),
        n_regions=int(pixels.n_regions.sum()),
    )


def pixel_figures(maps: ArrayLike, masks: ArrayLike) -> tuple[float, float, float]:
    """ROC-AUC, average precision and PRO of maps, as `evaluate_pixels` has them, without intervals."""
    pixels = OrderedPixels(*checked(maps, masks))
    return pixels.figures(np.ones(pixels.n_images))


def checked(maps: ArrayLike, masks: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Maps as numbers and masks as bool, ``(N, H, W)`` each; `evaluate_pixels` says what is refused."""
    maps, masks = np.asarray(maps), np.asarray(masks)
    if maps.ndim != 3 or maps.shape != masks.shape:
        raise DataError(f"maps {maps.shape} and masks {masks.shape} must both be (N, H, W), of one shape")
    if np.isnan(maps).any():
        raise DataError(f"{np.isnan(maps).any(axis=(1, 2)).sum()} of {len(maps)} maps hold NaN")
    if not np.isin(masks, (0, 1)).all():
        raise DataError(f"masks must be bool or 1 and 0, got {np.unique(masks)[:5].tolist()}: give masks > 0")
    masks = masks.astype(bool)
    if not masks.any() or masks.all():
        raise DataError(
            f"maps are judged by pixels of both kinds, and {'all' if masks.any() else 'none'} are of a defect"
        )
    return maps, masks


class OrderedPixels:
    """The pixels of all images in order, equal values grouped, so that any weighting of the images takes O(pixels).

    Parameters
    ----------
    maps, masks
        ``(N, H, W)``, numbers and bool.
    """

    def __init__(self, maps: np.ndarray, masks: np.ndarray) -> None:
        self.n_images, self.n_pixels = len(maps), maps.size
        self.is_anomalous = masks.any(axis=(1, 2))
        distinct, group = np.unique(maps.ravel(), return_inverse=True)
        self.n_distinct = len(distinct)
        group = self.n_distinct - 1 - group.ravel()  # from the highest down
        image = np.repeat(np.arange(self.n_images), maps[0].size)
        of_defects, of_normals = np.flatnonzero(masks), np.flatnonzero(~masks)
        self.of_defects, self.of_normals = group[of_defects], group[of_normals]
        self.image_of_defects, self.image_of_normals = image[of_defects], image[of_normals]
        self.n_regions = np.zeros(self.n_images, dtype=int)
        share = np.zeros(masks.shape)  # of its region
        for i in np.flatnonzero(self.is_anomalous):
            numbers, self.n_regions[i] = regions_of(masks[i])
            sizes = np.bincount(numbers.ravel())
            share[i][masks[i]] = 1 / sizes[numbers[masks[i]]]
        self.share_of_region = share.ravel()[of_defects]

    def resample(self, rng: np.random.Generator) -> np.ndarray:
        """How often each image is drawn, ``(N,)``: as many with and as many without a defect as there are."""
        times = np.zeros(self.n_images)
        for kind in (True, False):
            own = np.flatnonzero(self.is_anomalous == kind)
            if len(own):
                times += np.bincount(rng.choice(own, len(own)), minlength=self.n_images)
        return times

    def figures(self, times: np.ndarray) -> tuple[float, float, float]:
        """ROC-AUC, average precision and PRO if each image is there so many times, ``(N,)``."""
        anomalous_times = times[self.image_of_defects]
        normal = np.bincount(self.of_normals, times[self.image_of_normals], self.n_distinct)
        anomalous = np.bincount(self.of_defects, anomalous_times, self.n_distinct)
        overlap = np.bincount(self.of_defects, anomalous_times * self.share_of_region, self.n_distinct)
        return area(anomalous, normal), average_precision(anomalous, normal), mean_overlap(*rates(overlap, normal))


def mean_overlap(fpr: np.ndarray, overlap: np.ndarray) -> float:
    """Mean height of the overlap's curve from no false positives to `PRO_LIMIT` of the normal pixels."""
    inside = fpr <= PRO_LIMIT
    x = np.append(fpr[inside], PRO_LIMIT)
    y = np.append(overlap[inside], np.interp(PRO_LIMIT, fpr, overlap))
    return float(np.trapezoid(y, x) / PRO_LIMIT)
