"""What is fitted after training comes from the rows it should, and never from those that calibrate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from vae_anomaly import VAEDetector
from vae_anomaly.priors import MAX_EXEMPLARS

Make = Callable[..., np.ndarray]


def test_exemplars_are_all_rows_but_those_that_calibrate(make_table: Make) -> None:
    X = make_table(50)
    detector = VAEDetector(epochs=1).fit(X)
    prior = detector.vae_.prior
    assert len(prior.latents) == 45
    known = detector.transform(X)
    matches = (torch.from_numpy(known)[:, None] == prior.latents).all(dim=-1)
    assert matches.any(dim=0).all()
    calibrates = ~matches.any(dim=1).numpy()
    np.testing.assert_array_equal(np.sort(detector.score_samples(X[calibrates])), np.sort(detector.calibration_scores_))


def test_exemplars_are_bounded_in_number(make_table: Make) -> None:
    detector = VAEDetector(epochs=1).fit(make_table(MAX_EXEMPLARS + 500))
    assert len(detector.vae_.prior.latents) == MAX_EXEMPLARS


@pytest.mark.parametrize(("n", "held_out_decides"), [(2000, True), (200, False)])
def test_variance_is_that_of_held_out_rows_where_there_are_enough(
    make_table: Make, n: int, held_out_decides: bool
) -> None:
    training, held_out = make_table(n)[: n - n // 10], 5 * make_table(n)[n - n // 10 :]
    X = np.concatenate([training, held_out])

    class Detector(VAEDetector):
        def _split(self, rows, generator):  # the last tenth stops the training, the one before calibrates
            tenth = len(rows) // 10
            return rows[: -2 * tenth], rows[-tenth:], rows[-2 * tenth : -tenth]

    variance = float(Detector(epochs=1).fit(X).vae_.likelihood.variance)
    assert (variance > 5) == held_out_decides
