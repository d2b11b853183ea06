"""Images of a fixed scene: by which rule they are aligned, and what a fit makes of that."""

from functools import cache

import numpy as np
import pytest

from helpers import run
from vae_anomaly import FittedModel, VAEDetector
from vae_anomaly.benchmark.defects import texture, weave
from vae_anomaly.errors import DataError
from vae_anomaly.fitting.alignment import chosen_scene
from vae_anomaly.model.build import Choices
from vae_anomaly.parameters import DEFAULTS
from vae_anomaly.storage.rows import RowsInMemory

SIDE = 32


def cloth(n: int = 60, seed: int = 0, **kwargs: object) -> np.ndarray:
    return weave(np.random.default_rng(seed), n, SIDE, **kwargs)[0]


def scene_of(X: np.ndarray, **given: object) -> object:
    parameters = {**DEFAULTS, "architecture": "mlp", **given}
    return chosen_scene(parameters, Choices(parameters, X.shape[1:]), RowsInMemory(X.reshape(len(X), -1)))[0]


@cache
def fitted(alignment: str) -> VAEDetector:
    return VAEDetector(epochs=40, alignment=alignment).fit(cloth(80))


@pytest.mark.parametrize("kwargs", [{}, {"jitter": 1.0, "light": 0.1}])
def test_pictures_of_one_scene_are_aligned(kwargs):
    assert scene_of(cloth(**kwargs)) is not None
    assert scene_of(cloth(**kwargs), alignment="none") is None


@pytest.mark.parametrize("X", [texture(np.random.default_rng(0), 40, 64)[0], cloth()[:, :28, :28], cloth()[:8]])
def test_textures_small_and_few_images_are_not(X):
    assert scene_of(X) is None


@pytest.mark.parametrize(
    ("X", "given", "words"),
    [
        (cloth(12), {"likelihood": "bernoulli"}, "likelihood='bernoulli'"),
        (cloth(12), {"prior": "exemplars"}, "prior='exemplars'"),
        (cloth(12), {"preprocessing": "by_column"}, "preprocessing='by_column'"),
        (cloth(12), {"architecture": "patches"}, "architecture='patches'"),
        (cloth(12)[:, :9], {}, "9 x 32"),
        (cloth(12)[:, 0, 0], {}, "no images"),
    ],
)
def test_what_cannot_be_aligned_says_so_if_asked_and_is_left_else(X, given, words):
    assert scene_of(X, **given) is None
    with pytest.raises(DataError, match=words):
        scene_of(X, alignment="camera", **given)


def test_normals_that_moved_raise_few_alarms_and_defects_are_found():
    normal, defective = (cloth(60, 1, jitter=1.0, light=0.1, kind=kind) for kind in (None, "blob"))
    flagged = {name: (fitted(name).predict(normal) == -1).mean() for name in ("none", "auto")}
    assert flagged["none"] > 0.5
    assert flagged["auto"] <= 0.1
    assert (fitted("auto").predict(defective) == -1).mean() > 0.9


def test_score_depends_on_the_image_alone():
    X = cloth(40, 2, jitter=1.0)
    scores = fitted("auto").score_samples(X)
    order = np.random.default_rng(0).permutation(len(X))
    assert (fitted("auto").score_samples(X[order]) == scores[order]).all()
    assert (fitted("auto").score_samples(X[7:8]) == scores[7]).all()


def test_file_keeps_the_scene(tmp_path):
    detector, X = fitted("auto"), cloth(10, 3, jitter=1.0)
    detector.model_.save(tmp_path / "model.vae")
    loaded = FittedModel.load(tmp_path / "model.vae")
    assert (loaded.score_samples(loaded.rows(X)) == detector.score_samples(X)).all()
    assert loaded.parameters["alignment"] == "camera"


def test_explanation_has_the_aligned_image():
    x = cloth(1, 4)
    moved_by_one = np.roll(x, 1, axis=2)
    observed = [fitted("auto").explain(X).observed.reshape(SIDE, SIDE, 3)[4:-4, 4:-4] for X in (x, moved_by_one)]
    assert np.sqrt(np.square(observed[0] - observed[1]).mean()) < 1
    assert np.sqrt(np.square(moved_by_one - x.astype(float)).mean()) > 20


def test_command_says_that_images_are_aligned(own_folder):
    np.save("cloth.npy", cloth())
    fit = run("fit", "--data", "cloth.npy", "--epochs", 1, "--output", "model.vae")
    assert "images of one fixed scene" in fit.output
    assert "alignment  images of one fixed scene" in run("inspect", "model.vae").output
