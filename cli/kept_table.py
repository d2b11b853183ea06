"""A table that is read to be fitted, kept beside its codes as far as that is possible."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.cli.divided import dividing_columns, of_texts
from vae_anomaly.tables.row_names import ids_of

if TYPE_CHECKING:
    import pandas as pd

    from vae_anomaly.cli.data import DataOptions
    from vae_anomaly.columns import Columns

KEPT_BYTES = 256 << 20


class KeptTable:
    """A table that comes in chunks: all of it as long as it is small, and of a large one what names its rows.

    Parameters
    ----------
    given
        The columns that the user named.
    """

    def __init__(self, given: DataOptions) -> None:
        self.given, self.id_columns = given, given.id_columns
        self.frames: list[pd.DataFrame] = []
        self.named: list[dict[str, np.ndarray]] = []
        self.dividing: list[dict[str, np.ndarray]] = []
        self.n_bytes, self.source = 0, ""

    def add(self, X: np.ndarray | pd.DataFrame, source: str) -> None:
        """Keep what is needed of a chunk."""
        self.source = source
        if self.id_columns:
            self.named.append(ids_of(X, None, self.id_columns, source))
        if names := dividing_columns(self.given):
            option = "--time-column" if self.given.group_column is None else "--group-column"
            self.dividing.append(ids_of(X, None, names, source, option))
        if isinstance(X, np.ndarray) or self.n_bytes > KEPT_BYTES:
            return
        self.n_bytes += int(X.memory_usage(deep=True).sum())
        self.frames = [] if self.n_bytes > KEPT_BYTES else [*self.frames, X]

    def table(self) -> pd.DataFrame | None:
        """All of the table, if it is kept."""
        if not self.frames:
            return None
        import pandas as pd

        return pd.concat(self.frames, ignore_index=True)

    def ids(self, columns: Columns | None) -> dict[str, np.ndarray]:
        """As `ids_of` of the whole table; of one that is not kept, the columns that the user named."""
        if self.id_columns:
            return joined(self.named) | joined(self.dividing)
        table = self.table()
        return joined(self.dividing) if table is None else ids_of(table, columns, (), self.source)

    def divided_by(self) -> dict[str, Any]:
        """As `vae_anomaly.cli.divided.divided_by` of the whole table."""
        return of_texts(joined(self.dividing), self.given, self.source)


def joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Texts of chunks, by column, as those of the whole."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}
