"""A column's values in one of four families: numbers, truth values, dates, text."""

from __future__ import annotations

import datetime
import math
import numbers
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.columns import DATE_FORMS

if TYPE_CHECKING:
    import pandas as pd

DAY_FIRST, MONTH_FIRST = "%d/%m/%Y", "%m/%d/%Y"
SHORTEST_DATE, LONGEST_DATE = 6, 40  # characters


def family(values: pd.Series) -> str:
    """One of "number", "boolean", "date", "text" and "complex"; "" if there is no value."""
    import pandas as pd

    dtype = values.dtype
    if pd.api.types.is_bool_dtype(dtype):
        return "boolean"
    if isinstance(dtype, pd.CategoricalDtype):
        return "text"
    if pd.api.types.is_numeric_dtype(dtype):
        return "complex" if pd.api.types.is_complex_dtype(dtype) else "number"
    if pd.api.types.is_datetime64_any_dtype(dtype) or isinstance(dtype, pd.PeriodDtype):
        return "date"
    if is_duration(dtype):
        return "number"
    there = values[~values.isna()]
    if there.empty:
        return ""
    if not pd.api.types.is_object_dtype(dtype):
        return "date" if str(dtype).startswith(("date", "timestamp")) else "text"
    kinds = {type(value) for value in there}
    for name, types in (
        ("boolean", (bool, np.bool_)),
        ("number", (numbers.Real, Decimal)),
        ("date", (datetime.date, np.datetime64)),
    ):
        if all(issubclass(kind, types) for kind in kinds) and (name == "boolean" or bool not in kinds):
            return name
    return "text"


def is_duration(dtype: Any) -> bool:
    """Whether values are differences of times, by pandas' type or by Arrow's."""
    return str(dtype).startswith(("timedelta64", "duration"))


def numbers_of(values: pd.Series) -> np.ndarray:
    """Numbers ``(N,)`` float64 of a column of that family, NaN at gaps; durations in seconds."""
    if is_duration(values.dtype):
        return np.asarray(values.dt.total_seconds(), dtype=np.float64)
    if isinstance(values.dtype, np.dtype) and values.dtype.kind in "fiu":
        return np.asarray(values, dtype=np.float64)
    return np.array([math.nan if gap else as_float(v) for v, gap in zip(values, values.isna(), strict=True)])


def as_float(value: Any) -> float:
    """A number in double precision; infinite where that does not hold it."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def seconds_of(values: pd.Series) -> np.ndarray:
    """Seconds since 1970 ``(N,)`` float64 of a column of dates, NaN at gaps; time zones count."""
    import pandas as pd

    if isinstance(values.dtype, pd.PeriodDtype):
        values = values.dt.to_timestamp()
    stamps = pd.to_datetime(values, utc=True, errors="coerce").dt.tz_localize(None)
    return seconds(np.asarray(stamps, dtype="datetime64[us]"))


def seconds(stamps: np.ndarray) -> np.ndarray:
    """``datetime64`` values as seconds since 1970, float64, NaN at gaps."""
    found = stamps.astype("datetime64[us]").astype(np.int64) / 1e6
    found[np.isnat(stamps)] = math.nan
    return found


def texts_of(values: pd.Series) -> tuple[np.ndarray, list[str]]:
    """Values as text: for each row the place of its text, -1 at gaps, ``(N,)`` int64; and the different texts."""
    import pandas as pd

    if isinstance(values.dtype, pd.ArrowDtype):
        values = values.astype(object)  # which has lists and the like
    if pd.api.types.is_object_dtype(values.dtype):
        values = values.map(lambda value: value if isinstance(value, str) else text_of(value), na_action="ignore")
    places, different = pd.factorize(values)
    return places.astype(np.int64), [text_of(value) for value in different]


def text_of(value: Any) -> str:
    """A value as the name of a level: whole numbers without a point, all else as ``str`` has it."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def looked_up(places: np.ndarray, recode: np.ndarray) -> np.ndarray:
    """The values at places ``(n,)``, NaN at gaps."""
    gap = np.isnan(places)
    return np.where(gap, np.nan, recode[np.where(gap, 0, places).astype(np.int64)])


def parsed_numbers(texts: list[str]) -> np.ndarray:
    """Texts as numbers ``(n,)`` float64; NaN for those that are none, or are codes with leading zeros."""
    found = np.full(len(texts), math.nan)
    for i, text in enumerate(texts):
        digits = text.strip().lstrip("+-")
        if digits[:1].isdigit() or digits[:1] == ".":
            is_code = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
            try:
                found[i] = math.nan if is_code or "_" in digits else float(text)
            except ValueError:
                continue
    found[~np.isfinite(found)] = math.nan
    return found


def parsed_dates(texts: list[str], form: str = "") -> np.ndarray:
    """Texts as seconds since 1970 ``(n,)`` float64, NaN for those that are no dates of this form (empty: ISO 8601)."""
    import pandas as pd

    stamps = pd.to_datetime(pd.Series(texts, dtype=object), format=form or "ISO8601", utc=True, errors="coerce")
    return seconds(np.asarray(stamps.dt.tz_localize(None), dtype="datetime64[us]"))


def date_form(texts: list[str], *more: str) -> str | None:
    """The form by which all texts are dates: the first of ``more``, ISO 8601 (empty) and `DATE_FORMS`, or None."""
    if not all(any(character.isdigit() for character in text) for text in texts) or max(map(len, texts)) > LONGEST_DATE:
        return None
    if min(map(len, texts)) < SHORTEST_DATE and not more:
        return None
    for form in (*more, "", *DATE_FORMS):
        if not np.isnan(parsed_dates(texts[:20], form)).any() and not np.isnan(parsed_dates(texts, form)).any():
            return form
    return None
