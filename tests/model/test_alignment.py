"""Images of one scene that moved or were lit otherwise, brought back."""

import numpy as np
import pytest
import torch

from vae_anomaly.model.alignment import AlignedScaling, aligned, as_images, as_rows, estimate, moved

SHAPE = (24, 32, 2)
MOVES = [(0.0, 0.0), (1.0, 0.0), (-1.0, 2.0), (0.5, -0.5), (0.3, 1.7), (-2.0, -2.0)]


def scene(down: float = 0.0, right: float = 0.0, shape: tuple[int, int, int] = SHAPE) -> torch.Tensor:
    """A smooth scene, ``(1, D)``, as a camera sees it that is off by these pixels."""
    row, column = np.mgrid[: shape[0], : shape[1]].astype(float)
    row, column = row + down, column + right
    channels = [120 + 50 * np.sin(row / (1.3 + c)) + 40 * np.cos(column / 1.7 + row / 3) for c in range(shape[2])]
    return torch.from_numpy(np.stack(channels, axis=-1).reshape(1, -1))


def noise(scale: float = 3.0, n: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(0, scale, (n, scene().shape[1])))


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("gain", [0.85, 1.0, 1.15])
def test_move_and_light_are_found_and_undone(move, gain):
    x = gain * scene(*move)
    shift, found = estimate(as_images(x, SHAPE), as_images(scene(), SHAPE))
    np.testing.assert_allclose(shift[0], move, atol=0.02)
    np.testing.assert_allclose(found.item(), gain, rtol=0.002)
    assert (aligned(x, scene()[0], SHAPE) - scene()).square().mean().sqrt() < 1.5
    inside = as_images(aligned(x, scene()[0], SHAPE) - scene(), SHAPE)[..., 4:-4, 4:-4]
    assert inside.abs().max() < 1


def test_noise_of_a_still_image_stays_as_it_is():
    x = scene() + noise()
    change = aligned(x, scene()[0], SHAPE) - x
    assert change.square().mean().sqrt() < 0.1 * 3


@pytest.mark.parametrize("gain", [0.9, 1.1])
def test_light_changes_neither_the_noise_nor_a_defect(gain):
    defect = noise()
    defect[:, 500:540] += 60
    lit = aligned(gain * scene() + defect, scene()[0], SHAPE)
    assert (lit - aligned(scene() + defect, scene()[0], SHAPE)).square().mean().sqrt() < 0.1 * 3


def test_move_by_whole_pixels_is_exact():
    x = as_images(noise(), SHAPE)
    back = moved(x, torch.tensor([[1.0, -2.0]], dtype=torch.float64))
    torch.testing.assert_close(back[..., :-1, 2:], x[..., 1:, :-2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("x", [0 * scene(), 0.5 * scene(), 2 * scene(), 255 - scene()])
def test_what_no_small_change_of_light_explains_stays_odd(x):
    assert (aligned(x, scene()[0], SHAPE) - scene()).square().mean().sqrt() > 20


def test_larger_move_stays_odd():
    assert (aligned(scene(6.0, 0.0), scene()[0], SHAPE) - scene()).square().mean().sqrt() > 20


@pytest.mark.parametrize("flat", [torch.zeros_like(scene()), torch.full_like(scene(), 80.0)])
def test_scene_without_edges_shows_no_move(flat):
    shift, _ = estimate(as_images(flat + noise(), SHAPE), as_images(flat, SHAPE))
    assert shift.abs().max() < 0.05


def test_gap_stays_a_gap_and_changes_no_other_pixel_much():
    x = scene() + noise()
    with_gap = x.clone()
    with_gap[0, [100, 777]] = torch.nan
    result = aligned(with_gap, scene()[0], SHAPE)
    assert torch.isnan(result)[0].nonzero().flatten().tolist() == [100, 777]
    assert torch.nan_to_num(result - aligned(x, scene()[0], SHAPE)).abs().max() < 3


@pytest.mark.parametrize("value", [3e38, -3e38, 1e300])
def test_huge_values_give_finite_rows(value):
    scaling = AlignedScaling(torch.tensor(0.0).double(), torch.tensor(1.0).double(), scene()[0], SHAPE)
    assert torch.isfinite(scaling(torch.full_like(scene(), value))).all()


def test_rows_and_images_are_inverse():
    torch.testing.assert_close(as_rows(as_images(noise(n=3), SHAPE)), noise(n=3), rtol=0, atol=0)
