"""Weights of held-out normals for a target: near the true ratio, of rows that the classifier did not see."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import images, table
from vae_anomaly import VAEDetector
from vae_anomaly.calibration.from_normals import Conformal
from vae_anomaly.calibration.weighted import Weighted, effective_size
from vae_anomaly.errors import DataError
from vae_anomaly.fitting.density_ratio import density_ratio, features_of


def modes(rng: np.random.Generator, n: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Features of normals in two modes, the second as often as said and with scores three times as wide."""
    loud = rng.random(n) < share
    x = rng.normal(size=(n, 2))
    x[:, 0] += 6 * loud
    return x, np.abs(rng.normal(size=n)) * np.where(loud, 3.0, 1.0)


def test_the_rate_is_kept_where_the_plain_one_is_wrong_by_a_factor_of_three() -> None:
    plain, weighted = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x, scores = modes(rng, 1500, 0.1)
        new_x, new_scores = modes(rng, 1000, 0.6)
        found = density_ratio(x, new_x)
        assert 0.7 < found.auc < 0.8
        assert found.shows_shift
        plain.append((new_scores > Conformal(0.05).fit(scores).threshold_).mean())
        weighted.append((new_scores > Weighted(0.05, found).fit(scores).threshold_).mean())
    assert np.mean(plain) >= 3 * 0.05
    assert 0.02 <= np.mean(weighted) <= 0.05 + 3 * np.std(weighted) / np.sqrt(12)


def test_weights_are_the_ratio_of_two_gaussians() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 3))
    found = density_ratio(x, rng.normal([0.7, 0, 0], [1, 0.8, 1], size=(4000, 3)))
    true = np.exp(0.7 * x[:, 0] - 0.7**2 / 2) / 0.8 * np.exp(-(x[:, 1] ** 2) * (1 / 0.8**2 - 1) / 2)
    assert np.abs(found.weights - true).mean() < 0.1
    assert found.weights.mean() == pytest.approx(1)
    first, second = np.sort(found.weights)[-2:]
    assert first == second  # so that nothing is added to the rate
    assert density_ratio(x, x[::2]).auc == pytest.approx(density_ratio(x, x[::2]).auc, abs=0)


def test_without_a_shift_all_weigh_nearly_the_same() -> None:
    sizes, shifts = [], 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        found = density_ratio(rng.normal(size=(400, 8)), rng.normal(size=(300, 8)))
        sizes.append(effective_size(found.weights) / 400)
        shifts += found.shows_shift
    assert np.mean(sizes) > 0.95
    assert shifts <= 2


def test_anomalies_far_from_all_normals_hardly_move_the_weights() -> None:
    rng = np.random.default_rng(0)
    x, clean = rng.normal(size=(1000, 4)), rng.normal(size=(950, 4))
    weights = density_ratio(x, np.concatenate([clean, rng.normal(1000, 1, size=(50, 4))])).weights
    assert effective_size(weights) > 0.8 * 1000
    assert np.isfinite(weights).all()


@pytest.mark.parametrize("shift", [1e4, -1e-200])
def test_no_overlap_and_no_spread_still_give_weights(shift: float) -> None:
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(size=60), np.zeros(60)], axis=1)
    found = density_ratio(x, x + shift)
    assert (found.weights > 0).all()
    assert found.weights.mean() == pytest.approx(1)


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(DataError, match="at least 20 held-out normals and 20 rows of the target, there are 100 and 5"):
        density_ratio(np.zeros((100, 2)), np.zeros((5, 2)))


def test_features_are_few_columns_or_else_the_latent_means(
    table_detector: VAEDetector, image_detector: VAEDetector
) -> None:
    X = table(50)
    X[0, 1] = np.nan
    found = features_of(table_detector.model_, table_detector.model_.rows(X))
    assert found.shape == (50, 6)
    assert found[0, 1] == 0
    assert np.abs(found).max() < 20
    rows = image_detector.model_.rows(images(20))
    np.testing.assert_array_equal(
        features_of(image_detector.model_, rows), image_detector.model_.transform(rows).astype(float)
    )
