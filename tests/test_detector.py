"""The estimator as its users meet it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from helpers import TABLE_SCORES, Make
from vae_anomaly import VAEDetector
from vae_anomaly.errors import DataError
from vae_anomaly.registry import SCORES
from vae_anomaly.storage.rows import RowsInMemory


def test_anomalies_score_lower_and_are_predicted(table_detector: VAEDetector, make_table: Make) -> None:
    normal, far = make_table(300, seed=1)[:100], np.random.default_rng(0).normal(size=(100, 6)) * 8
    assert table_detector.score_samples(far).max() < np.median(table_detector.score_samples(normal))
    assert (table_detector.predict(far) == -1).mean() > 0.95


def test_scores_are_the_elbo_and_decisions_follow_the_offset(table_detector: VAEDetector, make_table: Make) -> None:
    X = make_table(50)
    scores = table_detector.score_samples(X)
    terms = table_detector.elbo_terms(X)
    np.testing.assert_array_equal(scores, terms.reconstruction - terms.kl)
    assert (terms.kl > 0).all()
    np.testing.assert_array_equal(table_detector.decision_function(X), scores - table_detector.offset_)
    np.testing.assert_array_equal(table_detector.predict(X), np.where(scores >= table_detector.offset_, 1, -1))
    assert table_detector.score(X) == scores.mean()
    assert table_detector.calibration_.threshold == -table_detector.offset_


def test_a_score_equal_to_the_offset_is_normal(make_table: Make) -> None:
    X = make_table(40)
    detector = VAEDetector(epochs=1).fit(X)
    threshold = -detector.score_samples(X)[7]
    detector.set_calibration(dataclasses.replace(detector.calibration_, threshold=threshold))
    assert detector.predict(X)[7] == 1


@pytest.mark.parametrize(("dtype", "computed"), [("f8", "f8"), ("f4", "f4"), ("u1", "f4"), ("i4", "f8"), ("f2", "f8")])
def test_precision_follows_the_input(make_images: Make, dtype: str, computed: str) -> None:
    X = make_images(40).astype(dtype)
    detector = VAEDetector(epochs=1).fit(X)
    assert detector.vae_.scaling.loc.dtype == {"f8": torch.float64, "f4": torch.float32}[computed]
    assert detector.transform(X).dtype == computed
    assert detector.reconstruct(X).dtype == computed
    assert detector.score_samples(X).dtype == np.float64


def test_a_model_scores_in_the_precision_of_its_input(table_detector: VAEDetector, make_table: Make) -> None:
    X = make_table(50)
    single = X.astype(np.float32)
    low, high = table_detector.score_samples(single), table_detector.score_samples(single.astype(np.float64))
    np.testing.assert_allclose(low, high, rtol=1e-4)
    assert not np.array_equal(low, high)


def test_images_in_any_layout_score_alike(make_images: Make) -> None:
    X = make_images(40, (9, 8))
    detector = VAEDetector(epochs=1, architecture="conv").fit(X)
    flat = VAEDetector(epochs=1, architecture="conv", image_shape=(9, 8)).fit(X.reshape(40, -1))
    scores = detector.score_samples(X)
    for other in (X[..., None], X.reshape(40, -1)):
        np.testing.assert_array_equal(detector.score_samples(other), scores)
    np.testing.assert_array_equal(flat.score_samples(X), scores)
    assert detector.image_shape_ == flat.image_shape_ == (9, 8, 1)
    assert detector.n_features_in_ == 72
    assert detector.reconstruct(X).shape == X.shape
    assert detector.sample(3).shape == (3, 9, 8)
    assert flat.sample(3).shape == (3, 72)


def test_colour_images(make_images: Make) -> None:
    X = make_images(30, (8, 9, 3))
    detector = VAEDetector(epochs=1, architecture="conv").fit(X)
    assert detector.image_shape_ == (8, 9, 3)
    assert detector.reconstruct(X).shape == X.shape
    with pytest.raises(DataError, match=r"fitted on samples of shape \(8, 9, 3\), got images of shape \(9, 8, 3\)"):
        detector.score_samples(X.transpose(0, 2, 1, 3))


def test_reconstruction_is_in_the_units_of_the_data(make_images: Make) -> None:
    X = make_images(200)
    detector = VAEDetector(epochs=40).fit(X)
    error = np.abs(detector.reconstruct(X) - X).mean()
    assert error < np.abs(X.mean(0) - X).mean()
    assert 0 < detector.sample(20).mean() < 255


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous_bernoulli"])
def test_likelihoods_on_the_unit_interval(make_images: Make, make_table: Make, likelihood: str) -> None:
    X = make_images(40)
    detector = VAEDetector(epochs=2, likelihood=likelihood).fit(X)
    assert np.isfinite(detector.score_samples(X)).all()
    reconstructed = detector.reconstruct(X)
    assert reconstructed.min() >= 0
    assert reconstructed.max() <= 255
    with pytest.raises(ValueError, match=r"needs values in \[0.0, 1.0\] after preprocessing, found -"):
        VAEDetector(epochs=1, likelihood=likelihood).fit(make_table())
    unit = VAEDetector(epochs=1, likelihood=likelihood).fit(np.random.default_rng(0).random((30, 4)))
    with pytest.raises(ValueError, match="found 0.5 to 2: scale the data, or use likelihood='gaussian'"):
        unit.score_samples(np.array([[0.5, 0.5, 0.5, 2.0]]))


def test_article_preset_trains_with_its_own_loss(make_images: Make) -> None:
    X = make_images(60)
    detector = VAEDetector(architecture="article", epochs=3).fit(X)
    assert detector.noise_.shape[-1] == 10
    x = X.reshape(60, -1) / 255
    terms = detector.elbo_terms(X)
    assert (terms.reconstruction <= 0).all()
    assert (terms.reconstruction >= -np.sum(np.maximum(x, 1 - x) ** 2, axis=1)).all()
    with pytest.raises(ValueError, match="brings its own likelihood"):
        VAEDetector(architecture="article", likelihood="bernoulli").fit(X)


def test_auto_threshold_rests_on_held_out_normals(make_table: Make) -> None:
    detector = VAEDetector(epochs=3, calibration_fraction=0.25, prior="normal").fit(make_table(400))
    assert detector.calibration_.n_normal == len(detector.calibration_scores_) == 100
    assert detector.calibration_.rate == 0.05
    # the 96th smallest anomaly score of 100: k = ceil(101 * 0.95)
    assert detector.offset_ == np.sort(detector.calibration_scores_)[4]
    assert (detector.calibration_scores_ < detector.offset_).sum() == 4


def test_what_calibrates_was_never_trained_on(make_table: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    import vae_anomaly.fitting.fit as module

    X = make_table(200)
    seen: list[np.ndarray] = []
    train = module.train

    def spy(vae: object, training: RowsInMemory, validation: np.ndarray, *args: object, **kwargs: object) -> object:
        seen.extend([training.values, validation])
        return train(vae, training, validation, *args, **kwargs)

    monkeypatch.setattr(module, "train", spy)
    detector = VAEDetector(epochs=1, prior="normal").fit(X)
    fitted = {row.tobytes() for part in seen for row in part}
    assert len(fitted) == 180
    held_out = np.array([row for row in X if row.tobytes() not in fitted])
    np.testing.assert_array_equal(np.sort(detector.score_samples(held_out)), np.sort(detector.calibration_scores_))
    np.testing.assert_allclose(detector.vae_.scaling.loc, seen[0].mean(0))


def test_contamination_is_a_quantile_of_the_training_scores(make_table: Make) -> None:
    X = make_table(200)
    detector = VAEDetector(epochs=3, contamination=0.1).fit(X)
    assert (detector.predict(X) == -1).sum() == 20
    assert detector.offset_ == np.percentile(detector.score_samples(X), 10)
    assert detector.calibration_.method == "contamination"


@pytest.mark.parametrize("options", [{"rate": 0.1}, {"rate": 0.2, "delta": 0.1}])
def test_recalibration_moves_predictions_and_agrees_with_p_values(make_table: Make, options: dict) -> None:
    detector = VAEDetector(epochs=3, calibration_fraction=0.3).fit(make_table(400))
    before = detector.score_samples(make_table(50))
    X = np.vstack([make_table(300, seed=1), 3 * make_table(100, seed=2)])
    assert detector.calibrate(**options) is detector
    p = detector.p_values(X)
    assert 0 < np.mean(p <= options["rate"]) < 1
    flagged = detector.predict(X) == -1
    if "delta" in options:  # p-values hold at all levels at once, the threshold at its own
        assert (flagged[p <= options["rate"]]).all()
    else:
        np.testing.assert_array_equal(flagged, p <= options["rate"])
    np.testing.assert_array_equal(detector.score_samples(make_table(50)), before)


def test_calibration_with_new_normals_and_anomalies(make_table: Make) -> None:
    detector = VAEDetector(epochs=3).fit(make_table(300))
    held_out = detector.calibration_scores_
    normal, anomalous = make_table(150, seed=1), 9 * np.random.default_rng(0).normal(size=(40, 6))
    y = np.repeat([1, -1], [150, 40])
    detector.calibrate(anomalous, np.full(40, -1), method="youden")
    np.testing.assert_array_equal(detector.calibration_scores_, held_out)
    assert (detector.calibration_.n_normal, detector.calibration_.n_anomalous) == (len(held_out), 40)
    detector.calibrate(np.vstack([normal, anomalous]), y, method="cost", miss=10.0)
    np.testing.assert_array_equal(detector.calibration_scores_, detector.score_samples(normal))
    assert detector.calibration_.detection_rate > 0.8
    detector.calibrate(normal, rate=0.01)
    assert detector.calibration_.rate == 0.01
    with pytest.raises(DataError, match="needs at least 999 held-out normals, there are 150"):
        detector.calibrate(rate=0.001)
    with pytest.raises(DataError, match=r"y must hold \+1 \(normal\) or -1 \(anomaly\) for each of the 150 samples"):
        detector.calibrate(normal, np.zeros(150))
    with pytest.raises(DataError, match="y was given without X"):
        detector.calibrate(y=y)
    assert detector.calibration_.rate == 0.01


def test_sampling_and_interpolation(image_detector: VAEDetector, make_images: Make) -> None:
    a, b = make_images(2)
    steps = image_detector.interpolate(a, b, 5)
    assert steps.shape == (5, 9, 8)
    ends = image_detector.reconstruct(np.stack([a, b]))
    np.testing.assert_allclose(steps[[0, -1]], ends, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(image_detector.sample(4, random_state=1), image_detector.sample(4, random_state=1))
    assert not np.array_equal(image_detector.sample(4, random_state=1), image_detector.sample(4, random_state=2))
    with pytest.raises(ValueError, match="n_samples must be an int of at least 1, got 0"):
        image_detector.sample(0)
    with pytest.raises(ValueError, match="n_steps must be an int of at least 2, got 1"):
        image_detector.interpolate(a, b, 1)


def test_works_in_pipelines_and_searches_with_pandas(make_table: Make) -> None:
    frame = pd.DataFrame(make_table(90), columns=list("abcdef"))
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), VAEDetector(epochs=2))
    assert pipeline.fit(frame).predict(frame).shape == (90,)
    search = GridSearchCV(VAEDetector(epochs=2), {"latent_dim": [1, 2]}, cv=2).fit(frame)
    assert search.best_params_["latent_dim"] in (1, 2)
    assert search.best_estimator_.feature_names_in_.tolist() == list("abcdef")
    assert np.isfinite(cross_val_score(VAEDetector(epochs=2), frame, cv=2)).all()
    named = VAEDetector(epochs=1, latent_dim=2).set_output(transform="pandas").fit(frame)
    assert named.transform(frame).columns.tolist() == ["vaedetector0", "vaedetector1"]


def test_clone_refits_to_the_same_scores(make_table: Make) -> None:
    X = make_table(60)
    detector = VAEDetector(epochs=2, latent_dim=2).fit(X)
    np.testing.assert_array_equal(clone(detector).fit(X).score_samples(X), detector.score_samples(X))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"architecture": "resnet"}, "architecture must be one of 'auto', 'article', 'conv', 'mlp', 'patches', got"),
        ({"latent_dim": 0}, "latent_dim must be an int of at least 1, or None, got 0"),
        ({"likelihood": "poisson"}, "likelihood must be one of"),
        ({"preprocessing": None}, "preprocessing must be one of"),
        ({"image_shape": 28}, "image_shape must be"),
        ({"image_shape": (5, 5)}, r"image_shape=\(5, 5\) has 25 pixels, the samples have 6 features"),
        ({"input_noise": -1}, "input_noise must be a number of at least 0, or None, got -1"),
        ({"epochs": 1.5}, "epochs must be an int"),
        ({"epochs": True}, "epochs must be an int"),
        ({"batch_size": 0}, "batch_size must be an int of at least 1"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number above 0, or None, got nan"),
        ({"patience": 0}, "patience must be"),
        ({"validation_fraction": 1.0}, "validation_fraction must be a number between 0 and 1"),
        ({"validation_fraction": 0.6, "calibration_fraction": 0.5}, "leave none to train on"),
        ({"contamination": 0.7}, r"contamination must be 'auto' or a number in \(0, 0.5\], got 0.7"),
        ({"contamination": "automatic"}, "contamination must be"),
        ({"n_draws": 0}, "n_draws must be"),
        ({"device": 3}, "device must be"),
        ({"device": "cuda:99"}, "device='cuda:99' cannot be used"),
        ({"device": "toaster"}, "device='toaster' cannot be used"),
        ({"architecture": "conv"}, "needs images of at least 8 x 8 pixels with 1 or 3 channels, got rows of 6"),
        ({"architecture": "patches"}, "architecture='patches' needs images: pass them as"),
        ({"architecture": "patches", "prior": "mixture"}, "brings its own prior: leave prior='auto'"),
        ({"architecture": "patches", "score_name": "likelihood_regret"}, "has no score 'likelihood_regret'"),
    ],
)
def test_bad_parameters_are_refused_in_fit(make_table: Make, parameters: dict[str, object], message: str) -> None:
    detector = VAEDetector(**parameters)
    with pytest.raises(ValueError, match=message):
        detector.fit(make_table())


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((2, 3)), "2 sample"),
        (np.array([[1.0, np.inf]] * 5), "X: row 0, column 1 is inf: fill in"),
        (np.zeros(5), "1D array"),
        (np.zeros((5, 2, 2, 2, 2)), "dim 5"),
        (np.zeros((5, 0)), "0 feature"),
    ],
)
def test_bad_data_is_refused(X: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VAEDetector().fit(X)


@pytest.mark.parametrize(
    "X",
    [
        np.ones((20, 3)),
        np.zeros((20, 1)),
        np.tile(np.arange(4.0), (20, 1)),
        np.random.default_rng(0).normal(size=(20, 2)) * [1e30, 1e-30],
        np.random.default_rng(0).normal(size=(20, 1)).repeat(5, axis=1),
    ],
    ids=["ones", "zeros", "one repeated row", "extreme scales", "duplicated columns"],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_degenerate_data_still_gives_finite_scores(X: np.ndarray, dtype: type) -> None:
    detector = VAEDetector(epochs=5).fit(X.astype(dtype))
    assert np.isfinite(detector.score_samples(X.astype(dtype))).all()
    assert np.isfinite(detector.score_samples(np.full((1, X.shape[1]), 1e30, dtype))).all()


def test_a_constant_feature_does_not_drown_the_others(make_table: Make) -> None:
    X = np.hstack([make_table(300), np.full((300, 1), 5.0)])
    detector = VAEDetector(epochs=30).fit(X)
    nudged = X[:50].copy()
    nudged[:, -1] += 1e-6
    np.testing.assert_allclose(detector.score_samples(nudged), detector.score_samples(X[:50]), atol=0.01)


def test_use_before_fit_is_refused() -> None:
    for method in ("score_samples", "predict", "transform", "reconstruct", "elbo_terms"):
        with pytest.raises(NotFittedError):
            getattr(VAEDetector(), method)(np.zeros((2, 2)))
    with pytest.raises(NotFittedError):
        VAEDetector().sample(1)


def test_the_docstring_example_runs() -> None:
    import doctest

    import vae_anomaly.detector as module

    assert doctest.testmod(module).attempted > 0
    assert doctest.testmod(module).failed == 0


@pytest.fixture(scope="module")
def switched(make_table: Make) -> VAEDetector:
    return VAEDetector(epochs=3).fit(make_table(200))


@pytest.mark.parametrize("name", TABLE_SCORES)
def test_another_score_brings_its_threshold_and_never_trains(
    switched: VAEDetector, make_table: Make, tmp_path: Path, name: str
) -> None:
    X, weights = make_table(40, seed=1), copy.deepcopy(switched.vae_.state_dict())
    detector = clone(switched).set_params(score_name=name).fit(make_table(200))
    assert switched.set_params(score_name=name) is switched
    scores = switched.score_samples(X)
    assert scores.dtype == np.float64
    np.testing.assert_array_equal(detector.score_samples(X), scores)
    assert detector.calibration_ == switched.calibration_
    np.testing.assert_array_equal(switched.predict(X), np.where(scores >= switched.offset_, 1, -1))
    n = 200 if SCORES.entry(name).facts.get("leaves_out_own_row") else 20
    assert len(switched.calibration_scores_) == switched.calibration_.n_normal == n
    assert (switched.model_.p_values_of(switched.calibration_scores_) > 0).all()
    switched.save(tmp_path / "model.vae")
    loaded = VAEDetector.load(tmp_path / "model.vae")
    assert loaded.get_params()["score_name"] == name
    np.testing.assert_array_equal(loaded.score_samples(X), scores)
    assert loaded.offset_ == switched.offset_
    assert all(torch.equal(value, weights[key]) for key, value in switched.vae_.state_dict().items())


def test_calibration_is_of_one_score(make_table: Make) -> None:
    detector = VAEDetector(epochs=2).fit(make_table(400))
    before = detector.offset_
    detector.set_params(score_name="kl").calibrate(rate=0.2)
    assert detector.calibration_.rate == 0.2
    detector.set_params(score_name="elbo")
    assert (detector.offset_, detector.calibration_.rate) == (before, 0.05)


def test_the_name_of_a_score_is_a_parameter_and_score_a_method(switched: VAEDetector, make_table: Make) -> None:
    X = make_table(30)
    detector = VAEDetector(score_name="kl")
    assert detector.get_params()["score_name"] == "kl"
    assert "score_name='kl'" in repr(detector)
    switched.set_params(score_name="elbo")
    assert switched.score(X) == switched.score_samples(X).mean()
    with pytest.raises(ValueError, match="score_name must be one of 'auto', 'elbo', .*, got 'best'"):
        VAEDetector(score_name="best").fit(X)
    with pytest.raises(ValueError, match="score must be one of 'elbo', .*, got 'best'"):
        copy.deepcopy(switched).set_params(score_name="best").predict(X)


def test_defaults_follow_the_kind_of_data(make_table: Make, make_images: Make) -> None:
    tables, images = VAEDetector(epochs=1).fit(make_table()), VAEDetector(epochs=1).fit(make_images())
    assert (tables.likelihood_, tables.prior_) == ("gaussian", "exemplars")
    assert (images.likelihood_, images.prior_) == ("correlated_gaussian", "mixture")
    plain = VAEDetector(epochs=1, likelihood="gaussian", prior="normal").fit(make_images())
    assert (plain.likelihood_, plain.prior_) == ("gaussian", "normal")
    article = VAEDetector(epochs=1, architecture="article").fit(make_images())
    assert (article.likelihood_, article.prior_) == ("squared_error", "normal")
    mixed = VAEDetector(epochs=1, prior="exemplars").fit(make_images())
    assert np.isfinite(mixed.score_samples(make_images(5))).all()
    with pytest.raises(ValueError, match="likelihood='correlated_gaussian' needs images"):
        VAEDetector(epochs=1, likelihood="correlated_gaussian").fit(make_table())
    with pytest.raises(ValueError, match="prior='exemplars' needs a Gaussian likelihood"):
        VAEDetector(epochs=1, likelihood="bernoulli", prior="exemplars").fit(make_images())


def test_brightness_contrast_and_polarity_of_images_change_little(make_images: Make) -> None:
    X = make_images(200).astype(np.float64)
    detector = VAEDetector(epochs=4).fit(X)
    for factor, shift in ((0.25, 100.0), (1.0, -300.0), (1e-3, 0.0)):
        other = VAEDetector(epochs=4).fit(factor * X + shift)
        np.testing.assert_allclose(other.score_samples(factor * X + shift), detector.score_samples(X), rtol=1e-6)
    detector = VAEDetector(epochs=12).fit(X)
    inverted = VAEDetector(epochs=12).fit(255 - X)
    correlation = np.corrcoef(inverted.score_samples(255 - X), detector.score_samples(X))[0, 1]
    assert correlation > 0.8


def test_slow_scores_are_calibrated_on_some_of_the_rows(
    make_table: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vae_anomaly.fitting.thresholds.MAX_ROWS_FOR_SLOW_SCORES", 9)
    detector = VAEDetector(epochs=1, prior="normal").fit(make_table(200))
    sizes = {name: len(held_out) for name, held_out in detector.held_out_scores_.items()}
    assert sizes.pop("likelihood_regret") == 9
    assert set(sizes.values()) == {20}
    assert detector.set_params(score_name="likelihood_regret").calibration_.n_normal == 9
