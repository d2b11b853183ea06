"""Defects are where their masks say, change what they say, and are judged by thresholds that hold 5 %."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import label
from sklearn.metrics import roc_auc_score

from vae_anomaly.benchmark.defect_cases import (
    DefectCase,
    DefectTest,
    camera_case,
    digit_case,
    texture_case,
    weave_case,
)
from vae_anomaly.benchmark.defects import (
    CHANGE,
    DIGIT_DEFECTS,
    PATCH,
    TEXTURE_CHANGES,
    WEAVE_DEFECTS,
    texture,
    weave,
)
from vae_anomaly.benchmark.fitted import Fitted, fit_peer
from vae_anomaly.benchmark.maps import MAP_SCORE, maps_of_errors
from vae_anomaly.benchmark.peers import PEERS, scaled_rows
from vae_anomaly.benchmark.run import run
from vae_anomaly.evaluation import evaluate_pixels, roc_auc


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def strokes(n: int, dtype: type = np.uint8) -> np.ndarray:
    """Upright strokes of three pixels' width, at random places, ``(n, 28, 28)``."""
    images = np.zeros((n, 28, 28), dtype)
    for image, left in zip(images, generator().integers(4, 20, n), strict=True):
        image[4:24, left : left + 3] = 255
    return images


@pytest.mark.parametrize("kind", [None, *WEAVE_DEFECTS])
@pytest.mark.parametrize("side", [32, 50])
def test_a_weave_has_one_defect_where_its_mask_says(kind: str | None, side: int) -> None:
    images, masks = weave(generator(), 12, side, kind=kind)
    assert (images.dtype, images.shape, masks.shape) == (np.uint8, (12, side, side, 3), (12, side, side))
    again = weave(generator(), 12, side, kind=kind)
    np.testing.assert_array_equal(images, again[0])
    np.testing.assert_array_equal(masks, again[1])
    assert [label(mask, np.ones((3, 3)))[1] for mask in masks] == [kind is not None] * 12
    normals = weave(generator(1), 60, side)[0].astype(float)
    unusual = np.abs(images - normals.mean(axis=0)).mean(axis=3) / normals.std(axis=0).mean(axis=2)
    assert unusual[~masks].mean() < 1.1
    if kind is not None:
        within = [values[mask].mean() for values, mask in zip(unusual, masks, strict=True)]
        assert min(within) > 1.3 * unusual[~masks].mean()


def test_a_camera_moves_and_light_changes_as_far_as_it_is_said() -> None:
    """Brightness is that of a still camera times up to 1.1; a pattern moved by a period would be the same again."""
    still, moved, lit = (
        weave(generator(), 200, 32, **given)[0].astype(float) for given in ({}, {"jitter": 1.0}, {"light": 0.1})
    )
    assert moved.std(axis=0).mean() > 1.5 * still.std(axis=0).mean()
    brightness = [images.mean(axis=(1, 2, 3)).std() / images.mean() for images in (still, moved, lit)]
    assert brightness[1] == pytest.approx(brightness[0], rel=0.2)
    assert brightness[2] == pytest.approx(np.hypot(brightness[0], 0.1 / np.sqrt(3)), rel=0.2)


def power(images: np.ndarray) -> tuple[float, float, float]:
    """Standard deviation of the images, and wave number and direction in degrees of their mean power."""
    values = images.astype(float) - images.mean(axis=(1, 2), keepdims=True)
    spectrum = np.square(np.abs(np.fft.fft2(values))).mean(axis=0)
    down, right = np.meshgrid(*[np.fft.fftfreq(side) for side in images.shape[1:]], indexing="ij")
    double = np.arctan2(down, right) * 2  # a wave and its opposite are one
    angle = np.rad2deg(np.angle((spectrum * np.exp(1j * double)).sum())) / 2
    return values.std(), float((spectrum * np.hypot(down, right)).sum() / spectrum.sum()), float(angle)


@pytest.mark.parametrize("kind", [None, *TEXTURE_CHANGES])
def test_a_texture_changes_only_in_what_is_said(kind: str | None) -> None:
    images, masks = texture(generator(), 120, 64, kind=kind)
    assert (images.dtype, images.shape, masks.shape) == (np.uint8, (120, 64, 64), (120, 64, 64))
    np.testing.assert_array_equal(images, texture(generator(), 120, 64, kind=kind)[0])
    normal, found = power(texture(generator(1), 120, 64)[0]), power(images)
    assert found[0] / normal[0] == pytest.approx(1 + CHANGE * (kind == "contrast"), abs=0.04)
    assert normal[1] / found[1] == pytest.approx(1 + CHANGE * (kind == "scale"), abs=0.03)
    assert found[2] - normal[2] == pytest.approx(90 * CHANGE * (kind == "orientation"), abs=4)
    if kind == "local":
        assert (masks.sum(axis=(1, 2)) == PATCH**2).all()
        patches = np.stack([image[mask].reshape(PATCH, PATCH) for image, mask in zip(images, masks, strict=True)])
        assert abs(power(patches)[2] - normal[2]) > 45
    else:
        assert (masks == (kind is not None)).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("kind", DIGIT_DEFECTS)
