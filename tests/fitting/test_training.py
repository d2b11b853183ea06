"""The training loop: what it keeps, when it stops, and that it touches nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import vae_anomaly.fitting.fit
from vae_anomaly import VAEDetector
from vae_anomaly.errors import TrainingError
from vae_anomaly.fitting.run import Recipe
from vae_anomaly.history import best_epoch, validation_elbo


def test_training_improves_both_parts(make_table: Callable[..., np.ndarray]) -> None:
    history = VAEDetector(epochs=60, input_noise=0).fit(make_table(400)).history_
    elbo = [record["reconstruction"] - record["kl"] for record in history]
    validation = list(map(validation_elbo, history))
    assert elbo[-1] > elbo[0] + 3
    assert max(validation) > validation[0] + 3
    assert [record["epoch"] for record in history] == list(range(1, len(history) + 1))


def test_refit_gives_the_same_bits_and_no_global_state_changes(
    make_table: Callable[..., np.ndarray], global_random_state: Callable[[], Any]
) -> None:
    X = make_table()
    before = global_random_state()
    detector = VAEDetector(epochs=3)
    first = detector.fit(X).score_samples(X)
    np.random.default_rng().random()
    again = detector.fit(X).score_samples(X)
    assert global_random_state() == before
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, VAEDetector(epochs=3, random_state=1).fit(X).score_samples(X))


@pytest.mark.parametrize("n", [3, 10, 127, 128, 129])
def test_any_number_of_rows_trains(make_table: Callable[..., np.ndarray], n: int) -> None:
    detector = VAEDetector(epochs=2).fit(make_table(n))
    assert np.isfinite(detector.score_samples(make_table(5, seed=1))).all()


def test_stops_early_and_keeps_the_best_weights(make_table: Callable[..., np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 30))  # nothing to learn: it overfits soon
    detector = VAEDetector(epochs=150, patience=5, latent_dim=10).fit(X)
    history = detector.history_
    best = best_epoch(history)
    assert len(history) < 150
    assert len(history) - max(best, 15) == 5
    rerun = VAEDetector(epochs=150, patience=150, latent_dim=10).fit(X)
    assert len(rerun.history_) == 150
    assert rerun.history_[: len(history)] == history


def test_best_epoch_not_the_last_is_what_remains() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 30))
    long = VAEDetector(epochs=100, patience=100, latent_dim=10).fit(X)
    assert best_epoch(long.history_) < 100
    short = VAEDetector(epochs=100, patience=33, latent_dim=10).fit(X)
    assert len(short.history_) < 100
    weights = list(zip(short.vae_.encoder.parameters(), long.vae_.encoder.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in weights)


def test_a_loss_that_is_no_number_is_a_clear_error(make_table: Callable[..., np.ndarray]) -> None:
    with pytest.raises(TrainingError, match=r"no longer finite in epoch \d+.*lower learning_rate \(now 1e\+30\)"):
        VAEDetector(learning_rate=1e30, epochs=5).fit(make_table())


def test_a_last_step_that_ruins_the_weights_is_noticed(make_table: Callable[..., np.ndarray]) -> None:
    # one step in all: its loss is still finite, only the validation sees the weights it leaves
    with pytest.raises(TrainingError, match="no longer finite in epoch 1"):
        VAEDetector(learning_rate=1e30, epochs=1).fit(make_table(50))


def test_input_noise_corrupts_only_the_input(make_table: Callable[..., np.ndarray]) -> None:
    X = make_table()
    noisy = VAEDetector(epochs=5, input_noise=0.5).fit(X)
    assert noisy.history_ != VAEDetector(epochs=5).fit(X).history_
    np.testing.assert_array_equal(noisy.score_samples(X), noisy.score_samples(X))


def test_final_variance_is_that_of_clean_training_rows(make_images: Callable[..., np.ndarray]) -> None:
    detector = VAEDetector(epochs=5, input_noise=0.5, validation_fraction=0.01, calibration_fraction=0.01)
    X = make_images(300)
    detector.fit(X)
    vae = detector.vae_
    x = vae.scaling(torch.tensor(X.reshape(300, -1), dtype=torch.float32))
    with torch.no_grad():
        posterior = vae.encode(x)
        eps = torch.randn(posterior.mu.shape, generator=torch.Generator().manual_seed(0))
        residual = (x - vae.decode(vae.rsample(posterior, eps))).square().mean()
    assert vae.likelihood.variance.item() == pytest.approx(residual.item(), rel=0.05)


@pytest.mark.parametrize(
    ("shape", "batch_size", "learning_rate", "epochs"),
    [
        ((400, 4), 128, 1e-3, 200),
        ((3_000, 4), 128, 1e-3, 107),
        ((2_000, 8, 8), 128, 1e-3, 120),
        ((4_000, 8, 8), 256, 2**0.5 * 1.5e-3, 60),
    ],
)
def test_the_recipe_that_is_taken_by_default(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], batch_size: int, learning_rate: float, epochs: int
) -> None:
    recipes = []

    def stop(vae: Any, X: Any, X_validation: Any, recipe: Recipe, *rest: Any, **_: Any) -> None:
        recipes.append(recipe)
        raise KeyboardInterrupt

    monkeypatch.setattr(vae_anomaly.fitting.fit, "train", stop)
    X = np.random.default_rng(0).normal(size=shape)
    for given in ({}, {"batch_size": 512}, {"batch_size": 512, "learning_rate": 0.01, "epochs": 3}):
        with pytest.raises(KeyboardInterrupt):
            VAEDetector(**given).fit(X)
    first, second, third = recipes
    of_512 = learning_rate * (512 / batch_size) ** 0.5
    assert (first.batch_size, first.learning_rate, first.epochs) == (batch_size, pytest.approx(learning_rate), epochs)
    assert (second.batch_size, second.learning_rate, second.epochs) == (512, pytest.approx(of_512), epochs)
    assert (third.batch_size, third.learning_rate, third.epochs) == (512, 0.01, 3)
