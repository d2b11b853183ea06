"""Images in another form than those of the training are known by their values, and ordinary anomalies are not."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from vae_anomaly import FittedModel, VAEDetector
from vae_anomaly.datasets import load_named
from vae_anomaly.errors import DataError, ModelFileError, UnlikeTrainingWarning
from vae_anomaly.fitted_images import FittedImages
from vae_anomaly.storage import model_file
from vae_anomaly.storage.checks import check_samples

SHAPE = (16, 16, 3)


def texture(n: int, seed: int, dark: tuple[int, ...] = (150, 100, 40), bright: tuple[int, ...] = (220, 160, 90)):
    """Brown woven images, 8-bit."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(n, *SHAPE)), (0, 1, 1, 0))
    share = 0.5 + 0.15 * noise / noise.std()
    return np.clip(dark + (np.array(bright) - dark) * share, 0, 255).astype(np.uint8)


def known(X: np.ndarray) -> FittedImages:
    shape = (*X.shape[1:], 1)[:3]
    return FittedImages.of(X.reshape(len(X), -1), shape, X.dtype)


TRAINED = known(texture(100, 0))
OF_FLOATS = known((texture(100, 0) / 255).astype(np.float32))
NEW = texture(20, 1)


@pytest.mark.parametrize("n", [1, 20])
@pytest.mark.parametrize(
    ("X", "cause"),
    [
        (NEW / 255, r"trained on 0..255, got 0..1; multiply by 255 first"),
        ((NEW / 255).astype(np.float32), r"trained on 0..255, got 0..1; multiply by 255"),
        (NEW.astype(np.uint16) * 257, r"trained on 0..255, got 0..65535; divide by 257 first"),
        (NEW.astype(np.uint16) * 16, r"trained on 0..255, got "),
        (NEW / 127.5 - 1, r"got -1..1; were they standardised"),
        (255 - NEW, "values are inverted"),
        (NEW[..., ::-1], "red and blue are exchanged"),
    ],
    ids=["unit", "unit32", "x257", "x16", "-1..1", "inverted", "bgr"],
)
def test_the_likely_cause_is_named(X: np.ndarray, cause: str, n: int) -> None:
    found = TRAINED.difference(X[:n], SHAPE)
    assert found is not None
    assert re.search(cause, found)


def test_the_likely_cause_is_named_of_a_model_of_floats() -> None:
    assert "trained on 0..1, got 0..255; divide by 255 first" in (OF_FLOATS.difference(NEW, SHAPE) or "")
    assert "inverted" in (OF_FLOATS.difference(1 - NEW / 255, SHAPE) or "")
    assert OF_FLOATS.difference(NEW / 255, SHAPE) is None


def anomalies() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    found = {"normal": NEW, "same values in another type": NEW.astype(np.float64)}
    for name, value in (("black spot", 0), ("white spot", 255)):
        found[name] = NEW.copy()
        found[name][:, 4:10, 4:10] = value
    found |= {"dark": NEW // 2, "bright": np.clip(NEW * 1.3, 0, 255).astype(np.uint8)}
    found |= {name: np.full_like(NEW, value) for name, value in (("all black", 0), ("all white", 255), ("grey", 128))}
    found["without colour"] = np.repeat(NEW.mean(axis=3, keepdims=True), 3, axis=3).astype(np.uint8)
    found["of another colour"] = texture(20, 3, (60, 120, 60), (120, 200, 100))
    found["noise"] = rng.integers(0, 256, NEW.shape).astype(np.uint8)
    return found


@pytest.mark.parametrize("n", [1, 20])
@pytest.mark.parametrize("name", anomalies())
def test_normals_and_ordinary_anomalies_are_of_the_same_form(name: str, n: int) -> None:
    X = anomalies()[name][:n]
    assert TRAINED.difference(X, SHAPE) is None
    assert OF_FLOATS.difference((X / 255).astype(np.float32), SHAPE) is None


def test_digits_of_another_class_are_of_the_same_form() -> None:
    training, test = load_named("digits")
    for digit in "0123456789":
        trained = known(training.X[training.labels == digit])
        for other in "0123456789":
            X = test.X[test.labels == other]
            assert [trained.difference(x[None], (8, 8, 1)) for x in X[:20]] == [None] * len(X[:20])
            assert trained.difference(X, (8, 8, 1)) is None
        X = test.X[test.labels == digit]
        assert "inverted" in (trained.difference(training.X.max() - X, (8, 8, 1)) or "")


def test_a_model_keeps_it_and_predict_warns(tmp_path, make_images) -> None:
    X = make_images(60)
    detector = VAEDetector(epochs=1).fit(X)
    detector.save(tmp_path / "m.vae")
    for model in (detector, VAEDetector.load(tmp_path / "m.vae")):
        with pytest.warns(UnlikeTrainingWarning, match=r"X: values of another range: trained on 0..255, got 0..1"):
            model.predict(X / 255)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.predict(X)
            model.predict(X[:1])
    assert FittedModel.load(tmp_path / "m.vae").images == detector.model_.images


def test_files_without_it_load_and_files_with_nonsense_do_not(tmp_path, make_images) -> None:
    model = VAEDetector(epochs=1).fit(make_images(60)).model_
    images = model.images
    assert images is not None
    replace(model, images=None).save(tmp_path / "m.vae")
    assert FittedModel.load(tmp_path / "m.vae").images is None
    for wrong in (
        replace(images, levels=images.levels * 3),
        replace(images, low=2.0, high=1.0),
        replace(images, crop=(3, 3)),
        replace(images, dtype="object"),
        replace(images, spread=2.0),
        replace(images, levels=((0.5,),)),
    ):
        replace(model, images=wrong).save(tmp_path / "m.vae")
        with pytest.raises(ModelFileError, match="images"):
            FittedModel.load(tmp_path / "m.vae")


def test_old_files_have_no_such_field(tmp_path, make_images) -> None:
    VAEDetector(epochs=1).fit(make_images(60)).save(tmp_path / "m.vae")
    config = model_file.read_config(tmp_path / "m.vae").config
    assert json.dumps(config["images"])
    from vae_anomaly.storage.model_schema import check_config

    check_config({name: value for name, value in config.items() if name != "images"})


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_that_come_first_are_never_pixels(channels: int) -> None:
    X = np.zeros((5, channels, 12, 12))
    for entrance in (VAEDetector(epochs=1).fit, lambda X: check_samples(X, "X")):
        with pytest.raises(DataError, match=rf"\(5, {channels}, 12, 12\) looks like .*np.moveaxis\(X, 1, -1\)"):
            entrance(X)
    check_samples(np.moveaxis(X, 1, -1), "X")


def test_a_list_of_images_is_what_their_array_is(make_images) -> None:
    X = make_images(40)
    whole, listed = VAEDetector(epochs=1).fit(X), VAEDetector(epochs=1).fit(list(X))
    np.testing.assert_array_equal(whole.score_samples(X), listed.score_samples(list(X)))
    with pytest.raises(DataError, match=r"image 1 has shape \(3, 4\), and image 0 has"):
        listed.score_samples([X[0], np.zeros((3, 4))])
    with pytest.raises(DataError, match=r"a single sample of shape .* has to come as a set of one: X\[None\]"):
        VAEDetector(epochs=1).fit(np.repeat(X[..., None], 3, axis=3)).predict(np.repeat(X[0][..., None], 3, axis=2))