def test_a_digit_changes_where_its_mask_says_and_nowhere_else(kind: str, dtype: type) -> None:
    images = strokes(60, dtype)
    before = images.copy()
    changed, masks = DIGIT_DEFECTS[kind](images, generator())
    np.testing.assert_array_equal(images, before)
    assert changed.dtype == dtype
    np.testing.assert_array_equal(changed != images, masks)
    np.testing.assert_array_equal(changed, DIGIT_DEFECTS[kind](images, generator())[0])
    if kind == "spot":
        assert (masks.sum(axis=(1, 2)) == 9).all()
        on_ink = np.array([image[mask].any() for image, mask in zip(images, masks, strict=True)])
        assert 15 < on_ink.sum() < 45
    else:  # a stroke, and with the gap two
        assert [label(image)[1] for image in changed] == [2] * 60


def test_the_digits_of_a_case_are_divided() -> None:
    X_train, X_test = np.arange(300.0)[:, None, None] * np.ones((1, 8, 8)), 1_000 + np.arange(90.0)
    case = digit_case(0, "digit-1", X_train, X_test[:, None, None] * np.ones((1, 8, 8)))
    learnt, further = (set(X[:, 0, 0].tolist()) for X in (case.X_train, case.further_normals))
    assert (len(learnt), len(further), learnt & further) == (240, 60, set())
    spot, piece = (set(np.median(test.anomalous, axis=(1, 2)).tolist()) for test in case.tests.values())
    normal = set(case.tests["spot"].normal[:, 0, 0].tolist())
    assert case.tests["missing_piece"].normal is case.tests["spot"].normal
    assert (len(normal), len(spot), len(piece)) == (30, 30, 30)
    assert normal | spot | piece == set(X_test.tolist())


def test_every_seed_has_its_own_images() -> None:
    for make in (lambda seed: weave_case(seed, 32), lambda seed: camera_case(seed, 32, moving=True)):
        first, again, other = make(0), make(0), make(1)
        np.testing.assert_array_equal(first.X_train, again.X_train)
        assert (first.X_train != other.X_train).any()
        assert (first.only_seed, other.only_seed) == (0, 1)
        assert all(test.masks is not None for test in first.tests.values())


def test_only_a_local_change_of_a_texture_has_masks() -> None:
    case = texture_case(0)
    assert [name for name, test in case.tests.items() if test.masks is not None] == ["local"]
    assert len(case.shrunk(5).X_train) == len(case.shrunk(5).tests["local"].anomalous) == 5


def made_case() -> DefectCase:
    """Images whose mean is their score; anomalies have a bright pixel, for which there is a mask in one test."""
    rng = generator()
    X_train, further, normal, anomalous = (rng.normal(size=(n, 6, 5)) for n in (10, 99, 40, 30))
    anomalous[:, 2, 3] += 9
    masks = np.zeros(anomalous.shape, bool)
    masks[:, 2, 3] = True
    tests = {"here": DefectTest(normal, anomalous, masks), "anywhere": DefectTest(normal, anomalous, None)}
    return DefectCase("defects", "made", X_train, further, tests, 0)


def made_fitted(scored: list[int], threshold: float | None) -> Fitted:
    """A method of images' means and values, which notes how many images it is given."""

    def score_samples(score: str, X: np.ndarray) -> np.ndarray:
        scored.append(len(X))
        return -X.mean(axis=(1, 2))

    def flags(score: str, X: np.ndarray) -> np.ndarray | None:
        return None if threshold is None else X.mean(axis=(1, 2)) > threshold

    unused: Any = None
    return Fitted(score_samples, unused, unused, flags, lambda X: X, 0.0)


@pytest.mark.parametrize("threshold", [None, 0.1])
def test_a_method_is_judged_by_its_own_threshold_or_by_that_of_further_normals(threshold: float | None) -> None:
    case, scored = made_case(), []
    outcomes = case.outcomes(made_fitted(scored, threshold), "own")
    # with 99 further normals, 5 % is what lies above the fifth largest of them
    limit = threshold or np.sort(case.further_normals.mean(axis=(1, 2)))[-5]
    for name, test in case.tests.items():
        normal, anomalous, measures = outcomes[name]
        np.testing.assert_array_equal(normal, test.normal.mean(axis=(1, 2)))
        assert measures["false_alarms"] == (normal > limit).mean()
        assert measures["found"] == (anomalous > limit).mean()
        auc = roc_auc(np.concatenate([normal, anomalous]), np.repeat([0, 1], [40, 30]))
        assert (measures["roc_auc_low"], measures["roc_auc_high"]) == (auc.low, auc.high)
        assert measures["region_overlap"] is None
    assert sorted(scored) == ([30, 40, 99] if threshold is None else [30, 40])  # what tests share is scored once


