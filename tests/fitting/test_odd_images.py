"""Images that a fit leaves out: those unlike most others, which then have no part in the networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers import Make, run
from vae_anomaly import VAEDetector
from vae_anomaly.fitting import odd_images
from vae_anomaly.fitting.odd_images import MORE, thumbnails, without_odd_images
from vae_anomaly.storage.rows import Rows, RowsInMemory
from vae_anomaly.storage.spool import spool

SHAPE = (16, 16, 1)


def bars(n: int, seed: int, *, lying: bool = False) -> np.ndarray:
    """Images ``(n, 16, 16)`` of one bar each, upright at any place or lying near the middle."""
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 40, size=(n, 16, 16), dtype=np.uint8)
    for image, place in zip(X, rng.integers(7, 10, n) if lying else rng.integers(0, 15, n), strict=True):
        image[:, place : place + 2] = 220
    return X.swapaxes(1, 2) if lying else X


def mixed(n: int, n_odd: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Upright bars with some lying ones of one kind among them, in any order, and which these are."""
    X = np.concatenate([bars(n - n_odd, seed), bars(n_odd, seed + 1, lying=True)])
    order = np.random.default_rng(seed).permutation(n)
    return X[order], order >= n - n_odd


def rows_of(X: np.ndarray) -> RowsInMemory:
    return RowsInMemory(X.reshape(len(X), -1))


def kept(training: Rows, validation: RowsInMemory, expected: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    parts = without_odd_images(training, validation, SHAPE, expected, torch.Generator().manual_seed(0))
    return parts[0][:], parts[1][:]


def is_lying(rows: np.ndarray) -> np.ndarray:
    images = rows.reshape(-1, 16, 16).astype(float)
    return images.mean(axis=2).max(axis=1) > 150


def test_images_of_another_kind_are_left_out_though_they_are_alike() -> None:
    (X, is_odd), (X_validation, _) = mixed(600, 30), mixed(100, 5, seed=2)
    training, validation = kept(rows_of(X), rows_of(X_validation))
    assert (len(training), len(validation)) == (540, 90)
    assert not is_lying(training).any()
    assert not is_lying(validation).any()
    places = np.flatnonzero((X.reshape(600, 1, -1) == training[:3]).all(axis=-1).any(axis=1))
    assert not is_odd[places].any()
    np.testing.assert_array_equal(training[:3], X.reshape(600, -1)[places])  # in their order


@pytest.mark.parametrize("shape", [(16, 16, 1), (9, 30, 3)])
def test_neither_brightness_nor_contrast_nor_polarity_of_the_background_matters(shape: tuple[int, int, int]) -> None:
    X = np.random.default_rng(0).normal(size=(5, np.prod(shape)))
    (a,), (b,) = (list(thumbnails(RowsInMemory(rows), shape, np.arange(5))) for rows in (X, 7 + 3 * X))
    torch.testing.assert_close(a, b)
    torch.testing.assert_close(a.norm(dim=1), torch.ones(5, dtype=torch.float64))
    assert a.shape == (5, min(14, shape[0]) * min(14, shape[1]) * shape[2])


def test_blocks_and_where_rows_lie_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    X, _ = mixed(300, 15)
    rows, validation = rows_of(X), rows_of(bars(40, 9))
    whole = kept(rows, validation)
    with spool([rows[:]], "X") as on_disk:
        for part, other in zip(kept(on_disk, validation), whole, strict=True):
            np.testing.assert_array_equal(part, other)
    monkeypatch.setattr(odd_images, "BLOCK_ROWS", 7)
    for part, other in zip(kept(rows, validation), whole, strict=True):
        np.testing.assert_array_equal(part, other)


@pytest.mark.parametrize(
    ("n", "expected", "left"), [(1, 0.5, 1), (2, 0.5, 1), (7, 0.4, 4), (100, 0.1, 85), (9, 0.01, 8)]
)
def test_the_expected_share_and_a_margin_are_left_out_and_at_most_half(n: int, expected: float, left: int) -> None:
    training, validation = kept(rows_of(bars(n, 0)), rows_of(bars(1, 1)), expected)
    assert len(training) == left == n - round(min(expected + MORE, 0.5) * n)
    assert len(validation) == 1


def test_many_images_are_compared_with_some_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(odd_images, "MAX_CORE", 200)
    X, _ = mixed(600, 30)
    assert not is_lying(kept(rows_of(X), rows_of(bars(10, 9)))[0]).any()


def test_images_without_any_contrast_are_odd() -> None:
    X = bars(200, 0)
    X[[3, 50]] = 100
    training, _ = kept(rows_of(X), rows_of(bars(10, 9)))
    assert (training.std(axis=1) > 0).all()


def test_what_is_left_out_has_no_part_in_the_networks() -> None:
    X, is_odd = mixed(600, 30)
    X = X.astype(np.float32)
    other = X.copy()
    other[is_odd] /= 2  # as odd as before to the bit, since contrast does not count
    first, second = (VAEDetector(epochs=1, contamination=0.05).fit(images) for images in (X, other))
    assert first.metadata_["n_odd_images_left_out"] == 54  # a tenth of 480 and of 60
    for name, value in first.vae_.state_dict().items():
        assert torch.equal(value, second.vae_.state_dict()[name]), name


def test_nothing_is_left_out_unless_a_share_is_expected(make_images: Make, make_table: Make) -> None:
    assert VAEDetector(epochs=1).fit(make_images(40)).metadata_ == {}
    assert VAEDetector(epochs=1, contamination=0.1).fit(make_table(40)).metadata_ == {}


@pytest.mark.usefixtures("own_folder")
def test_fit_says_how_many_images_it_leaves_out(make_images: Make) -> None:
    np.save("X.npy", make_images(60))
    arguments = ("fit", "--data", "X.npy", "--epochs", 1, "--no-report")
    said = run(*arguments, "--contamination", 0.1, "--output", "model.vae")
    assert "fitted without 8 images that are unlike most others" in said.stdout, said.output
    assert "fitted without" not in run(*arguments, "--output", "other.vae").stdout
