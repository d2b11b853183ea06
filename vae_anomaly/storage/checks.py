"""What may be given to a model: kind, shape and finiteness of the values, and the columns' names.

Every entrance comes through here, for training and for scoring, so that all accept the same and say the same.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from vae_anomaly.errors import DataError
from vae_anomaly.storage.rows import RowsInMemory

WRONG_NUMBER = "X has {} features, but VAEDetector is expecting {} features as input."


class Sized(Protocol):
    """How images were brought to their size, as `vae_anomaly.fitted_images.FittedImages` has it."""

    @property
    def resize(self) -> tuple[int, int] | None:
        """Height and width that they were resized to."""

    @property
    def crop(self) -> tuple[int, int] | None:
        """Height and width of the middle that was kept."""


def checked(X: ArrayLike, source: str = "X", first_row: int = 0, *, gaps: bool = False) -> RowsInMemory:
    """Arrays and plain DataFrames as rows in memory; `vae_anomaly.fitting.samples.samples_of` takes more kinds.

    Parameters
    ----------
    X : array-like of shape (N, D), (N, H, W) or (N, H, W, C)
        Real numbers of any type.
    source
        What messages call it.
    first_row
        The number of its first sample in messages.
    gaps
        Whether NaN may stand for a missing value of a row.

    Raises
    ------
    DataError
        If these are no samples of finite numbers, or a column name comes twice.
    TypeError
        If some column names are text and others are not.
    """
    rows = RowsInMemory(values_of(X), feature_names_of(X), source)
    check_samples(rows.values, source, first_row, rows.feature_names, gaps=gaps)
    return rows


def values_of(X: Any) -> np.ndarray:
    """Samples as an array; a DataFrame of numbers and truth values in the type that holds them all."""
    dtypes = getattr(X, "dtypes", ())
    plain = len(dtypes) and all(isinstance(dtype, np.dtype) and dtype.kind in "fiub" for dtype in dtypes)
    return np.asarray(X, np.result_type(*dtypes) if plain else None)


def feature_names_of(X: Any) -> tuple[str, ...] | None:
    """Column names of samples, by scikit-learn's rule: those of a DataFrame, where all of them are text.

    Raises
    ------
    TypeError
        If some names are text and others are not.
    DataError
        If a name comes twice.
    """
    columns = getattr(X, "columns", None)
    names = () if columns is None else tuple(columns)
    kinds = sorted({type(name).__name__ for name in names if not isinstance(name, str)})
    if not any(isinstance(name, str) for name in names):
        return None
    if kinds:
        raise TypeError(
            "Feature names are only supported if all input features have string names, but your input also has names "
            f"of type {', '.join(kinds)}: convert them with X.columns = X.columns.astype(str)"
        )
    names = tuple(map(str, names))
    if len(set(names)) < len(names):
        name, times = Counter(names).most_common(1)[0]
        raise DataError(f"column names must differ, but {name!r} comes {times} times")
    return names


def check_samples(
    X: np.ndarray, source: str, first_row: int = 0, columns: tuple[str, ...] | None = None, *, gaps: bool = False
) -> None:
    """Refuse what no model can be given: wrong kind or shape, no values, infinity, and NaN unless ``gaps`` may be.

    Raises
    ------
    DataError
        With the first row and column at fault; rows count from 0, after any header.
    """
    if X.dtype.kind not in "fiub":
        raise DataError(f"{source}: needs real numbers, got values of type {X.dtype}")
    if X.ndim not in (2, 3, 4):
        raise DataError(
            f"{source}: needs rows (N, D) or images (N, H, W) or (N, H, W, C), got an array of shape {X.shape}"
        )
    if X.size == 0:
        raise DataError(f"{source}: holds no samples (shape {X.shape})")
    if has_channels_first(X.shape):
        raise DataError(
            f"{source}: {X.shape} looks like images (N, C, H, W), and channels come last here: turn them with "
            "np.moveaxis(X, 1, -1)"
        )
    if X.dtype.kind != "f":
        return
    step = max(1, 4_000_000 // (X.size // len(X)))
    for start in range(0, len(X), step):
        part = X[start : start + step]
        finite = ~np.isinf(part) if gaps and X.ndim == 2 else np.isfinite(part)
        if not finite.all():
            row, *place = np.argwhere(~finite)[0].tolist()
            value = X[(start + row, *place)]
            where = columns[place[0]] if columns is not None else ", ".join(map(str, place))
            raise DataError(
                f"{source}: row {first_row + start + row}, column {where} is {value}: "
                "fill in or drop missing and infinite values first"
            )


def has_channels_first(shape: tuple[int, ...]) -> bool:
    """Whether ``(N, a, b, c)`` is (N, C, H, W): images of that few pixels and that many channels are no images."""
    return len(shape) == 4 and shape[1] in (1, 3, 4) and min(shape[2:]) > 4


def flat_rows(
    X: np.ndarray, sample_shape: tuple[int, ...], image_shape: tuple[int, ...] | None, sized: Sized | None = None
) -> np.ndarray:
    """Images ``(N, H, W)`` or ``(N, H, W, C)`` as rows ``(N, D)``; rows as they are.

    Parameters
    ----------
    X
        Of a model that was fitted on samples of ``sample_shape``.
    image_shape
        Height, width and channels, if those are images.
    sized
        How those images came to their size, if it is known.

    Raises
    ------
    DataError
        If they are of another shape.
    """
    shape, n_features = X.shape[1:], math.prod(sample_shape)
    if len(shape) > 1:
        if X.shape == sample_shape:
            raise DataError(f"a single sample of shape {X.shape} has to come as a set of one: X[None]")
        if math.prod(shape) != n_features or (shape != sample_shape and (*shape, 1)[:3] != image_shape):
            hint = how_to_size(shape, image_shape, sized) if image_shape is not None else ""
            raise DataError(
                f"VAEDetector was fitted on samples of shape {sample_shape}, got images of shape {shape}{hint}"
            )
        return X.reshape(len(X), -1)
    if shape[0] != n_features:
        raise DataError(WRONG_NUMBER.format(shape[0], n_features))
    return X


def how_to_size(shape: tuple[int, ...], image_shape: tuple[int, ...], sized: Sized | None) -> str:
    """What to do about images of a shape that differ from those of a model, ``image_shape``, in size alone."""
    if (*shape, 1)[2] != image_shape[2]:
        return ""
    known = {name: size for name in ("resize", "crop") if (size := getattr(sized, name, None)) is not None}
    how = ", ".join(f"{name}={size}" for name, size in (known or {"resize": image_shape[:2]}).items())
    with_function = f"vae_anomaly.datasets.images_at_size(X, {how})"
    if known:
        return f": bring them to that size as those of the training were, by {with_function}"
    return (
        f": bring them to that size first, as {with_function} does, or fit with --resize "
        f"{image_shape[0]}x{image_shape[1]}, which commands then do to all images that they read"
    )
