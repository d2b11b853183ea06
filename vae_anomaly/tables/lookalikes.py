"""Text that looks like numbers, dates or times: one cell of another kind, or a form that is not read, makes it text."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from vae_anomaly.tables.words import shortened

FEW_OTHERS = 3  # different texts of another shape
MIN_SHARE, RARE = 0.5, 0.01  # of the values
MIN_DIFFERENT = 10  # texts of one shape: a few are levels, such as 1, 2 and "3 or more"
LOOKED_AT = 200  # texts at first

CODE = re.compile(r"0\d+")
DIGITS = r"(?:\d{1,3}(?:[.,'\u2019 \u00a0\u202f]\d{3})+|\d+)(?:[.,]\d*)?(?:[eE][+-]?\d+)?"
SIGNS = r"[$€£¥₹%°]"
SHAPES = {
    "numbers": (
        re.compile(rf"\(?[+-]?\s*(?:{SIGNS}\s*)?[+-]?{DIGITS}(?:\s*{SIGNS}|\s°?[^\W\d_]{{1,4}}[²³]?)?\)?-?"),
        "leave out all but digits, sign and decimal mark",
    ),
    "dates": (
        re.compile(r"(?:\d{4}([-/.])\d\d?\1\d\d?|\d\d?([-/.])\d\d?\2(?:\d{4}|\d\d))(?:[T ].*)?"),
        "write all as 2024-12-31 or 2024-12-31 23:59",
    ),
    "times": (
        re.compile(r"-?\d+:[0-5]\d(?::[0-5]\d(?:[.,]\d+)?)?(?:\s?[AaPp]\.?[Mm]\.?)?"),
        "write them as numbers, of hours or seconds",
    ),
}


def lookalike(texts: Sequence[str], counts: np.ndarray) -> str:
    """What a user should know of a column of text of which most looks like something else; otherwise empty.

    Whole numbers with leading zeros among the texts show that they are codes.

    Parameters
    ----------
    texts
        The different values.
    counts
        How many rows have each, ``(n_texts,)`` int.
    """
    n = int(counts.sum())
    for what, (shape, advice) in SHAPES.items():
        first = [shape.fullmatch(text.strip()) is not None for text in texts[:LOOKED_AT]]
        if 2 * sum(first) < MIN_SHARE * len(first):
            continue
        is_alike = np.array([shape.fullmatch(text.strip()) is not None for text in texts])
        others, n_alike = np.flatnonzero(~is_alike), int(counts[is_alike].sum())
        if is_alike.sum() <= MIN_DIFFERENT or n_alike < MIN_SHARE * n:
            continue
        if len(others) > FEW_OTHERS and n - n_alike > RARE * n:
            continue
        if what == "numbers" and any(CODE.fullmatch(text.strip()) for text in texts):
            continue
        if not len(others):
            example = shortened(texts[0])
            return f"taken as text, though all values look like {what}, such as {example!r}: {advice}"
        other = shortened(texts[int(others[0])])
        return (
            f"taken as text, though {n_alike:,} of {n:,} values look like {what}; {other!r} does not: mend such cells, "
            "or leave them empty to count as gaps"
        )
    return ""
