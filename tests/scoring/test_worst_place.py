"""Laws of the scores that a small defect cannot hide from, and of the maps of heat behind them."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d, pad

from helpers import images
from vae_anomaly import VAEDetector
from vae_anomaly.fitted_model import FittedModel
from vae_anomaly.scoring.blocks import by_block
from vae_anomaly.scoring.worst_place import (
    EARLIER_SHARES,
    SHARES,
    SHARES_OF_PATCHES,
    SIGNS,
    ImageStatistics,
    energies,
    heat_maps,
    largest_of_levels,
    n_levels,
    signs,
    smoothed,
)


@pytest.fixture(scope="module")
def model() -> FittedModel:
    return VAEDetector(epochs=20).fit(images(200, (60, 58), seed=1)).model_


@pytest.fixture(scope="module")
def dense_model() -> FittedModel:
    return VAEDetector(epochs=2, architecture="mlp").fit(images(100, (60, 58), seed=1)).model_


def maps_of(model: FittedModel, rows: np.ndarray) -> np.ndarray:
    def heat(x: torch.Tensor) -> tuple[torch.Tensor]:
        return heat_maps(model.vae, x, model.noise)

    return by_block(model.vae, rows, heat)[0]


def signs_of(model: FittedModel, rows: np.ndarray) -> np.ndarray:
    def three(x: torch.Tensor) -> tuple[torch.Tensor]:
        return signs(model.vae, x, model.noise.to(x))

    return by_block(model.vae, rows, three)[0]


def with_spots(X: np.ndarray, value: int = 255) -> np.ndarray:
    spotted = X.copy()
    spotted[:, 20:23, 30:33] = value
    return spotted


@pytest.mark.parametrize(
    ("shape", "levels"), [((8, 9, 1), 1), ((28, 28, 1), 1), ((55, 90, 3), 1), ((56, 56, 1), 2), ((300, 224, 3), 4)]
)
def test_levels_leave_28_pixels_a_side(shape: tuple[int, ...], levels: int) -> None:
    assert n_levels(shape) == levels
    of_levels, _ = energies(torch.zeros(2, math.prod(shape)), shape)
    assert len(of_levels) == levels
    assert min(of_levels[-1][0].shape[1:]) >= min(28, *shape[:2])


def once_smoothed(images: torch.Tensor) -> torch.Tensor:
    return smoothed(pad(images, (1, 1, 1, 1))) / 16


def test_smoothing_is_the_kernel_of_a_quarter_a_half_a_quarter() -> None:
    image = torch.zeros(1, 1, 7, 6, dtype=torch.float64)
    image[0, 0, 3, 2] = 1
    kernel = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
    expected = torch.zeros_like(image)
    expected[0, 0, 2:5, 1:4] = torch.outer(kernel, kernel)
    torch.testing.assert_close(once_smoothed(image), expected)


@pytest.mark.parametrize("shape", [(28, 30, 2), (60, 58, 1)])
def test_energies_are_smoothed_squares_of_the_residual_as_it_is_and_smoothed(shape: tuple[int, ...]) -> None:
    residual = torch.randn(3, math.prod(shape), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    r = residual.reshape(3, *shape).permute(0, 3, 1, 2)
    of_levels, units = energies(residual, shape)
    for of_level in of_levels:
        squares = [part.square().sum(dim=1, keepdim=True) for part in (r, once_smoothed(r))]
        expected = [once_smoothed(part)[:, 0] for part in squares]
        torch.testing.assert_close(
            [e * unit[:, None, None] for e, unit in zip(of_level, units.T, strict=True)], expected
        )
        r = avg_pool2d(r, 2)


@pytest.mark.parametrize("largest", [1e-30, 1e-3, 1.0, 1e6, 1e30, torch.finfo(torch.float32).max])
def test_energies_of_finite_numbers_in_single_precision_are_those_in_double(largest: float) -> None:
    residual = torch.randn(3, 60 * 58, generator=torch.Generator().manual_seed(0)).clamp(-1, 1) * largest
    residual[1] *= 0.5
    residual[2] = 0
    (single, units), (double, units_of_double) = (
        energies(residual, (60, 58, 1)),
        energies(residual.double(), (60, 58, 1)),
    )
    assert single[0][0].dtype == torch.float32
    for some, others in zip(single, double, strict=True):
        for k, (energy, exact) in enumerate(zip(some, others, strict=True)):
            of_single, of_double = energy * units[:, k, None, None], exact * units_of_double[:, k, None, None]
            atol = 1e-7 * of_double.amax().item()
            torch.testing.assert_close(of_single, of_double, rtol=1e-5, atol=atol)


def test_bright_beside_dark_and_a_faint_patch_stand_out_in_different_energies() -> None:
    """Against noise, a defect whose pixels alternate is clearest before smoothing, a uniform one after it."""
    noise = torch.randn(200, 1024, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    row, column = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    inside = (row >= 10) & (row < 16) & (column >= 10) & (column < 16)
    alternating = (3 * inside * (1 - 2 * ((row + column) % 2))).reshape(1, -1)
    uniform = (1.5 * inside).reshape(1, -1)

    def largest(residual: torch.Tensor) -> torch.Tensor:
        return largest_of_levels(*energies(residual, (32, 32, 1)))

    normal = largest(noise).quantile(0.99, dim=0)
    found = [(largest(noise + defect) > normal).double().mean(dim=0) for defect in (alternating, uniform)]
    assert found[0][0] > 0.95 > 0.3 > found[0][1]
    assert found[1][1] > 0.95 > found[1][0] + 0.2


def test_the_local_score_is_the_largest_heat(model: FittedModel) -> None:
    rows = model.rows(with_spots(images(30, (60, 58), seed=2)))
    maps = maps_of(model, rows)
    assert maps.shape == (30, 60, 58)
    np.testing.assert_array_equal(-maps.max(axis=(1, 2)), model.score_samples(rows, "local"))


def test_a_spot_is_found_where_it_is(model: FittedModel) -> None:
    X = images(60, (60, 58), seed=3)
    clean, spotted = model.rows(X), model.rows(with_spots(X))
    row, column = np.unravel_index(maps_of(model, spotted).reshape(60, -1).argmax(axis=1), (60, 58))
    hidden = (X[:, 20:23, 30:33] > 100).any(axis=(1, 2))  # under the bar of the image itself
    assert np.mean((abs(row - 21) <= 2) & (abs(column - 31) <= 2) | hidden) > 0.95
    assert np.median(model.score_samples(spotted, "local")) < model.score_samples(clean, "local").min()
    assert np.median(model.score_samples(spotted, "smallest_p")) < np.median(model.score_samples(clean, "smallest_p"))


def test_a_defect_does_not_raise_its_own_allowance(model: FittedModel) -> None:
    X = images(20, (60, 58), seed=4)
    X[:, 20:23, 30:33] = 0
    scores = [model.score_samples(model.rows(with_spots(X, value)), "local") for value in (60, 120, 180, 250)]
    assert (np.diff(np.median(scores, axis=1)) < 0).all()


def test_a_normal_image_has_no_heat(model: FittedModel) -> None:
    """By construction half of the held-out normals have a worst place of less than log 2 nats."""
    maps = maps_of(model, model.rows(images(100, (60, 58), seed=5)))
    assert np.mean(maps > 3) < 0.001
    assert 0 < np.median(maps.max(axis=(1, 2))) < 3


@pytest.mark.parametrize(("fixture", "shares"), [("dense_model", SHARES), ("model", SHARES_OF_PATCHES)])
def test_the_smallest_p_is_the_harmonic_mean_by_the_shares(
    fixture: str, shares: tuple[float, ...], request: pytest.FixtureRequest
) -> None:
    model: FittedModel = request.getfixturevalue(fixture)
    rows = model.rows(images(30, (60, 58), seed=6))
    three, scores = signs_of(model, rows), model.score_samples(rows, "smallest_p")
    assert three.shape == (30, len(SIGNS))
    tails = model.vae.tails
    assert isinstance(tails, ImageStatistics)
    local = (-model.score_samples(rows, "local") - tails.location[2].item()) / tails.tail[2].item() + math.log(2)
    np.testing.assert_allclose(three[:, 2], local + math.log(shares[2]), rtol=1e-12)
    p = np.exp(-three) * shares
    np.testing.assert_allclose(scores, -np.log((shares / p).sum(axis=1)), rtol=1e-12)
    oddest = three.max(axis=1)
    assert ((-scores >= oddest) & (-scores <= oddest + math.log(3))).all()
    assert sum(shares) == pytest.approx(1)
    for sign, score in (("whole", "elbo"), ("place", "local")):  # the same order
        np.testing.assert_array_equal(
            three[:, SIGNS.index(sign)].argsort(), (-model.score_samples(rows, score)).argsort()
        )


def test_a_file_with_one_energy_of_each_level_scores_as_it_did(dense_model: FittedModel, tmp_path: Path) -> None:
    """As earlier versions wrote them: the residual smoothed before it is squared, and the oddest sign alone."""
    own, of_today = [0, 1, 2, 4, 6], dense_model.vae.tails
    assert isinstance(of_today, ImageStatistics)
    vae = copy.deepcopy(dense_model.vae)
    vae.tails = ImageStatistics((60, 58, 1), location=of_today.location[own], tail=of_today.tail[own])
    replace(dense_model, vae=vae).save(tmp_path / "model.vae")
    loaded = FittedModel.load(tmp_path / "model.vae")
    rows = loaded.rows(with_spots(images(30, (60, 58), seed=8)))
    three = signs_of(loaded, rows)
    np.testing.assert_array_equal(loaded.score_samples(rows, "smallest_p"), -three.max(axis=1))
    heat = maps_of(loaded, rows)
    np.testing.assert_array_equal(-heat.max(axis=(1, 2)), loaded.score_samples(rows, "local"))
    more = maps_of(dense_model, rows) - heat  # of one energy more
    assert (more >= 0).all()
    assert 0.01 < (more > 0).mean() < 0.99
    assert sum(EARLIER_SHARES) == pytest.approx(1)
    change = np.log(EARLIER_SHARES) - np.log(SHARES)
    np.testing.assert_allclose((three - signs_of(dense_model, rows))[:, :2], np.tile(change[:2], (30, 1)), atol=1e-9)


def test_other_numbers_of_statistics_are_refused() -> None:
    seven = {"location": torch.zeros(7), "tail": torch.ones(7)}
    ImageStatistics.from_buffers(seven, (60, 58, 1))
    with pytest.raises(ValueError, match="statistics of images"):
        ImageStatistics.from_buffers(seven, (28, 28, 1))


def test_what_is_more_normal_than_normal_is_flagged(model: FittedModel) -> None:
    """Images of which everything is as expected cost less than any normal image does."""
    normal = model.rows(images(50, (60, 58), seed=7))
    regular = np.clip(model.reconstruct(normal), 0, 255).round().astype(np.uint8)
    assert (model.score_samples(regular, "elbo") > model.score_samples(normal, "elbo").max()).all()
    assert (model.score_samples(regular, "smallest_p") < -model.calibrations["smallest_p"].threshold).all()
    assert (signs_of(model, regular).argmax(axis=1) == SIGNS.index("too regular")).all()


def test_images_are_decided_by_the_smallest_p_and_tables_by_the_elbo(table_detector: VAEDetector) -> None:
    detector = VAEDetector(epochs=1).fit(images())
    assert detector.get_params()["score_name"] == "auto"
    assert detector.model_.score == "smallest_p"
    assert table_detector.model_.score == "elbo"
    assert "local" not in table_detector.model_.scores
    with pytest.raises(ValueError, match="this model was not calibrated for the score 'local', but for "):
        VAEDetector(epochs=1, score_name="local").fit(np.random.default_rng(0).normal(size=(40, 5))).predict([[0] * 5])
