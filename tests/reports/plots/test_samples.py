"""Every image and every row of a table is in its place."""

from __future__ import annotations

import io

import numpy as np
import pytest

from vae_anomaly import reports
from vae_anomaly.errors import DataError


@pytest.mark.parametrize("shape", [(5, 8, 6), (5, 8, 6, 1), (5, 8, 6, 3)])
def test_image_grid_holds_every_image_once(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).random(shape) * 255
    figure = reports.image_grid(images)
    (axes,) = figure.axes
    (artist,) = axes.images
    canvas = np.asarray(artist.get_array())
    assert canvas.shape == (2 * 8 + 1, 3 * 6 + 2, 3)
    scaled = (images - images.min()) / (images.max() - images.min())
    expected = np.broadcast_to(scaled.reshape(5, 8, 6, -1), (5, 8, 6, 3))
    np.testing.assert_allclose(canvas[9:, 7:13], expected[4])
    np.testing.assert_allclose(canvas[:8, 14:], expected[2])
    assert (canvas[9:, 14:] == 1).all()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    assert buffer.getvalue().startswith(b"\x89PNG")


def test_image_grid_cuts_off_what_lies_beyond_its_limits() -> None:
    (axes,) = reports.image_grid(np.array([[[-5.0, 0.0], [50.0, 300.0]]]), (0.0, 100.0)).axes
    np.testing.assert_allclose(np.asarray(axes.images[0].get_array())[..., 0], [[0, 0], [0.5, 1]])


@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_image_rows_holds_every_image_in_its_place(channels: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).random((2, 3, 7, 5, *channels)) * 255
    (ax,) = reports.image_rows(images, ["a_$", "b"], ["l", "m", "r"], (0, 255)).axes
    canvas = np.asarray(ax.images[0].get_array())
    for row, column in np.ndindex(2, 3):
        expected = np.broadcast_to(images[row, column].reshape(7, 5, -1), (7, 5, 3)) / 255
        shown = canvas[8 * row : 8 * row + 7, 6 * column : 6 * column + 5]
        np.testing.assert_allclose(shown[..., :3], expected, atol=0.5 / 63 + 1e-9)
        assert (shown[..., 3] == 1).all()
    assert (canvas[7, :, 3] == 0).all()  # the gap takes the colour of the paper
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a_$", "b"]
    assert ax.get_xticks().tolist() == [2, 8, 14]
    with pytest.raises(DataError, match="2 rows and 3 columns of images need as many labels, got 1 and 3"):
        reports.image_rows(images, ["a"], ["l", "m", "r"])
    with pytest.raises(DataError, match="images must be"):
        reports.image_rows(images[0, 0], ["a"], ["b"])


def test_profiles_show_the_features_that_vary_most() -> None:
    X = np.random.default_rng(0).normal(size=(6, 50)) * np.where(np.arange(50) % 5 == 0, 0.01, 1)
    figure = reports.plot_profiles(X, [f"f{i}" for i in range(50)], [f"{i}$" for i in range(6)])
    ax = figure.axes[0]
    shown = [i for i in range(50) if i % 5]
    np.testing.assert_array_equal(ax.images[0].get_array(), X[:, shown].T)
    assert [label.get_text() for label in ax.get_yticklabels()] == [f"f{i}" for i in shown]
    assert ax.get_title(loc="left") == "the 40 of 50 features that vary most"
    low, high = ax.images[0].get_clim()
    assert low == -high
    assert reports.to_svg(reports.plot_profiles(np.zeros((1, 1))))
    with pytest.raises(DataError, match="needs 50 names of features"):
        reports.plot_profiles(X, ["a"])
