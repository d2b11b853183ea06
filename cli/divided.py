"""By which columns of a table its rows are divided: those that stay together, and in which order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vae_anomaly.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from vae_anomaly.cli.data import DataOptions, Samples
    from vae_anomaly.fitting.groups import Groups


def dividing_columns(given: DataOptions) -> tuple[str, ...]:
    """Names of the columns of groups and of times, where some were named."""
    return tuple(name for name in (given.group_column, given.time_column) if name is not None)


def divided_by(X: np.ndarray | pd.DataFrame, given: DataOptions, source: str) -> dict[str, Any]:
    """Groups and times of a table's rows, as `Samples` has them.

    Raises
    ------
    DataError
        If there is no such column, or cells are no times.
    """
    from vae_anomaly.tables.row_names import ids_of

    names = dividing_columns(given)
    option = "--time-column" if given.group_column is None else "--group-column"
    return of_texts(ids_of(X, None, names, source, option) if names else {}, given, source)


def of_texts(texts: Mapping[str, np.ndarray], given: DataOptions, source: str) -> dict[str, Any]:
    """The same, from the cells of the columns as text ``(N,)`` by name."""
    found: dict[str, Any] = {}
    if given.group_column is not None:
        found["groups"] = filled(texts[given.group_column], given.group_column, source)
    if given.time_column is not None:
        found["times"] = times_of(
            filled(texts[given.time_column], given.time_column, source), given.time_column, source
        )
    return found


def filled(texts: np.ndarray, name: str, source: str) -> np.ndarray:
    """Cells ``(N,)``, none of which may be empty."""
    if (texts == "").any():
        row = int((texts == "").argmax())
        raise DataError(f"{source}: row {row}, column {name!r} is empty: fill it in, or leave the row out")
    return texts


def times_of(texts: np.ndarray, name: str, source: str) -> np.ndarray:
    """Cells ``(N,)`` as numbers, or, of dates, as seconds since 1970, ``(N,)`` float64."""
    import numpy as np

    from vae_anomaly.tables.values import date_form, parsed_dates, parsed_numbers

    different, places = np.unique(texts, return_inverse=True)
    values = parsed_numbers(different.tolist())
    if np.isnan(values).any():
        no_number = str(different[np.argmax(np.isnan(values))])
        form = date_form(different.tolist())
        if form is None:
            raise DataError(
                f"{source}: column {name!r} holds {no_number!r} and is to give the order in time: it must be numbers, "
                "or dates of one form such as 2024-12-31 or 2024-12-31 23:59"
            )
        values = parsed_dates(different.tolist(), form)
    return np.asarray(values[places])


def groups_of(samples: Samples, parameters: Mapping[str, Any]) -> Groups | None:
    """What says which samples stay together, and in which order; None: each alone, at random."""
    from vae_anomaly.fitting.groups import Groups

    return Groups.of(
        len(samples),
        samples.groups,
        samples.times,
        time_ordered=parameters.get("time_ordered", False),
        source=samples.rows.source,
    )
