"""What a model knows of a table's columns: their kinds, and where each stands in the rows that the networks see.

A table comes as *codes*, ``(N, C)`` float64, one column for each modelled column of the table: numbers as they are, the
position of a level among ``levels`` for categories, seconds since 1970 for dates, NaN for a gap. The networks see
*units*, ``(N, W)``: first the numeric ones (a number has one; a date one for its linear part and two for each cycle),
then for each category one unit a level, of which one is 1.

Units are ordered by the names of their columns, so that the order of a table's columns changes no model.

Needs neither torch nor NumPy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

KINDS = ("number", "category", "date", "identifier", "constant")
GIVEN_KINDS = KINDS[:4]
"""Those that a user may give a column."""
CYCLES: Mapping[str, float] = {"day": 86_400.0, "week": 7 * 86_400.0, "year": 365.2425 * 86_400.0}
"""The cycles of a date, by name, and their lengths in seconds."""
YEAR = "%Y"
DATE_FORMS = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%d %b %Y", "%b %d, %Y", "%Y%m%d")
"""How dates are written, as ``strptime`` has it, beside ISO 8601 and, where a user says that it is a date, `YEAR`."""
MISSING_CHOICES = ("ignore", "category", "refuse")
OTHER, MISSING = "other", "missing"  # what levels that no level stands for are called
MAX_LEVELS = 1_000


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table.

    Parameters
    ----------
    name
        As the table has it.
    kind
        One of `KINDS`. An identifier is carried into outputs and not modelled; a constant had one value.
    levels
        Of a category: its values as text.
    cycles
        Of a date: keys of `CYCLES`.
    marks_gaps
        Whether a gap counts as a value of its own.
    form
        How a date's text is read, as ``strptime`` has it; empty: as ISO 8601, or it comes as a date.
    why
        The rule by which it got its kind.
    note
        What a user should know of it, such as a likely sentinel.
    """

    name: str
    kind: str
    levels: tuple[str, ...] = ()
    cycles: tuple[str, ...] = ()
    marks_gaps: bool = False
    form: str = ""
    why: str = ""
    note: str = ""

    @property
    def is_modelled(self) -> bool:
        """Whether it has a place in the codes."""
        return self.kind != "identifier" and (self.kind != "constant" or bool(self.levels))

    @property
    def is_category(self) -> bool:
        """Whether its codes are positions of levels."""
        return bool(self.levels)

    @property
    def n_numeric(self) -> int:
        """Numeric units."""
        return 0 if self.is_category or not self.is_modelled else 1 + 2 * len(self.cycles)

    @property
    def n_levels(self) -> int:
        """Units of its levels: one each, one for all others, and one for gaps if they count."""
        return len(self.levels) + 1 + self.marks_gaps if self.is_category else 2 * self.marks_gaps


class Columns:
    """The columns of a table, in its order.

    Parameters
    ----------
    columns
        All of them, of different names.
    """

    def __init__(self, columns: Iterable[Column]) -> None:
        self.all = tuple(columns)

    def __iter__(self) -> Iterator[Column]:
        return iter(self.modelled)

    def __len__(self) -> int:
        return len(self.modelled)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Columns) and self.all == other.all

    __hash__ = None  # type: ignore[assignment]  # it is compared by value

    @cached_property
    def modelled(self) -> tuple[Column, ...]:
        """Those that have a place in the codes, in its order."""
        return tuple(column for column in self.all if column.is_modelled)

    @property
    def carried(self) -> tuple[Column, ...]:
        """Those that are not modelled."""
        return tuple(column for column in self.all if not column.is_modelled)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the modelled columns."""
        return tuple(column.name for column in self)

    @property
    def kinds(self) -> dict[str, str]:
        """The kind of every column by name, carried ones included."""
        return {column.name: column.kind for column in self.all}

    @cached_property
    def by_name(self) -> tuple[int, ...]:
        """Places of the modelled columns in the codes, in the order of their names."""
        return tuple(sorted(range(len(self)), key=self.names.__getitem__))

    @cached_property
    def numeric(self) -> tuple[int, ...]:
        """For each numeric unit, the place of its column."""
        return tuple(place for place in self.by_name for _ in range(self.modelled[place].n_numeric))

    @cached_property
    def groups(self) -> tuple[tuple[int, int], ...]:
        """For each group of level units, the place of its column and how many units it has."""
        sizes = ((place, self.modelled[place].n_levels) for place in self.by_name)
        return tuple((place, size) for place, size in sizes if size)

    @cached_property
    def of_units(self) -> tuple[int, ...]:
        """For each unit, the place of its column."""
        return self.numeric + tuple(place for place, size in self.groups for _ in range(size))

    def to_json(self) -> list[dict[str, Any]]:
        """What a model file has of them."""
        return [asdict(column) for column in self.all]

    @classmethod
    def from_json(cls, values: Iterable[Mapping[str, Any]]) -> Self:
        """Columns that `to_json` gave, which have been checked (`vae_anomaly.storage.model_schema`)."""
        return cls(
            Column(**fields | {"levels": tuple(fields["levels"]), "cycles": tuple(fields["cycles"])})
            for fields in map(dict, values)
        )
