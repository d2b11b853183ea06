"""A mixed table with one odd row, and commands that must succeed on it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from helpers import run

N, ODD = 120, 77


def make_frame(n: int = N) -> pd.DataFrame:
    """Numbers, categories, dates, gaps and identifiers, of which two columns agree; row 77 is odd."""
    rng = np.random.default_rng(0)
    kind = rng.choice(["hat", "shoe"], n)
    frame = pd.DataFrame(
        {
            "key": [f"K{i:04d}" for i in rng.permutation(n)],
            "kind": kind,
            "size": np.where(kind == "hat", 5.0, 40.0) + rng.normal(0, 0.5, n),
            "sold": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), unit="D"),
            "price": rng.normal(100, 5, n).round(2),
        }
    )
    frame.loc[::9, "price"] = np.nan
    frame.loc[5, "kind"] = None
    frame.loc[ODD, ["kind", "size", "price"]] = "hat", 40.0, 100.0
    return frame


def ok(*arguments: object) -> str:
    """What a command prints that must succeed."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout
