"""JSON in one canonical form, and read strictly; needs neither torch nor NumPy."""

from __future__ import annotations

import json
import math
from typing import Any

LARGEST_INTEGER = 1 << 63


def dumps(value: Any) -> str:
    """JSON in one canonical form, NumPy's numbers included; floats come back to the bit.

    Raises
    ------
    ValueError
        If a number is not finite.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=lambda v: v.item())


def loads(text: str | bytes | bytearray) -> Any:
    """Strict JSON: only finite numbers, no integer beyond 64 bits, no key twice in an object.

    Raises
    ------
    ValueError
        If it is anything else, or nested too deeply.
    """

    def finite(number: str) -> float:
        if not math.isfinite(value := float(number)):
            raise ValueError(f"{number[:40]} is no finite number")
        return value

    def integer(number: str) -> int:
        if len(number) > 20 or not -LARGEST_INTEGER <= (value := int(number)) < LARGEST_INTEGER:
            raise ValueError(f"{number[:40]} is beyond 64 bits")
        return value

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(values := dict(pairs)) < len(pairs):
            raise ValueError("a key comes twice in one object")
        return values

    try:
        return json.loads(text, parse_constant=finite, parse_float=finite, parse_int=integer, object_pairs_hook=unique)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
