"""What a value may be: constraints that check it, and say in words what it must be. Needs neither torch nor NumPy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any


def is_integer(value: Any) -> bool:
    """Whether it is a whole number and not a bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_real(value: Any) -> bool:
    """Whether it is a finite number and not a bool."""
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


class Constraint:
    """What a value may be: ``allows(value)``, and ``str`` of it completes "must be ..."."""

    def allows(self, value: Any) -> bool:
        """Whether a value may be used."""
        raise NotImplementedError


@dataclass(frozen=True)
class OneOf(Constraint):
    """One of several names, which are looked up when they are needed."""

    names: Iterable[str]
    auto: bool = False

    def __iter__(self) -> Iterator[str]:
        yield from ("auto",) if self.auto else ()
        yield from self.names

    def allows(self, value: Any) -> bool:
        return isinstance(value, str) and value in tuple(self)

    def __str__(self) -> str:
        return "one of " + ", ".join(map(repr, self))


@dataclass(frozen=True)
class NamesOf(Constraint):
    """A mapping from names to some of several words."""

    words: tuple[str, ...]

    def allows(self, value: Any) -> bool:
        return isinstance(value, Mapping) and all(
            isinstance(name, str) and word in self.words for name, word in value.items()
        )

    def __str__(self) -> str:
        return f"a dict from column names to {', '.join(map(repr, self.words))}"


@dataclass(frozen=True)
class Integer(Constraint):
    """A whole number of at least ``low``, and at most ``high`` if there is one."""

    low: int = 1
    high: int | None = None

    def allows(self, value: Any) -> bool:
        return is_integer(value) and value >= self.low and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        return f"an int of at least {self.low}" if self.high is None else f"an int from {self.low} to {self.high:,}"


@dataclass(frozen=True)
class Number(Constraint):
    """A finite number in an interval, whose ends may belong to it or not."""

    low: float = 0
    high: float = math.inf
    low_open: bool = False
    high_open: bool = True

    def allows(self, value: Any) -> bool:
        if not is_real(value):
            return False
        above = value > self.low if self.low_open else value >= self.low
        return bool(above and (value < self.high if self.high_open else value <= self.high))

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"a number above {self.low:g}" if self.low_open else f"a number of at least {self.low:g}"
        if self.low_open and self.high_open:
            return f"a number between {self.low:g} and {self.high:g}"
        return f"a number in {'(' if self.low_open else '['}{self.low:g}, {self.high:g}{')' if self.high_open else ']'}"


@dataclass(frozen=True)
class AutoOr(Constraint):
    """The word "auto", or what another constraint allows."""

    other: Constraint

    def allows(self, value: Any) -> bool:
        return value == "auto" if isinstance(value, str) else self.other.allows(value)

    def __str__(self) -> str:
        return f"'auto' or {self.other}"


@dataclass(frozen=True)
class Optional(Constraint):
    """None, or what another constraint allows."""

    other: Constraint

    def allows(self, value: Any) -> bool:
        return value is None or self.other.allows(value)

    def __str__(self) -> str:
        return f"{self.other}, or None"


class ImageShape(Constraint):
    """Two or three sizes of at least 1."""

    def allows(self, value: Any) -> bool:
        return isinstance(value, tuple | list) and len(value) in (2, 3) and all(map(Integer().allows, value))

    def __str__(self) -> str:
        return "(height, width) or (height, width, channels)"


class Flag(Constraint):
    """A truth value, of Python or NumPy."""

    def allows(self, value: Any) -> bool:
        return isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")

    def __str__(self) -> str:
        return "True or False"


class Device(Constraint):
    """A name; whether there is such a device is found out when it is used."""

    def allows(self, value: Any) -> bool:
        return isinstance(value, str)

    def __str__(self) -> str:
        return "the name of a device, or 'auto'"


class Folder(Constraint):
    """The name of a folder."""

    def allows(self, value: Any) -> bool:
        return isinstance(value, str | Path) and str(value) != ""

    def __str__(self) -> str:
        return "the name of a folder"


class Seed(Constraint):
    """Whatever scikit-learn's ``check_random_state`` takes; a file holds a whole number of 32 bits, or null."""

    def allows(self, value: Any) -> bool:
        return True

    def __str__(self) -> str:
        return "an int, a RandomState or None"
