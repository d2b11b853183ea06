"""A model of patches as its users meet it: chosen, fitted, scored, explained, kept in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from helpers import run
from vae_anomaly import FittedModel, VAEDetector
from vae_anomaly.errors import DataError
from vae_anomaly.fitting import subject
from vae_anomaly.registry import SCORES

SHAPE = (36, 40)
N_PLACES = 6 * 7


def textures(n: int, seed: int = 0) -> np.ndarray:
    """Grey images of smooth noise, uint8."""
    rng = np.random.default_rng(seed)
    smooth = np.stack([gaussian_filter(rng.normal(size=SHAPE), (1, 2), mode="wrap") for _ in range(n)])
    return np.clip(128 + 30 * smooth / smooth.std(), 0, 255).astype(np.uint8)


@pytest.fixture(autouse=True)
def few_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "N_PATCHES", 5_120)
    monkeypatch.setattr(subject, "N_VALIDATION", 256)


@pytest.fixture(scope="module")
def detector() -> VAEDetector:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject, "N_PATCHES", 5_120)
        patch.setattr(subject, "N_VALIDATION", 256)
        return VAEDetector(epochs=15).fit(textures(160))


def test_textures_get_it_by_default_and_the_model_says_why(detector: VAEDetector) -> None:
    assert detector.architecture == "auto"
    assert detector.architecture_ == detector.model_.parameters["architecture"] == "patches"
    assert detector.metadata_["architecture"].startswith("a texture, whose pixels have no place")
    assert (detector.likelihood_, detector.prior_) == ("patches_gaussian", "normal_places")
    assert detector.transform(textures(3)).shape == (3, N_PLACES * 16)


def test_a_scratch_and_a_fainter_texture_are_found(detector: VAEDetector) -> None:
    normal, scratched = textures(40, seed=1), textures(40, seed=2)
    scratched[:, 15:17, 12:22] = 255
    excess = (detector.explain(images).excess.reshape(-1, *SHAPE) for images in (normal, scratched))
    of_normal, of_scratched = (np.array([gaussian_filter(image, 1).max() for image in images]) for images in excess)
    assert np.mean(of_scratched[:, None] > of_normal) > 0.95
    faint = 64 + textures(40, seed=4) // 2
    elbo = VAEDetector.from_model(detector.model_.using("elbo"))
    assert elbo.score_samples(faint).mean() > elbo.score_samples(normal).mean()  # less to explain
    for changed in (faint, scratched):
        assert np.mean(detector.score_samples(changed)[:, None] < detector.score_samples(normal)) > 0.9


def test_every_score_but_the_slow_one_depends_on_its_image_alone(detector: VAEDetector) -> None:
    X, model = textures(7, seed=1), detector.model_
    assert set(SCORES) - set(model.scores) == {"likelihood_regret"}
    rows = model.rows(X)
    for name in model.scores:
        scores = model.score_samples(rows, name)
        assert np.isfinite(scores).all()
        np.testing.assert_array_equal(model.score_samples(rows[3:5], name), scores[3:5], err_msg=name)
    with pytest.raises(ValueError, match="was not calibrated for the score 'likelihood_regret'"):
        model.using("likelihood_regret")


def test_explanations_sum_to_the_terms_and_images_keep_their_shape(detector: VAEDetector) -> None:
    X = textures(5, seed=1)
    explanation, terms = detector.explain(X), detector.elbo_terms(X)
    np.testing.assert_allclose(explanation.reconstruction.sum(axis=1), terms.reconstruction, rtol=1e-4)
    np.testing.assert_allclose(explanation.kl.sum(axis=1), terms.kl, rtol=1e-4)
    assert detector.reconstruct(X).shape == X.shape
    assert detector.sample(3).shape == (3, *SHAPE)
    error = np.abs(detector.reconstruct(X) - X).mean()
    assert error < 0.6 * np.abs(X - X.mean()).mean()


def test_a_file_gives_the_same_bits_and_a_refit_the_same_file(detector: VAEDetector, tmp_path: Path) -> None:
    X = textures(5, seed=1)
    detector.save(tmp_path / "a.vae")
    loaded = FittedModel.load(tmp_path / "a.vae")
    for name in loaded.scores:
        rows = loaded.rows(X)
        np.testing.assert_array_equal(loaded.score_samples(rows, name), detector.model_.score_samples(rows, name))
    few = textures(30)
    for name in ("b", "c"):
        VAEDetector(epochs=1, architecture="patches").fit(few).save(tmp_path / name)
    assert (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def test_doubles_are_computed_as_doubles_and_flat_rows_as_images() -> None:
    X = textures(30).astype(np.float64)
    images = VAEDetector(epochs=1, architecture="patches", latent_dim=3, n_draws=3).fit(X)
    flat = VAEDetector(epochs=1, architecture="patches", latent_dim=3, n_draws=3, image_shape=SHAPE)
    flat.fit(X.reshape(30, -1))
    assert images.transform(X[:2]).dtype == np.float64
    assert images.transform(X[:2]).shape == (2, 3 * N_PLACES)
    np.testing.assert_array_equal(images.score_samples(X), flat.score_samples(X.reshape(30, -1)))


def test_one_scale_for_all_pixels_is_needed() -> None:
    with pytest.raises(DataError, match="needs one scale for all pixels: use preprocessing='standardize_globally'"):
        VAEDetector(architecture="patches", preprocessing="standardize").fit(textures(20))


def test_the_command_says_what_was_chosen_and_why(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", textures(60))
    printed = run(
        "fit", "--data", tmp_path / "x.npy", "--epochs", 1, "--output", tmp_path / "m.vae", "--no-report"
    ).output
    assert "patches, patches_gaussian likelihood, normal_places prior, 16 latents at 42 places" in printed
    assert "patches, since a texture, whose pixels have no place: other images explain" in printed
    assert "validation ELBO of a patch in training" in printed
    shown = run("inspect", tmp_path / "m.vae").output
    assert "network    patches, since a texture" in shown
    assert "architecture=patches" in shown
