"""The fitted model alone: what the estimator scores, accepts and refuses, without scikit-learn."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from helpers import TABLE_SCORES, Make
from vae_anomaly import FittedModel, VAEDetector
from vae_anomaly.errors import DataError, ModelFileError
from vae_anomaly.registry import SCORES, Registry

NAMES = ("a", "b", "c", "d", "e", "f")


@pytest.fixture(scope="module")
def named(make_table: Make) -> VAEDetector:
    return VAEDetector(epochs=1).fit(pd.DataFrame(make_table(40), columns=list(NAMES)))


@pytest.fixture(scope="module")
def pixels(make_images: Make) -> VAEDetector:
    return VAEDetector(epochs=1, likelihood="bernoulli", preprocessing="unit_range").fit(make_images(40).astype(float))


def outcome(score: Callable[[], np.ndarray]) -> tuple[Any, list[str]]:
    """Scores as bytes, or the error's first line; and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result: Any = score().tobytes()
        except ValueError as error:
            result = str(error)
    return result, [str(warning.message) for warning in caught]


def both(detector: VAEDetector, X: np.ndarray, names: tuple[str, ...] | None = None) -> list[tuple[Any, list[str]]]:
    """What comes of the fitted model, and of the estimator."""
    model = detector.model_
    given = X if names is None else pd.DataFrame(X, columns=list(names))
    return [
        outcome(lambda: model.score_samples(model.rows(given))),
        outcome(lambda: detector.score_samples(given)),
    ]


@pytest.mark.parametrize("score", TABLE_SCORES)
def test_a_file_scores_as_the_estimator(table_detector: VAEDetector, make_table, tmp_path: Path, score: str) -> None:
    X = make_table(30, seed=2)
    table_detector.save(tmp_path / "m.vae")
    model = FittedModel.load(tmp_path / "m.vae").using(score)
    detector = VAEDetector.load(tmp_path / "m.vae").set_params(score_name=score)
    rows = model.rows(X)
    scores = model.score_samples(rows)
    np.testing.assert_array_equal(scores, detector.score_samples(X))
    np.testing.assert_array_equal(model.elbo_terms(rows), detector.elbo_terms(X))
    np.testing.assert_array_equal(model.p_values_of(scores), detector.p_values(X))
    np.testing.assert_array_equal(model.calibration_scores, detector.calibration_scores_)
    assert model.calibration == detector.calibration_
    model.save(tmp_path / "again.vae")
    detector.save(tmp_path / "of detector.vae")
    assert (tmp_path / "again.vae").read_bytes() == (tmp_path / "of detector.vae").read_bytes()


def test_the_estimators_model_has_the_score_in_use(table_detector: VAEDetector) -> None:
    assert table_detector.model_.score == "elbo"
    other = table_detector.model_.using("kl")
    assert (other.score, table_detector.model_.score) == ("kl", "elbo")
    assert other.vae is table_detector.vae_
    with pytest.raises(ValueError, match="score must be one of 'elbo', .*, got 'best'"):
        other.using("best")


@pytest.mark.parametrize(
    "dtype", ["f8", "f4", "f2", "u1", "i1", "i8", "u8", "?", ">f8", ">f4", ">i2", np.longdouble], ids=str
)
def test_numbers_of_any_type_are_taken_alike(table_detector: VAEDetector, make_table: Make, dtype: str) -> None:
    X = np.abs(make_table(20)).astype(dtype)
    ours, theirs = both(table_detector, X)
    assert ours == theirs
    assert isinstance(ours[0], bytes)
    assert both(table_detector, np.asfortranarray(X))[0] == ours


@settings(max_examples=60)
@given(
    X=hnp.arrays(
        st.sampled_from([np.float64, np.float32, np.uint8, np.int16]),
        st.tuples(st.integers(1, 4), st.integers(1, 9)),
        elements=st.integers(0, 100),
    )
)
@example(X=np.zeros((2, 6)))
def test_any_rows_are_taken_or_refused_alike(table_detector: VAEDetector, X: np.ndarray) -> None:
    ours, theirs = both(table_detector, X)
    assert ours == theirs


