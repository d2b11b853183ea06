"""The smoothing of images is a matrix that is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vae_anomaly.model.likelihoods.smoothing import Smoothing


@pytest.mark.parametrize(
    ("side", "passes", "weight"), [(28, 1, 1 / 4), (14, 1, 1 / 16), (56, 4, 1 / 4), (300, 16, 1 / 4)]
)
def test_smoothing_is_in_proportion_to_the_image(side: int, passes: int, weight: float) -> None:
    smoothing = Smoothing((side, side + 9, 3))
    assert (smoothing.passes, smoothing.weight) == (passes, weight)


@pytest.mark.parametrize("size", [(5, 4), (40, 3), (33, 35)])
def test_smoothing_is_a_matrix_of_known_determinant(size: tuple[int, int]) -> None:
    smoothing = Smoothing((*size, 2))
    w = smoothing.weight
    axis = lambda n: (1 - 2 * w) * np.eye(n) + w * (np.eye(n, k=1) + np.eye(n, k=-1))  # noqa: E731
    once = np.kron(np.kron(axis(size[0]), axis(size[1])), np.eye(2))
    matrix = np.linalg.matrix_power(once, smoothing.passes)
    rows = torch.rand(3, len(matrix), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    np.testing.assert_allclose(smoothing(rows), rows.numpy() @ matrix.T, rtol=1e-9)
    assert smoothing.log_det == pytest.approx(np.linalg.slogdet(matrix)[1])


@pytest.mark.parametrize("size", [(28, 30), (56, 9)])
def test_its_gradient_is_that_of_the_matrix(size: tuple[int, int]) -> None:
    smoothing = Smoothing((*size, 1))
    rows = torch.rand(2, size[0] * size[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrix = smoothing(torch.eye(rows.shape[1], dtype=torch.float64)).T
    (gradient,) = torch.autograd.grad(smoothing(rows.requires_grad_()).square().sum(), rows)
    torch.testing.assert_close(gradient, 2 * rows.detach() @ matrix.T @ matrix)


def test_squared_norms_have_the_same_bits_however_many_rows_are_smoothed_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    smoothing, generator = Smoothing((28, 28, 1)), torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 37, 784, generator=generator)
    expected = smoothing(a - b).square().sum(dim=1)
    for n in (1, 5, 64):
        monkeypatch.setattr("vae_anomaly.model.likelihoods.smoothing.CACHE_VALUES", n * 784)
        assert torch.equal(smoothing.squared_norms(a, b), expected)
