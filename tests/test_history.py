"""The history of a training: which epoch was the best, for all who ask, and without torch."""

from __future__ import annotations

import pytest

from helpers import python
from vae_anomaly.history import EpochRecord, best_epoch, validation_elbo


def records(*elbos: float) -> list[EpochRecord]:
    return [
        EpochRecord(
            epoch=i,
            learning_rate=0.1,
            reconstruction=0.0,
            kl=0.0,
            validation_reconstruction=elbo + 2.0 * i,
            validation_kl=2.0 * i,
        )
        for i, elbo in enumerate(elbos, start=1)
    ]


@pytest.mark.parametrize(
    ("elbos", "best"), [((), 0), ((-3.0,), 1), ((-3.0, -1.0, -2.0), 2), ((-1.0, -1.0), 1), ((-3.0, -2.0, -1.0), 3)]
)
def test_the_best_epoch_is_the_first_of_the_highest_validation_elbo(elbos: tuple[float, ...], best: int) -> None:
    history = records(*elbos)
    assert best_epoch(history) == best
    if best:
        assert history[best - 1]["epoch"] == best
        assert validation_elbo(history[best - 1]) == max(elbos)


@pytest.mark.parametrize("module", ["history", "progress", "scoring"])
def test_it_needs_no_torch(module: str) -> None:
    code = f"import sys, vae_anomaly.{module}; print(sorted({{'torch', 'numpy', 'tqdm'}} & sys.modules.keys()))"
    assert python(code).strip() == "[]"
