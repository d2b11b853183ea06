"""Codes of a table as a person has them: levels by name, dates as dates, gaps as "missing"; the way back of `codes`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vae_anomaly.columns import MISSING, OTHER, Column, Columns

if TYPE_CHECKING:
    import pandas as pd

DAY = 86_400.0  # seconds
MOST_SECONDS = 2.0**53 / 1e6  # of a date that microseconds hold
LONGEST_VALUE = 40  # characters
WEEKDAYS = ("Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed")  # from that of 1970-01-01 on


class FeatureInWords(NamedTuple):
    """What was observed of a feature, what was expected, and how certainly, as text.

    Parameters
    ----------
    observed, expected
        In the feature's own units; a level, or "missing".
    spread
        The standard deviation; of a category the probability of the expected level, in per cent.
    is_level
        Whether it is a category.
    """

    observed: str
    expected: str
    spread: str
    is_level: bool

    @property
    def expectation(self) -> str:
        """What was expected and how certainly: ``5.7 ± 0.1`` or ``IF (91 %)``."""
        return f"{self.expected} ({self.spread})" if self.is_level else f"{self.expected} ± {self.spread}"


def decoded(codes: np.ndarray, columns: Columns) -> pd.DataFrame:
    """The table ``(N, C)`` that codes ``(N, C)`` stand for: numbers, text of levels, times; the modelled columns.

    A level that the model does not know is "other", which alone is not what the table had.
    """
    import pandas as pd

    return pd.DataFrame(
        {column.name: decoded_column(column, values) for column, values in zip(columns, codes.T, strict=True)},
        columns=list(columns.names),
    )


def decoded_column(column: Column, codes: np.ndarray) -> np.ndarray:
    """Values ``(N,)`` of one column: objects for levels, ``datetime64`` for dates, otherwise the numbers themselves."""
    if column.is_category:
        levels = np.array([*column.levels, OTHER, None], dtype=object)
        n = len(column.levels)
        places = np.where(np.isnan(codes), n + 1, np.clip(np.nan_to_num(codes), 0, n)).astype(np.int64)
        named: np.ndarray = levels[places]
        return named
    return times_of(codes) if column.kind == "date" else codes


def times_of(seconds: np.ndarray) -> np.ndarray:
    """Seconds since 1970 as ``datetime64``; NaT at gaps and beyond what it holds."""
    possible = np.abs(seconds) < MOST_SECONDS
    microseconds = np.where(possible, seconds, 0.0) * 1e6
    times: np.ndarray = np.where(possible, np.rint(microseconds).astype("datetime64[us]"), np.datetime64("NaT", "us"))
    return times


def feature_in_words(
    column: Column | None, observed: float, expected: float, spread: float, own: object = None
) -> FeatureInWords:
    """One feature of one sample.

    Parameters
    ----------
    column
        What it is; None: a number.
    observed, expected, spread
        As `vae_anomaly.scoring.attribution.Explanation` has them.
    own
        The value in the table itself, which a level that the model does not know is called by.
    """
    if column is not None and column.is_category:
        seen = level_text(column, observed)
        seen = str(own) if seen == OTHER and own is not None else seen
        return FeatureInWords(
            shortened(seen), shortened(level_text(column, expected)), percent(1 - spread), is_level=True
        )
    if column is not None and column.kind == "date":
        seen, mean = (date_text(column, seconds) for seconds in (observed, expected))
        return FeatureInWords(seen, mean, duration_text(spread), is_level=False)
    seen, mean, deviation = rounded_to_spread(observed, expected, spread)
    return FeatureInWords(MISSING if math.isnan(observed) else seen, mean, deviation, is_level=False)


def level_text(column: Column, code: float) -> str:
    """The level that a code stands for."""
    if math.isnan(code):
        return MISSING
    return column.levels[int(code)] if 0 <= code < len(column.levels) else OTHER


def date_text(column: Column, seconds: float) -> str:
    """A date, with its weekday where the column has the cycle of a week, and its time where it has that of a day."""
    if math.isnan(seconds):
        return MISSING
    text = str(times_of(np.array([seconds]))[0])
    day = f"{WEEKDAYS[int(seconds // DAY) % 7]} " if "week" in column.cycles else ""
    return day + (text[:16].replace("T", " ") if "day" in column.cycles else text[:10])


def duration_text(seconds: float) -> str:
    """A span of time in the largest unit that is no longer than half of it."""
    for length, unit in ((365.2425 * DAY, "years"), (DAY, "days"), (3_600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * length:
            return f"{seconds / length:,.{0 if seconds >= 10 * length else 1}f} {unit}"
    return f"{seconds:.3g} seconds"


def percent(share: float) -> str:
    """A probability in per cent; what is not certain is never called so."""
    value = 100 * share
    if value >= 99.5:
        return "100 %" if share >= 1 else "over 99 %"
    return "under 1 %" if value < 0.5 else f"{value:.0f} %"


def shortened(text: str) -> str:
    """Text of at most 40 characters."""
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def rounded_to_spread(observed: float, expected: float, spread: float) -> tuple[str, str, str]:
    """Observed and expected value and the spread, as text with decimals down to the spread's second digit."""
    decimals = max(0, 1 - math.floor(math.log10(spread))) if spread > 0 else 6
    size = max(abs(value) for value in (observed, expected, spread) if not math.isnan(value))
    digits = f",.{decimals}f" if size < 1e7 and decimals < 10 else ".6g"
    return format(observed, digits), format(expected, digits), format(spread, digits)