def test_maps_are_judged_where_there_are_masks() -> None:
    case = made_case()
    outcomes = case.outcomes(made_fitted([], 0.1), MAP_SCORE)
    test, (normal, _, measures) = case.tests["here"], outcomes["here"]
    np.testing.assert_array_equal(normal, test.normal.max(axis=(1, 2)))
    masks = np.concatenate([np.zeros(test.normal.shape, bool), test.masks])
    found = evaluate_pixels(np.concatenate([test.normal, test.anomalous]), masks)
    names = ("pixel_roc_auc", "pixel_average_precision", "region_overlap")
    assert [measures[name] for name in names] == [
        found.roc_auc.value,
        found.average_precision.value,
        found.pro.value,
    ]
    assert {outcomes["anywhere"].measures[name] for name in names} == {None}


def test_maps_add_up_channels_and_keep_their_sum_away_from_the_edges() -> None:
    X = np.zeros((2, 15, 13, 3), np.uint8)
    errors = np.zeros((2, 15, 13, 3))
    errors[0, 7, 6] = [1, 2, 3]
    maps = maps_of_errors(errors.reshape(2, -1), X)
    assert maps.shape == (2, 15, 13)
    assert maps.sum(axis=(1, 2)) == pytest.approx([6, 0])
    assert np.unravel_index(maps[0].argmax(), maps[0].shape) == (7, 6)
    flat = maps_of_errors(np.ones((1, 15 * 13)), X[:1, ..., 0])
    np.testing.assert_allclose(flat, 1)


@pytest.mark.parametrize("name", [name for name, peer in PEERS.items() if peer.has_maps])
def test_errors_of_features_add_up_to_a_peers_score(name: str) -> None:
    X = generator().normal(size=(60, 7)).astype(np.float32)
    peer: Any = PEERS[name].build(0)
    peer.fit(X[:40])
    errors, scores = peer.error_of_features(X[40:]), peer.score_samples(X[40:])
    if name == "5-nn":  # the mean distance, not that of its square
        assert (errors.sum(axis=1) >= np.square(scores)).all()
    else:
        np.testing.assert_allclose(errors.sum(axis=1), scores**2 if name == "1-nn" else -scores, rtol=1e-4)


def test_only_methods_with_maps_have_a_row_for_them() -> None:
    case = weave_case(0, 32).shrunk(30)
    records = list(run([case], ["pca-30", "isolation_forest"], seeds=[0]))
    assert {(r["method"], r["score"]) for r in records} == {
        ("pca-30", "own"),
        ("pca-30", MAP_SCORE),
        ("isolation_forest", "own"),
    }
    assert {r["error"] for r in records} == {None}
    assert {(r["method"], r["score"]) for r in records if r["pixel_roc_auc"] is not None} == {("pca-30", MAP_SCORE)}
    (blob,) = (r for r in records if (r["test"], r["score"]) == ("blob", MAP_SCORE))
    fitted, test = fit_peer(case.X_train, "pca-30", 0), case.tests["blob"]
    residual = PEERS["pca-30"].build(0)
    rows = scaled_rows(case.X_train)
    residual.fit(rows(case.X_train))
    maps = fitted.pixel_maps(test.anomalous)
    assert maps is not None
    np.testing.assert_allclose(maps, maps_of_errors(residual.error_of_features(rows(test.anomalous)), test.anomalous))
    largest = np.concatenate([fitted.pixel_maps(test.normal), maps]).max(axis=(1, 2))
    labels = np.repeat([0, 1], [len(test.normal), len(test.anomalous)])
    assert blob["roc_auc"] == pytest.approx(roc_auc_score(labels, largest))


def test_the_detector_has_maps_and_its_own_threshold(make_images) -> None:
    X = make_images(160)
    changed = X[130:].copy()
    changed[:, 4, 4] = 255 - changed[:, 4, 4]
    masks = np.zeros(changed.shape, bool)
    masks[:, 4, 4] = True
    case = DefectCase("defects", "bars", X[:80], X[80:100], {"pixel": DefectTest(X[100:130], changed, masks)}, 0)
    records = list(run([case], ["vae"], seeds=[0], scores=["elbo"]))
    assert [(record["score"], record["error"]) for record in records] == [("elbo", None), (MAP_SCORE, None)]
    assert records[1]["pixel_roc_auc"] > 0.8
    assert all(0 <= record["false_alarms"] <= 0.4 for record in records)
