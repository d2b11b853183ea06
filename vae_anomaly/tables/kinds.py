"""The kind of a column, by rules that a person can check.

In this order:

1. what the user says;
2. no value at all, or one value of text or of truth: constant;
3. truth values: a category;
4. dates, or text of which every value is a date of one form: a date;
5. numbers, or text of which every value is a number without leading zeros: a number, unless they are of a type for
   whole numbers and each is one more than that of the row before: an identifier;
6. text with more than 20 different values, which are more than half as many as the rows: an identifier, or free text;
7. all other text: a category, of at most 1,000 levels; rarer ones count as one.

A date has the cycles that its values can have: of the day if some have a time and two days pass, of the week if some
are not the first of a month and two weeks pass, of the year if some are not in January and a year passes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from vae_anomaly.columns import CYCLES, MAX_LEVELS, YEAR, Column
from vae_anomaly.errors import DataError
from vae_anomaly.tables.lookalikes import lookalike
from vae_anomaly.tables.values import (
    DAY_FIRST,
    MONTH_FIRST,
    date_form,
    family,
    numbers_of,
    parsed_dates,
    parsed_numbers,
    seconds_of,
    texts_of,
)

if TYPE_CHECKING:
    import pandas as pd

FEW_TEXTS = 20
EITHER_FIRST = "read as day/month/year, and month/day/year would fit too: year-month-day leaves no doubt"
MOST_TEXTS = 1_000_000  # different ones that are counted; a column with more is free text, if the user says nothing


class ColumnInference:
    """What is seen of one column, piece by piece, and the kind that follows from all of it.

    Parameters
    ----------
    name
        Of the column.
    source
        What messages call the table.
    given
        Its kind by the user, or None.
    """

    def __init__(self, name: str, source: str, given: str | None = None) -> None:
        self.name, self.source, self.given = name, source, given
        self.family = "text" if given in ("category", "identifier") else ""
        self.n, self.n_gaps = 0, 0
        self.places: dict[str, int] = {}
        self.counts = np.zeros(0, dtype=np.int64)
        self.is_counter, self.last = True, np.nan
        self.low, self.high = np.inf, -np.inf
        self.parts: set[str] = set()

    def add(self, values: pd.Series) -> np.ndarray:
        """Provisional codes ``(n,)`` float64 of the next rows: numbers and seconds as they are, places of texts.

        Raises
        ------
        DataError
            If the values are of another family than before.
        """
        found = family(values)
        if found == "number" and self.given == "date":
            found = "text"  # years, or digits of a date
        as_text = self.given in ("category", "identifier")
        if found == "complex" and not as_text:
            raise DataError(f"{self.source}: column {self.name!r} holds complex numbers: give their parts as columns")
        if found and self.family and found != self.family and not as_text:
            raise DataError(
                f"{self.source}: column {self.name!r} holds {self.family} values, and from row {self.n} on {found} "
                f"ones: give all of it one type, or say columns={{{self.name!r}: 'category'}}"
            )
        self.family = self.family or found
        self.n += len(values)
        if self.family == "number":
            codes = self._of_numbers(numbers_of(values), values)
        elif self.family == "date":
            codes = self._of_dates(seconds_of(values))
        else:
            codes = self._of_texts(values)
        self.n_gaps += int(np.isnan(codes).sum())
        return codes

    def _of_numbers(self, codes: np.ndarray, values: pd.Series) -> np.ndarray:
        import pandas as pd

        if np.isinf(codes).any():
            row = int(np.argmax(np.isinf(codes)))
            raise DataError(
                f"{self.source}: row {self.n - len(codes) + row}, column {self.name!r} is {codes[row]}: fill in or "
                "drop infinite values first"
            )
        self.is_counter = self.is_counter and pd.api.types.is_integer_dtype(values.dtype)
        if self.is_counter and len(codes):
            steps = np.diff(codes, prepend=codes[0] - 1 if np.isnan(self.last) else self.last)
            self.is_counter = bool((steps == 1).all())
            self.last = codes[-1]
        if len(there := codes[~np.isnan(codes)]):
            self.low, self.high = min(self.low, there.min()), max(self.high, there.max())
        return codes

    def _of_dates(self, codes: np.ndarray) -> np.ndarray:
        there = codes[~np.isnan(codes)]
        if len(there):
            self.low, self.high = min(self.low, there.min()), max(self.high, there.max())
            self.parts |= parts_of_dates(there)
        return codes

    def _of_texts(self, values: pd.Series) -> np.ndarray:
        places, texts = texts_of(values)
        if self.is_free_text:
            return np.where(places < 0, np.nan, 0.0)
        own = np.array([self.places.setdefault(text, len(self.places)) for text in texts], dtype=np.int64)
        counts = np.zeros(len(self.places), dtype=np.int64)
        counts[: len(self.counts)] = self.counts
        there = places >= 0
        codes = np.full(len(values), np.nan)
        if there.any():
            codes[there] = own[places[there]]
            counts += np.bincount(own[places[there]], minlength=len(counts))
        self.counts = counts
        return codes

    @property
    def is_free_text(self) -> bool:
        """Whether there are more texts than are counted."""
        return len(self.places) > MOST_TEXTS and self.given in (None, "identifier")

    def column(self, missing: str) -> tuple[Column, np.ndarray | None]:
        """The column, and where provisional codes are not its codes: the code for each, ``(n_texts,)``.

        Raises
        ------
        DataError
            If the kind that the user gave does not suit the values.
        """
        column, recode = self._found(marks_gaps=missing == "category" and self.n_gaps > 0)
        if self.family == "text" and self.given is None and column.kind in ("category", "identifier"):
            column = replace(column, note=lookalike(list(self.places), self.counts))
        if self.given not in (None, column.kind) and column.kind != "constant":
            what = f"{self.source}: column {self.name!r} is to be a {self.given}, and it holds {self.family} values"
            raise DataError(what)
        return column, recode

    def _found(self, *, marks_gaps: bool) -> tuple[Column, np.ndarray | None]:
        if self.n_gaps == self.n:
            return Column(name=self.name, kind="constant", why="it holds no value"), None
        if self.given == "identifier":
            return self._column("identifier", ""), None
        if self.family == "number":
            if self.given is None and self.is_counter and self.n > FEW_TEXTS and not self.n_gaps:
                return self._column("identifier", "it counts the rows"), None
            why = f"numbers, all {self.low:g}" if self.low == self.high else "numbers"
            return self._column("number", why, marks_gaps=marks_gaps), None
        if self.family == "date":
            return self._date("dates", self.parts, self.high - self.low, marks_gaps=marks_gaps), None
        return self._of_text(marks_gaps=marks_gaps)

    def _of_text(self, *, marks_gaps: bool) -> tuple[Column, np.ndarray | None]:
        texts, n = list(self.places), self.n - self.n_gaps
        if self.is_free_text:
            return self._column("identifier", f"more than {MOST_TEXTS:,} different texts"), None
        if self.family == "boolean" and self.given == "number":
            return self._column("number", "", marks_gaps=marks_gaps), np.array([float(t == "True") for t in texts])
        if self.family == "text" and self.given in (None, "number"):
            values = parsed_numbers(texts)
            if not np.isnan(values).any():
                return self._column("number", "text that is numbers", marks_gaps=marks_gaps), values
            if self.given:
                text = texts[int(np.argmax(np.isnan(values)))]
                raise DataError(f"{self.source}: column {self.name!r} is to be numbers, and {text!r} is none")
        if self.family == "text" and self.given in (None, "date"):
            form = date_form(texts, *([YEAR] if self.given else []))
            if form is not None:
                values = parsed_dates(texts, form)
                why = f"text that is dates{form and f' of the form {form}'}"
                column = self._date(why, parts_of_dates(values), np.ptp(values), form, marks_gaps=marks_gaps)
                if form == DAY_FIRST and not np.isnan(parsed_dates(texts, MONTH_FIRST)).any():
                    column = replace(column, note=EITHER_FIRST)
                return column, values
            if self.given:
                raise DataError(
                    f"{self.source}: column {self.name!r} is to be dates, and {texts[0]!r} is in no known form"
                )
        if len(texts) == 1 and self.given is None:
            return self._column("constant", f"always {texts[0]!r}", tuple(texts), marks_gaps=marks_gaps), None
        if self.given is None and len(texts) > FEW_TEXTS and 2 * len(texts) > n:
            why = f"{len(texts):,} different texts in {n:,} rows"
            return self._column("identifier", why), None
        most_frequent = np.argsort(-self.counts, kind="stable")[:MAX_LEVELS]
        levels = sorted(texts[i] for i in most_frequent)
        place = {level: i for i, level in enumerate(levels)}
        why = f"{len(texts):,} different {'truth values' if self.family == 'boolean' else 'texts'}"
        codes = np.array([place.get(text, len(levels)) for text in texts], dtype=np.float64)
        return self._column("category", why, tuple(levels), marks_gaps=marks_gaps), codes

    def _column(self, kind: str, why: str, levels: tuple[str, ...] = (), *, marks_gaps: bool = False) -> Column:
        why = "as told" if self.given else why
        return Column(name=self.name, kind=kind, levels=levels, marks_gaps=marks_gaps, why=why)

    def _date(self, why: str, parts: set[str], span: float, form: str = "", *, marks_gaps: bool) -> Column:
        cycles = tuple(name for name in CYCLES if name in parts and span >= 2 * CYCLES[name] / (1 + (name == "year")))
        why = "as told" if self.given else why
        return Column(name=self.name, kind="date", cycles=cycles, marks_gaps=marks_gaps, form=form, why=why)


def parts_of_dates(seconds: np.ndarray) -> set[str]:
    """Keys of `CYCLES` whose parts some dates ``(n,)``, in seconds, have: a time, a day of the month, a month."""
    days = np.floor(seconds / 86_400)
    dates = days.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    found = {"day"} if (seconds != days * 86_400).any() else set()
    found |= {"week"} if (dates != months.astype("datetime64[D]")).any() else set()
    return found | ({"year"} if (months != months.astype("datetime64[Y]").astype("datetime64[M]")).any() else set())
