"""What counts as a table, and any of them as a pandas DataFrame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.errors import DataError
from vae_anomaly.storage.rows import TYPES

FEW_ROWS = 20
BLOCK_BYTES = 32 << 20

if TYPE_CHECKING:
    import narwhals as nw
    import pandas as pd


def is_frame(X: Any) -> bool:
    """Whether it has columns of its own, as pandas', polars' and Arrow's tables have."""
    return hasattr(type(X), "columns") or hasattr(type(X), "column_names")  # a lazy frame's own would be computed


def as_frame(X: Any) -> pd.DataFrame:
    """A table as a DataFrame: pandas' as it is, another's copied.

    Raises
    ------
    DataError
        If it is a lazy frame.
    TypeError
        If it is no table that narwhals knows.
    """
    import pandas as pd

    if isinstance(X, pd.DataFrame):
        return X
    import narwhals as nw

    frame = nw.from_native(X)
    if isinstance(frame, nw.LazyFrame):
        raise DataError(f"X is a lazy {type(X).__name__}, whose values are not computed yet: call .collect() first")
    return pd.DataFrame({column.name: values_of_column(column) for column in frame.iter_columns()})


def values_of_column(column: nw.Series[Any]) -> Any:
    """The values of another library's column, as pandas takes them."""
    import narwhals as nw

    if column.dtype == nw.Categorical and column.implementation.is_pyarrow():
        return column.to_native().to_pandas()  # narwhals makes a gap of Arrow's dictionaries their last value
    return column.to_numpy()


def is_plain_type(dtype: Any) -> bool:
    """Whether this is a type of NumPy's for real numbers."""
    return isinstance(dtype, np.dtype) and dtype.kind in "fiu"


def value_type(frame: pd.DataFrame) -> np.dtype[Any]:
    """What a table's codes are computed in: NumPy's type for all columns if models compute with it, else float64."""
    if not all(map(is_plain_type, frame.dtypes)):
        return TYPES[0]
    dtype = np.result_type(*frame.dtypes)
    return dtype if dtype in TYPES else TYPES[0]


def frame_of_array(X: np.ndarray) -> pd.DataFrame:
    """Rows ``(N, D)`` of any values as a DataFrame, whose columns are called by their places."""
    import pandas as pd

    return pd.DataFrame(X).infer_objects()


def is_sparse(X: Any) -> bool:
    """Whether these are rows of a sparse matrix, or a DataFrame of sparse columns."""
    return hasattr(X, "toarray") and hasattr(X, "nnz")


def dense_blocks(X: Any) -> Iterator[np.ndarray]:
    """Sparse rows as dense ones, 32 MiB at a time."""
    rows = X.tocsr()
    step = max(1, BLOCK_BYTES // max(1, 8 * X.shape[1]))
    for start in range(0, X.shape[0], step):
        yield dense(rows[start : start + step])


def dense(X: Any) -> np.ndarray:
    """Sparse rows ``(N, D)`` with all their zeros."""
    rows: np.ndarray = X.toarray()
    return rows


def is_plain(frame: pd.DataFrame) -> bool:
    """Whether all columns are numbers of NumPy's types without a gap, and none counts the rows."""
    return all(map(is_plain_type, frame.dtypes)) and not any(
        counts_rows(values) if values.dtype.kind in "iu" else values.isna().any() for _, values in frame.items()
    )


def counts_rows(values: pd.Series) -> bool:
    """Whether whole numbers rise by one from row to row."""
    numbers = values.to_numpy()
    return len(numbers) > FEW_ROWS and bool((np.diff(numbers) == 1).all())


def check_different(names: list[str], source: str) -> None:
    """Refuse column names that come twice."""
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise DataError(
            f"{source}: columns must differ in name, and there are several {', '.join(map(repr, twice[:5]))}"
        )
