"""Images in arrays at another size: as those of files, in every type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vae_anomaly.datasets import images_at_size, load_file
from vae_anomaly.datasets.images.arrays import check_are_images
from vae_anomaly.datasets.reading import ImageReading, Reading
from vae_anomaly.errors import DataError

TYPES = ("bool", "uint8", "int8", "uint16", "int32", "int64", "float16", "float32", "float64")


def images(dtype: str, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(3, 9, 7), (3, 9, 7, 1), (3, 9, 7, 3), (2, 9, 7, 5)])
def test_every_type_and_shape_keeps_its_values_and_rows(dtype: str, shape: tuple[int, ...]) -> None:
    X = images(dtype, *shape)
    wanted = {"uint8": "uint8", "int32": "float64", "int64": "float64", "float64": "float64"}.get(dtype, "float32")
    same = images_at_size(X, resize=(9, 7))
    assert same.dtype == wanted
    np.testing.assert_array_equal(same, X)
    np.testing.assert_array_equal(images_at_size(X, crop=(5, 5)), X[:, 2:7, 1:6])
    small = images_at_size(X, resize=(4, 3))
    assert small.shape == (len(X), 4, 3, *shape[3:])
    np.testing.assert_array_equal(images_at_size(X[1:2], resize=(4, 3)), small[1:2])
    np.testing.assert_allclose(small, images_at_size(X.astype(np.float64), resize=(4, 3)), atol=1.1)  # rounded twice
    np.testing.assert_allclose(images_at_size(np.ones_like(X), resize=(20, 3)), 1, rtol=1e-6)


def test_double_precision_stays_double() -> None:
    X = np.random.default_rng(0).random((2, 40, 31))
    double, single = images_at_size(X, resize=(7, 50)), images_at_size(X.astype(np.float32), resize=(7, 50))
    np.testing.assert_allclose(double, single, rtol=1e-5)
    assert (double != single).any()
    np.testing.assert_allclose(images_at_size(X + 1e9, resize=(7, 50)) - 1e9, double, atol=1e-6)


@pytest.mark.parametrize("order", ["C", "F"])
def test_files_on_disk_come_in_pieces_and_as_a_whole_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    X = images("uint16", 11, 12, 10)
    np.save(tmp_path / "X.npy", np.asarray(X, order=order))
    monkeypatch.setattr("vae_anomaly.datasets.formats.npy.CHUNK_BYTES", 600)  # two images
    loaded = load_file(tmp_path / "X.npy", reading=Reading(images=ImageReading(resize=(5, 6), crop=(4, 4))))
    np.testing.assert_array_equal(loaded.X, images_at_size(X, resize=(5, 6), crop=(4, 4)))
    for i, image in enumerate(X):
        Image.fromarray(image).save(tmp_path / f"{i:02}.png")
        (tmp_path / "f").mkdir(exist_ok=True)
        (tmp_path / f"{i:02}.png").rename(tmp_path / f"f/{i:02}.png")
    folder = load_file(tmp_path / "f", reading=Reading(images=ImageReading(resize=(5, 6), crop=(4, 4))))
    np.testing.assert_array_equal(loaded.X, folder.X)


def test_what_has_no_size_is_refused() -> None:
    with pytest.raises(DataError, match="image 0 of X is 9x7, smaller than --crop 10x5"):
        images_at_size(np.zeros((2, 9, 7)), crop=(10, 5))
    for shape in ((4,), (4, 5), (2, 0, 3), (2, 3, 4, 5, 6)):
        with pytest.raises(DataError, match="has no images"):
            images_at_size(np.zeros(shape), resize=(2, 2))
    check_are_images(np.zeros((4, 5)), ImageReading(), "X")
    with pytest.raises(DataError, match="--resize 2x3 and --crop 1x1 is for image files"):
        check_are_images(np.zeros((4, 5)), ImageReading(resize=(2, 3), crop=(1, 1)), "X")
