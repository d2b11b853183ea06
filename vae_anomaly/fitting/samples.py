"""Samples in any form that `VAEDetector` accepts, turned into checked rows in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_array

from vae_anomaly.columns import Column, Columns
from vae_anomaly.errors import DataError
from vae_anomaly.storage.checks import check_samples, checked, feature_names_of
from vae_anomaly.storage.numpy_files import open_npy
from vae_anomaly.storage.rows import Rows, RowsInMemory
from vae_anomaly.storage.spool import open_rows, slices, spool
from vae_anomaly.tables.codes import TableInference
from vae_anomaly.tables.frames import as_frame, dense, frame_of_array, is_frame, is_plain, is_sparse

SomeRows = TypeVar("SomeRows", bound=Rows)
OF_OBJECTS = "OSUTMm"  # kinds of arrays whose rows make a table: objects, text, dates and durations


def samples_of(X: ArrayLike, source: str = "X", first_row: int = 0, *, gaps: bool = False) -> RowsInMemory:
    """Samples of plain numbers as rows in memory, checked.

    Parameters
    ----------
    X : array-like of shape (N, D), (N, H, W) or (N, H, W, C)
        What scikit-learn takes: lists, arrays, DataFrames with pandas' own types among them. Images come as arrays.
    source
        What messages call it.
    first_row
        The number of its first sample in messages.
    gaps
        Whether NaN may stand for a missing value of a row.

    Returns
    -------
    RowsInMemory
        The values in the type that they have.

    Raises
    ------
    ValueError
        If these are no samples of finite numbers, or a column name comes twice.
    TypeError
        If values are no numbers, or some column names are text and others are not.
    """
    refuse_no_array(X, source)
    names = feature_names_of(X)
    with np.errstate(over="ignore", invalid="ignore"):  # check_array sums the values, which may be large
        values = check_array(
            X, dtype="numeric", allow_nd=is_images(X), ensure_all_finite=False, estimator="VAEDetector"
        )
    check_samples(values, source, first_row, names, gaps=gaps)
    return RowsInMemory(values, names, source)


def refuse_no_array(X: Any, source: str) -> None:
    """Refuse what scikit-learn takes for a single value, or prints in full, with words of its own.

    Raises
    ------
    TypeError
        If it is no array at all.
    DataError
        If it is of complex numbers.
    """
    if X is None or isinstance(X, dict | set | str | bytes | Iterator):
        hint = ": fit_batches and score_batches take samples in batches" if isinstance(X, Iterator) else ""
        raise TypeError(
            f"{source}: needs rows (N, D) or images (N, H, W) or (N, H, W, C), got {type(X).__name__}{hint}"
        )
    if isinstance(X, np.ndarray) and X.dtype.kind == "c":
        raise DataError(f"{source}: Complex data not supported: give real and imaginary parts as columns")


def is_images(X: ArrayLike) -> bool:
    """Whether samples come as images ``(N, H, W)`` or ``(N, H, W, C)``."""
    return getattr(X, "ndim", 2) in (3, 4)


def rows_to_fit(X: Any, parameters: Mapping[str, Any], source: str = "X") -> RowsInMemory:
    """Samples to fit as rows in memory, a table's columns found out; the one way in.

    Parameters
    ----------
    X
        As `samples_of` takes it; or a table with categories, dates and gaps: a DataFrame of pandas, polars or another
        library that narwhals knows, or rows of objects. Sparse rows become dense.
    parameters
        Of `VAEDetector`: ``columns`` and ``missing`` count here.
    source
        What messages call it.

    Raises
    ------
    ValueError
        If these are no samples that a model can be given.
    TypeError
        If they are no samples at all.
    """
    missing = parameters["missing"]
    X = tabular(X)
    if not needs_inference(X, parameters):
        return with_gaps(samples_of(X, source, gaps=missing != "refuse"), missing)
    has_names = feature_names_of(X) is not None
    inference = TableInference(parameters["columns"], missing, source)
    codes = inference.add(X)
    columns, recodes = inference.columns()
    codes = inference.recoded(codes, columns, recodes)
    return RowsInMemory(
        codes, columns.names if has_names else None, source, None if inference.is_plain(columns) else columns
    )


@contextmanager
def opened_to_fit(path: Path, parameters: Mapping[str, Any]) -> Iterator[Rows]:
    """As `rows_to_fit`, of a ``.npy`` file: rows on disk; raises as `spooled_to_fit`."""
    missing, array = parameters["missing"], open_npy(path)
    if array.ndim == 2 and array.dtype.kind in OF_OBJECTS:
        with spooled_to_fit(slices(array), parameters, str(path)) as rows:
            yield rows
        return
    with open_rows(path, partial(samples_of, gaps=missing != "refuse")) as rows:
        yield with_gaps(rows, missing)


@contextmanager
def spooled_to_fit(batches: Iterable[Any], parameters: Mapping[str, Any], source: str = "the data") -> Iterator[Rows]:
    """As `rows_to_fit`, of samples that come in batches: rows on disk.

    Raises
    ------
    ValueError
        As `rows_to_fit`, or if batches differ in shape, type or columns.
    OSError
        If the temporary file has no room.
    """
    missing = parameters["missing"]

    def check(batch: ArrayLike, name: str, first_row: int) -> RowsInMemory:
        return samples_of(batch, name, first_row, gaps=missing != "refuse")

    remaining = map(tabular, batches)
    first = next(remaining, None)
    if not is_frame(first):
        with spool(remaining if first is None else chain([first], remaining), source, check) as rows:
            yield with_gaps(rows, missing)
        return
    has_names = feature_names_of(first) is not None
    inference = TableInference(parameters["columns"], missing, source)
    of_codes = partial(checked, gaps=True)
    with spool(
        (inference.add(frame_like(batch, source)) for batch in chain([first], remaining)), source, of_codes
    ) as rows:
        columns, recodes = inference.columns()
        names = columns.names if has_names else None
        found = None if inference.is_plain(columns) else columns
        if (
            inference.dtype == rows.dtype
            and len(columns) == len(columns.all)
            and not any(r is not None for r in recodes)
        ):
            yield rows.described(names, found)
            return
        with spool((inference.recoded(chunk, columns, recodes) for chunk in rows.chunks()), source, of_codes) as final:
            yield final.described(names, found)


def tabular(X: Any) -> Any:
    """Samples with a DataFrame in place of any other table, rows of objects among them; sparse rows as dense ones."""
    if is_frame(X):
        return as_frame(X)
    if is_sparse(X):
        return dense(X)
    if isinstance(X, np.ma.MaskedArray):
        X = with_nan(X)
    if isinstance(X, list | tuple) and X and all(map(is_image, X)):
        return stacked(X)
    if isinstance(X, list | tuple) or (isinstance(X, np.ndarray) and X.dtype.kind in OF_OBJECTS):
        array = array_of(X)
        if array.ndim == 2 and array.size and array.dtype.kind in OF_OBJECTS:
            return frame_of_array(array if array.dtype.kind in "Mm" else np.array(X, dtype=object))
    return X


def array_of(X: Any) -> np.ndarray:
    """Rows in lists as an array.

    Raises
    ------
    DataError
        If they differ in length.
    """
    try:
        return np.asarray(X)
    except ValueError as error:
        sizes = [np.size(row) if hasattr(row, "shape") else len(row) if hasattr(row, "__len__") else 1 for row in X]
        odd = next((i for i, size in enumerate(sizes) if size != sizes[0]), None)
        if odd is None:
            raise
        raise DataError(
            f"row {odd} has {sizes[odd]} values, and row 0 has {sizes[0]}: all rows need the same columns"
        ) from error


def is_image(sample: Any) -> bool:
    """Whether a sample is an array of at least two dimensions, or becomes one, as Pillow's images do."""
    return not is_frame(sample) and len(getattr(sample, "shape", getattr(sample, "size", ()))) > 1


