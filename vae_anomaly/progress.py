"""Progress bars on stderr, all made alike; needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from tqdm import tqdm

ABBREVIATED_FROM = 1_000


def progress_bar(
    what: str, total: int | None, *, unit: str = "rows", done: int = 0, shown: bool = True
) -> tqdm[NoReturn]:
    """A bar with the rate and the time left, on a terminal only, which vanishes when it is closed.

    Parameters
    ----------
    what
        What is being done, such as "scoring".
    total
        How many there are; None: not known.
    unit
        What is counted, in the plural.
    done
        How many were done before, by an earlier run.
    shown
        Whether to show it at all.

    Returns
    -------
    tqdm
        To be used as a context manager; ``update(n)`` counts.
    """
    from tqdm import tqdm

    return tqdm(
        total=total,
        initial=done,
        desc=what,
        unit=f" {unit}",
        unit_scale=total is None or total >= ABBREVIATED_FROM,
        disable=None if shown else True,
        leave=False,
    )