@settings(max_examples=60)
@given(names=st.permutations(NAMES) | st.lists(st.sampled_from("abcdefghijklmnop"), min_size=1, unique=True))
@example(names=list(NAMES))
@example(names=list("ghijklabcdef"))
def test_names_are_compared_alike(named: VAEDetector, names: list[str]) -> None:
    ours, theirs = both(named, np.ones((3, len(names))), tuple(names))
    assert ours == theirs
    assert isinstance(ours[0], bytes) == (set(names) >= set(NAMES))


def test_a_side_without_names_is_warned_of_alike(named: VAEDetector, table_detector: VAEDetector) -> None:
    X = np.ones((3, 6))
    for detector, names in ((named, None), (table_detector, NAMES)):
        ours, theirs = both(detector, X, names)
        assert ours == theirs
        assert len(ours[1]) == 1


@pytest.mark.parametrize(
    "shape", [(9, 8), (9, 8, 1), (72,), (8, 9), (9, 8, 3), (6, 12), (71,), (9, 8, 1, 1), (1,), ()], ids=str
)
def test_images_are_taken_or_refused_alike(pixels: VAEDetector, shape: tuple[int, ...]) -> None:
    ours, theirs = both(pixels, np.full((2, *shape), 100.0))
    if len(shape) in (1, 2, 3):
        assert ours == theirs
    assert isinstance(ours[0], bytes) == isinstance(theirs[0], bytes) == (shape in [(9, 8), (9, 8, 1), (72,)])


@pytest.mark.parametrize("value", [-1.0, 256.0, 1e300])
def test_values_without_density_are_refused_alike(pixels: VAEDetector, value: float) -> None:
    X = np.full((2, 9, 8), 100.0)
    X[1, 3, 4] = value
    ours, theirs = both(pixels, X)
    assert ours == theirs
    assert "likelihood='bernoulli' needs values in [0.0, 1.0] after preprocessing, found " in ours[0]


def test_what_no_model_can_be_given_is_refused(table_detector: VAEDetector) -> None:
    X = np.zeros((4, 6))
    wrong = {
        "row 2, column 1 is -inf": np.where(np.arange(24).reshape(4, 6) == 13, -np.inf, X),
        "holds no samples": X[:0],
        "holds no samples (": X[:, :0],
        "got an array of shape (24,)": X.ravel(),
        "got an array of shape (4, 6, 1, 1, 1)": X.reshape(4, 6, 1, 1, 1),
        "needs real numbers": X + 1j,
        "values of type <U3": X.astype("U3"),
    }
    for message, refused in wrong.items():
        ours, theirs = both(table_detector, refused)
        assert message in ours[0]
        assert isinstance(theirs[0], str) or refused.dtype.kind == "U"
    with pytest.raises(DataError):
        table_detector.model_.rows(X[:, :0])


@pytest.mark.skipif(np.finfo(np.longdouble).max == np.finfo(np.float64).max, reason="no longer double here")
def test_values_beyond_double_precision_are_refused_alike(table_detector: VAEDetector) -> None:
    X = np.zeros((4, 6), np.longdouble)
    X[1, 1] = np.longdouble("1e400")
    ours, theirs = both(table_detector, X)
    assert ours == theirs
    assert "holds a value too large for double precision" in ours[0]


def test_parameters_unknown_to_this_version_are_named(table_detector: VAEDetector, tmp_path: Path) -> None:
    model = table_detector.model_.using("elbo")
    model.parameters = model.parameters | {"colour": "red"}
    model.save(tmp_path / "m.vae")
    with pytest.raises(ValueError, match="does not describe a model .* build: its parameter 'colour' is unknown"):
        VAEDetector.load(tmp_path / "m.vae")


@pytest.fixture
def few_scores(table_detector: VAEDetector) -> FittedModel:
    """A model as from a version that knew two scores, one of which is unknown today."""
    model = table_detector.model_
    old = {"elbo": "elbo", "forgotten": "kl"}
    return dataclasses.replace(
        model,
        calibrations={name: model.calibrations[known] for name, known in old.items()},
        held_out_scores={name: model.held_out_scores[known] for name, known in old.items()},
    )


