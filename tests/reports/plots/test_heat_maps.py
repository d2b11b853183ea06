"""An overlay leaves what is normal as it is, and shows more heat as more colour, on one scale for all images."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from vae_anomaly.errors import DataError
from vae_anomaly.evaluation import boxes_of
from vae_anomaly.reports import overlay, plot_heat_map, to_png, to_svg
from vae_anomaly.reports.plots.heat_maps import COLOURS, MOST_COVER

RNG = np.random.default_rng(0)
HEAT = np.pad([[2.0, 2.0], [3.0, 2.0]], ((2, 4), (3, 2)))


@pytest.mark.parametrize("shape", [(8, 7), (8, 7, 1), (8, 7, 3)])
@pytest.mark.parametrize("coldness", [0.0, -5.0, -np.inf])
def test_without_heat_an_image_stays_as_it_is(shape: tuple[int, ...], coldness: float) -> None:
    image = RNG.integers(0, 256, shape, dtype=np.uint8)
    found = overlay(image, np.full((8, 7), coldness), 1.0)
    assert (found.dtype, found.shape) == (np.uint8, (8, 7, 3))
    np.testing.assert_array_equal(found, np.broadcast_to(image.reshape(8, 7, -1), (8, 7, 3)))


def test_a_pixels_colour_depends_on_its_own_heat_and_vmax_alone() -> None:
    image = RNG.integers(0, 256, (8, 7, 3), dtype=np.uint8)
    heat = RNG.uniform(0, 2, (8, 7))
    found = overlay(image, heat, 1.5)
    np.testing.assert_array_equal(found, overlay(image, 10 * heat, 15.0))
    other = heat.copy()
    other[0] = 99
    np.testing.assert_array_equal(found[1:], overlay(image, other, 1.5)[1:])
    np.testing.assert_array_equal(overlay(image, other, 1.5)[0], overlay(image, np.full((8, 7), 1.5), 1.5)[0])


@pytest.mark.parametrize("grey", [0, 90, 200, 255])
def test_more_heat_is_further_from_the_image_and_little_is_hardly_seen(grey: int) -> None:
    heat = np.linspace(0, 1, 101)[None]
    image = np.full(heat.shape, grey, np.uint8)
    away = np.linalg.norm(overlay(image, heat, 1.0).astype(float) - grey, axis=2)[0]
    assert away[10] <= 3
    assert away[50] > 25
    assert (np.diff(away) >= -1.5).all()  # of 8 bits a channel
    strongest = overlay(image, heat, 1.0)[0, -1]
    np.testing.assert_allclose(strongest, grey + MOST_COVER * (255 * COLOURS[-1] - grey), atol=0.51)


def test_the_colours_get_evenly_brighter() -> None:
    """Lightness, as the CIE defines it, grows with heat and in even steps: a perceptually uniform scale."""
    linear = np.where(COLOURS <= 0.04045, COLOURS / 12.92, ((COLOURS + 0.055) / 1.055) ** 2.4)
    lightness = 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16
    assert (np.diff(lightness) >= 0).all()
    eighths = np.diff(lightness[::36])
    assert eighths.max() < 1.5 * eighths.min()


def test_other_images_are_scaled_by_limits() -> None:
    image, none = np.array([[0.2, 0.6]]), np.zeros((1, 2))
    assert overlay(image, none, 1)[0, :, 0].tolist() == [0, 255]
    assert overlay(image, none, 1, limits=(0, 1))[0, :, 0].tolist() == [51, 153]
    channels = np.array([[[0.0, 1.0], [0.5, 0.5]]])
    assert overlay(channels, none, 1)[0, :, 0].tolist() == [128, 128]  # two channels are averaged


@pytest.mark.parametrize(
    ("image", "heat", "vmax", "message"),
    [
        (np.ones((3, 3)), np.ones((3, 2)), 1, r"got \(3, 3\) and \(3, 2\)"),
        (np.ones(3), np.ones(3), 1, "needs heat"),
        (np.ones((3, 3)), np.ones((3, 3)), 0, "vmax must be a positive number.* got 0"),
        (np.ones((3, 3)), np.ones((3, 3)), np.nan, "vmax must be"),
        (np.ones((3, 3)), np.full((3, 3), np.nan), 1, "without NaN"),
        (np.full((3, 3), np.nan), np.ones((3, 3)), 1, "without NaN"),
    ],
)
def test_what_is_refused(image: np.ndarray, heat: np.ndarray, vmax: float, message: str) -> None:
    with pytest.raises(DataError, match=message):
        overlay(image, heat, vmax)


def test_the_figure_has_a_box_around_each_region_and_the_overlay() -> None:
    image = RNG.integers(0, 256, (8, 7), dtype=np.uint8)
    figure = plot_heat_map(image, HEAT, 4.0, 1.5, title="row 3")
    left, right, bar = figure.axes
    (frame,) = (patch for patch in left.patches if isinstance(patch, Rectangle))
    (box,) = boxes_of(HEAT, 1.5)
    assert box == (2, 3, 4, 5, 3.0)
    # imshow puts a pixel's middle at its index: the frame is half a pixel outside of the pixels' own edges
    assert frame.get_bbox().bounds == (2, 1, 3, 3)
    np.testing.assert_array_equal(right.images[0].get_array(), overlay(image, HEAT, 4.0))
    np.testing.assert_array_equal(left.images[0].get_array(), np.repeat(image[..., None] / 255, 3, axis=2))
    assert (left.get_title("left"), bar.get_xlabel()) == ("1 region", "heat; boxes above 1.5")
    assert bar.get_xlim() == (0, 4)
    outline = right.collections[0].get_paths()[0].vertices
    # between pixels heat is taken to be linear: 1.5 is half of the way to 3, three quarters of that to 2
    assert outline.min(axis=0) == pytest.approx([2.5, 1.75])


def test_bytes_are_the_same_and_a_normal_image_has_no_box() -> None:
    image = RNG.integers(0, 256, (8, 7, 3), dtype=np.uint8)
    figure = plot_heat_map(image, 0 * HEAT, 4.0, 1.5)
    assert figure.axes[0].get_title("left") == "no region"
    assert not figure.axes[0].patches
    assert plot_heat_map(image, HEAT, 4.0).axes[0].get_title("left") == "image"
    assert to_png(figure) == to_png(plot_heat_map(image, 0 * HEAT, 4.0, 1.5))
    assert ElementTree.fromstring(to_svg(plot_heat_map(image, HEAT, 4.0, 1.5), dark=True)).tag.endswith("svg")


def test_of_many_regions_the_hottest_are_framed() -> None:
    heat = np.zeros((20, 20))
    heat[::2, ::2] = np.arange(1.0, 101).reshape(10, 10)
    left = plot_heat_map(heat, heat, 100.0, 0.5).axes[0]
    assert left.get_title("left") == "the 20 hottest of 100 regions"
    assert len(left.patches) == 20
    assert min(frame.get_bbox().y0 for frame in left.patches) == 15  # of the two lowest lines of regions
