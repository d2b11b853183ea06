"""Scaling: exact inverses, and constants that blow up nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vae_anomaly.fitting.preprocessing import standardize, unit_range
from vae_anomaly.model.scaling import CLIP
from vae_anomaly.registry import PREPROCESSING
from vae_anomaly.storage.rows import RowsInMemory


@given(X=hnp.arrays(np.float64, (12, 3), elements=st.floats(-1e6, 1e6)), name=st.sampled_from(sorted(PREPROCESSING)))
def test_inverse_undoes_scaling(X: np.ndarray, name: str) -> None:
    scaling = PREPROCESSING[name](RowsInMemory(X))
    scaled = scaling(torch.tensor(X))
    assert torch.isfinite(scaled).all()
    assert torch.isfinite(PREPROCESSING[name](RowsInMemory(X)).float()(torch.tensor(X).float())).all()
    np.testing.assert_allclose(scaling.inverse(scaled), X, rtol=1e-9, atol=1e-6)


def test_standardize_centres_and_scales_each_feature() -> None:
    X = np.random.default_rng(0).normal(size=(100, 3)) * [1, 1e8, 1e-8] + [5, 0, 3]
    scaled = standardize(RowsInMemory(X)).double()(torch.tensor(X)).numpy()
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(scaled.std(0), 1, rtol=1e-6)


@pytest.mark.parametrize("constant", [0.0, 5.0, 1e8, 0.1])
def test_a_constant_feature_is_only_centred(constant: float) -> None:
    X = np.full((50, 2), constant)
    X[:, 1] = np.arange(50)
    moved = torch.tensor([[constant + 0.5, 0.0]], dtype=torch.float64)
    assert standardize(RowsInMemory(X)).double()(moved)[0, 0].item() == pytest.approx(0.5, abs=1e-6)


def test_scaled_values_are_bounded() -> None:
    X = np.array([[0.0], [1e-3]])
    assert standardize(RowsInMemory(X)).double()(torch.tensor([[1e300], [-1e300]])).tolist() == [[CLIP], [-CLIP]]


@pytest.mark.parametrize(
    ("X", "low", "high"),
    [
        (np.array([[3, 9]], dtype=np.uint8), 0, 255),
        (np.array([[0.2, 0.7]]), 0, 1),
        (np.array([[-1.0, 15.0]]), -1, 15),
        (np.array([[4.0, 4.0]]), 4, 5),
    ],
)
def test_unit_range_knows_the_range(X: np.ndarray, low: float, high: float) -> None:
    assert unit_range(RowsInMemory(X))(torch.tensor([[low, high]], dtype=torch.float64)).tolist() == [[0.0, 1.0]]
