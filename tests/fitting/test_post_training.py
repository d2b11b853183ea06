"""What is fitted after training comes from the rows it should, and never from those that calibrate."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import Make
from vae_anomaly import VAEDetector
from vae_anomaly.fitting.fit import Parts
from vae_anomaly.storage.rows import Rows, RowsInMemory


@pytest.mark.parametrize(("n", "held_out_decides"), [(2000, True), (90, False)])
def test_variance_is_that_of_held_out_rows_where_there_are_enough(
    make_table: Make, monkeypatch: pytest.MonkeyPatch, n: int, held_out_decides: bool
) -> None:
    training, held_out = make_table(n)[: n - n // 10], 5 * make_table(n)[n - n // 10 :]
    X = np.concatenate([training, held_out])

    def split(rows: Rows, *given: object) -> Parts:  # the last tenth stops the training, the one before calibrates
        tenth = len(rows) // 10
        return Parts(*map(RowsInMemory, (rows[: -2 * tenth], rows[-tenth:], rows[-2 * tenth : -tenth])))

    monkeypatch.setattr("vae_anomaly.fitting.fit.split", split)
    variance = float(VAEDetector(epochs=1).fit(X).vae_.likelihood.variance)
    assert (variance > 5) == held_out_decides


@pytest.mark.parametrize("n", [3, 4])
def test_few_or_equal_rows_can_be_fitted(n: int) -> None:
    for X in (np.zeros((n, 4)), np.eye(n, 4), np.zeros((n, 8, 8)), np.eye(8)[None].repeat(n, 0)):
        assert np.isfinite(VAEDetector(epochs=1).fit(X).score_samples(X)).all()