def test_a_file_offers_the_scores_that_it_was_calibrated_for(
    few_scores: FittedModel, make_table: Make, tmp_path: Path, table_detector: VAEDetector
) -> None:
    X = make_table(20)
    few_scores.save(tmp_path / "m.vae")
    model, detector = FittedModel.load(tmp_path / "m.vae"), VAEDetector.load(tmp_path / "m.vae")
    assert model.scores == ("elbo",)
    np.testing.assert_array_equal(detector.score_samples(X), table_detector.score_samples(X))
    assert detector.offset_ == table_detector.offset_
    for other in set(SCORES) - {"elbo"}:
        message = f"this model was not calibrated for the score '{other}', but for 'elbo': use one .*, or fit again"
        with pytest.raises(ValueError, match=message):
            model.using(other)
        with pytest.raises(ValueError, match=message):
            clone_of(detector).set_params(score_name=other).predict(X)


def clone_of(detector: VAEDetector) -> VAEDetector:
    return VAEDetector.from_model(detector.model_)


def test_a_score_unknown_to_this_version_is_kept(few_scores: FittedModel, tmp_path: Path) -> None:
    few_scores.save(tmp_path / "m.vae")
    model = FittedModel.load(tmp_path / "m.vae")
    with pytest.raises(ValueError, match="score must be one of 'elbo', .*, got 'forgotten'"):
        model.using("forgotten")
    model.save(tmp_path / "again.vae")
    assert (tmp_path / "again.vae").read_bytes() == (tmp_path / "m.vae").read_bytes()
    assert "forgotten" in model.calibrations


def test_a_file_in_whose_score_nothing_was_calibrated_is_refused(few_scores: FittedModel, tmp_path: Path) -> None:
    dataclasses.replace(few_scores, score="kl").save(tmp_path / "m.vae")
    with pytest.raises(ModelFileError, match="its score has no calibration"):
        FittedModel.load(tmp_path / "m.vae")


def test_a_new_score_breaks_no_file_and_is_calibrated_by_the_next_fit(
    table_detector: VAEDetector, make_table: Make, tmp_path: Path
) -> None:
    table_detector.save(tmp_path / "m.vae")
    added = Registry("SCORES", "vae_anomaly.scoring", "score")

    @added.register("newest")
    def newest(vae: Any, x: Any, noise: Any) -> Any:
        """The distance to the origin of scaled rows."""
        return -x.square().sum(dim=-1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SCORES._added, "newest", added.entry("newest"))
        patch.setitem(SCORES._objects, "newest", newest)
        model = FittedModel.load(tmp_path / "m.vae")
        assert set(SCORES) - set(model.scores) == {"newest", *SCORES.where(needs_images=True)}
        assert VAEDetector(epochs=1).fit(make_table()).model_.using("newest").score_samples(make_table(3)).shape == (3,)


@pytest.mark.parametrize("kind", ["table", "image"])
def test_the_estimator_gives_what_its_model_gives(
    table_detector: VAEDetector, image_detector: VAEDetector, make_table: Make, make_images: Make, kind: str
) -> None:
    detector, X = (table_detector, make_table(9)) if kind == "table" else (image_detector, make_images(9))
    model = detector.model_
    rows, codes = model.rows(X), detector.transform(X)
    np.testing.assert_array_equal(model.transform(rows), codes)
    np.testing.assert_array_equal(model.reconstruct(rows).reshape(X.shape), detector.reconstruct(X))
    np.testing.assert_array_equal(model.inverse_transform(codes), detector.inverse_transform(codes))
    np.testing.assert_array_equal(model.sample(4), detector.sample(4))
    np.testing.assert_array_equal(model.sample(4, random_state=7), detector.sample(4, random_state=7))
    np.testing.assert_array_equal(model.interpolate(rows[:2], 5), detector.interpolate(X[0], X[1], 5))
    ours, theirs = (vars(part) for part in (model.explain(rows), detector.explain(X)))
    for name in ("reconstruction", "kl", "expected", "spread", "excess", "observed"):
        np.testing.assert_array_equal(ours[name], theirs[name])
    with pytest.raises(DataError, match="codes have .* numbers each, got an array of shape"):
        model.inverse_transform(codes[:, :0])
