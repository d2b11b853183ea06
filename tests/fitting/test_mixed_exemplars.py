"""Exemplars of tables: kernels of the highest density of rows that are left out."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from vae_anomaly import VAEDetector
from vae_anomaly.fitting.mixed_exemplars import LARGEST_EPSILON, SMALLEST_EPSILON, Kernels, shrunk
from vae_anomaly.model.likelihoods.mixed import SMALLEST_VARIANCE, Mixed


def kernels(n: int = 60, *, gaps: bool = True) -> Kernels:
    """Rows of two numbers and a category of three levels, with gaps in both; a decoder that knows nothing."""
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    levels = torch.nn.functional.one_hot(torch.randint(0, 3, (n,), generator=generator), 3).double()
    if gaps:
        numbers[::7, 1] = math.nan
        levels[::5] = 0
    x = torch.cat([numbers, levels], dim=1)
    return Kernels.around(Mixed(2, (3,)).double(), x, torch.zeros_like(x), [0, 1])


def log_density(fit: Kernels, rows: Tensor) -> float:
    """Mean log-density of rows under the mixture of all others."""
    return float((torch.logsumexp(fit.log_prob_left_out(rows), dim=1) - math.log(len(fit.x) - 1)).mean())


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_each_step_raises_the_density_of_rows_that_are_left_out(share: float) -> None:
    fit = kernels(300)
    fit.share = share
    rows, found = torch.arange(300), []
    for _ in range(10):
        found.append(log_density(fit, rows))
        fit.step(rows)
    assert found[-1] > found[0]
    assert min(np.diff(found)) > -0.01  # the weight of the average moves it a little


def test_every_exemplar_is_a_distribution() -> None:
    fit = kernels().with_share(0.75)
    probability, _, _ = fit.level_parts()
    np.testing.assert_allclose(probability.sum(dim=1), 1)
    parameters = fit.parameters()
    assert parameters.shape == (60, 5 + 2)
    assert torch.isfinite(parameters).all()
    is_gap = torch.isnan(fit.x[:, 1])
    np.testing.assert_array_equal(parameters[is_gap, 1], 0)  # N(0, 1), the marginal in scaled units
    np.testing.assert_array_equal(parameters[is_gap, 6], 0)
    without_level = fit.x[:, 2:].sum(dim=1) == 0
    np.testing.assert_allclose(probability[without_level], fit.frequency.expand(int(without_level.sum()), -1))


def test_widths_stay_within_their_bounds() -> None:
    for x in (torch.zeros(30, 5), torch.eye(30, 5), 1e3 * torch.ones(30, 5)):
        fit = Kernels.around(Mixed(2, (3,)).double(), x.double(), torch.zeros_like(x).double(), [0, 1])
        fit.x[:, 2:] = torch.nn.functional.one_hot(torch.zeros(30, dtype=torch.long), 3)
        fit = fit.with_share(1.0)
        assert (fit.variance >= SMALLEST_VARIANCE).all()
        assert ((fit.epsilon >= SMALLEST_EPSILON) & (fit.epsilon <= LARGEST_EPSILON)).all()


def test_a_row_alone_has_kernels_that_are_not_fitted() -> None:
    assert torch.isfinite(kernels(1, gaps=False).with_share(1.0).parameters()).all()


def test_widths_of_few_rows_are_moved_towards_the_average() -> None:
    sums, weights = torch.tensor([0.0, 100.0]).double(), torch.tensor([0.0, 100.0]).double()
    assert shrunk(sums, weights).tolist() == pytest.approx([1.0, 1.0])
    assert float(shrunk(torch.tensor([200.0, 0.0]).double(), torch.tensor([100.0, 0.0]).double())[1]) == pytest.approx(
        2
    )


def test_exemplars_are_the_rows_where_nothing_else_is_known() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"c": rng.choice(list("ab"), 40), "x": rng.normal(size=40)})
    detector = VAEDetector(epochs=1).fit(frame)
    prior, p = detector.vae_.prior, detector.vae_.likelihood
    assert prior.decoded.shape == (40, p.exemplar_parameters)  # all, since they are few
    assert detector.prior_ == "exemplars"
    odd = pd.DataFrame({"c": ["a", "never seen"], "x": [0.0, 0.0]})
    usual, unseen = detector.score_samples(odd)
    assert unseen < usual


def test_an_unseen_weekday_is_no_odder_than_an_unseen_level() -> None:
    days = pd.date_range("2024-01-01", periods=300, freq="D")
    days = days[days.day_of_week < 5]
    frame = pd.DataFrame({"day": days, "word": ["a", "b"] * (len(days) // 2) + ["a"] * (len(days) % 2)})
    detector = VAEDetector(epochs=2).fit(frame)
    odd = pd.DataFrame({"day": [days[100], days[99] + pd.Timedelta(days=1)], "word": ["a", "a"]})
    odd.loc[1, "day"] = next(day for day in pd.date_range(days[100], periods=7) if day.day_of_week == 6)
    usual, sunday = detector.score_samples(odd)
    assert 0.5 < usual - sunday < 20