def stacked(images: Sequence[Any]) -> np.ndarray:
    """A list of images, each an array ``(H, W)`` or ``(H, W, C)``, as one array.

    Raises
    ------
    DataError
        If they differ in shape.
    """
    arrays = [np.asarray(image) for image in images]
    odd = next((i for i, array in enumerate(arrays) if array.shape != arrays[0].shape), None)
    if odd is not None:
        raise DataError(
            f"image {odd} has shape {arrays[odd].shape}, and image 0 has {arrays[0].shape}: bring all to one height, "
            "width and number of channels first"
        )
    return np.stack(arrays)


def frame_like(batch: Any, source: str) -> Any:
    """A batch that is a table as those before it are; refused if it is none."""
    if not is_frame(batch):
        raise DataError(f"{source}: a batch is no table with columns, as those before it are")
    return batch


def with_nan(X: np.ma.MaskedArray[Any, Any]) -> np.ndarray:
    """A masked array as one that has NaN, or None, where it is masked."""
    values, mask = np.asarray(X.data), np.ma.getmaskarray(X)
    if not mask.any():
        return values
    filled = values.astype(
        values.dtype if values.dtype.kind == "f" else float if values.dtype.kind in "iub" else object
    )
    filled[mask] = np.nan if filled.dtype.kind == "f" else None
    return filled


def needs_inference(X: Any, parameters: Mapping[str, Any]) -> bool:
    """Whether samples that `tabular` gave are a table whose columns have to be found out."""
    return is_frame(X) and (bool(parameters["columns"]) or not is_plain(X))


def with_gaps(rows: SomeRows, missing: str) -> SomeRows:
    """Rows of plain numbers, their columns described if some have gaps.

    Raises
    ------
    DataError
        If there is nothing but gaps.
    """
    if rows.dtype.kind != "f" or len(rows.shape) != 2:
        return rows
    gaps, filled = np.zeros(rows.shape[1], dtype=bool), False
    for chunk in rows.chunks():
        is_gap = np.isnan(chunk)
        gaps |= is_gap.any(axis=0)
        filled = filled or not is_gap.all()
    if not filled:
        raise DataError(f"{rows.source}: holds no value, only gaps")
    if not gaps.any():
        return rows
    names = rows.feature_names or tuple(str(place) for place in range(rows.shape[1]))
    columns = Columns(
        Column(name=name, kind="number", marks_gaps=bool(gap) and missing == "category", why="numbers")
        for name, gap in zip(names, gaps, strict=True)
    )
    return rows.described(rows.feature_names, columns)
