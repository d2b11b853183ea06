"""Blocks: what runs out of memory goes on in smaller ones, and nothing that was computed is lost."""

from __future__ import annotations

import math
import weakref
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import Tensor

from random_models import random_vae
from vae_anomaly.errors import DeviceMemoryError
from vae_anomaly.model.likelihoods.gaussian import Gaussian
from vae_anomaly.model.priors.exemplars import Exemplars
from vae_anomaly.model.scaling import Scaling
from vae_anomaly.model.vae import VAE
from vae_anomaly.registry import ARCHITECTURES
from vae_anomaly.scoring import BLOCK_ROWS, blocks
from vae_anomaly.scoring.blocks import BLOCK_VALUES, DENSE_ROWS, INPUT_VALUES, by_block, rows_of_block


@pytest.mark.parametrize("n", [1, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1, 2 * BLOCK_ROWS + 3])
def test_every_block_has_as_many_rows_and_every_row_its_result(n: int) -> None:
    vae, X = random_vae((6,)), np.random.default_rng(0).normal(size=(n, 6))
    sizes: list[int] = []

    def identity(x: Tensor) -> tuple[Tensor, ...]:
        sizes.append(len(x))
        return x, x[:, 0]

    rows, first = by_block(vae, X, identity)
    np.testing.assert_array_equal(rows, X)
    np.testing.assert_array_equal(first, X[:, 0])
    assert sizes == [BLOCK_ROWS] * math.ceil(n / BLOCK_ROWS)


@pytest.mark.parametrize(
    ("n_features", "n_draws", "n_exemplars", "rows"),
    [
        (6, 2, 5_000, 512),
        (784, 2, 2_048, 512),
        (1_024, 2, 2_048, 512),
        (1_025, 2, 1, 256),
        (64 * 64 * 3, 2, 200, 32),
        (256 * 256 * 3, 2, 200, 16),
        (10**6, 2, 2_048, 16),
        (6, 160, 5_000, 512),
        (6, 1_000, 5_000, 128),
        (6, 2, 1_000_000, 64),
        (100_000, 1_000, 1, 1),
    ],
)
def test_a_block_has_fewer_rows_the_more_each_of_them_holds(
    monkeypatch: pytest.MonkeyPatch, n_features: int, n_draws: int, n_exemplars: int, rows: int
) -> None:
    with torch.device("meta"):
        vae = VAE(*ARCHITECTURES["mlp"]((n_features,), 3), Gaussian(), Scaling(torch.zeros(()), torch.ones(())))
        vae.prior = Exemplars(torch.empty(n_exemplars, 3), torch.empty(n_exemplars, n_features))
    assert rows_of_block(vae, n_features, n_draws) == rows
    held = n_draws * 2 * n_features + n_exemplars
    assert rows == 1 or (rows * held <= BLOCK_VALUES and (rows * n_features <= INPUT_VALUES or rows == DENSE_ROWS))
    monkeypatch.setattr(blocks, "is_gpu", lambda device: True)
    assert rows_of_block(vae, n_features, n_draws) == 16 * rows or rows == 1


def test_convolutions_take_few_large_images_at_a_time() -> None:
    with torch.device("meta"):
        vae = VAE(*ARCHITECTURES["conv"]((256, 256, 3), 3), Gaussian(), Scaling(torch.zeros(()), torch.ones(())))
    assert rows_of_block(vae, 256 * 256 * 3, 2) == 2


def test_a_row_of_a_small_block_has_the_same_result_alone_and_among_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "INPUT_VALUES", 6 * 8)
    monkeypatch.setattr(blocks, "DENSE_ROWS", 1)
    vae, X = random_vae((6,)), np.random.default_rng(0).normal(size=(21, 6))
    sizes: list[int] = []

    def encode(x: Tensor) -> tuple[Tensor, ...]:
        sizes.append(len(x))
        return (vae.encode(x).mu,)

    (whole,) = by_block(vae, X, encode)
    assert sizes == [8, 8, 8]
    for n in range(21):
        np.testing.assert_array_equal(by_block(vae, X[n:], encode)[0], whole[n:])


@pytest.mark.parametrize("room", [512, 511, 300, 64, 1])
def test_out_of_memory_halves_the_block_until_it_fits(room: int) -> None:
    vae, X = random_vae((6,)), np.random.default_rng(0).normal(size=(1100, 6))
    sizes: list[int] = []

    def encode(x: Tensor) -> tuple[Tensor, ...]:
        sizes.append(len(x))
        if len(x) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return vae.encode(x).mu, vae.encode(x).sigma

    mu, sigma = by_block(vae, X, encode)
    expected = by_block(vae, X, lambda x: tuple(vae.encode(x)[:2]))
    np.testing.assert_allclose(mu, expected[0], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(sigma, expected[1], rtol=1e-12)
    fits = max(size for size in (BLOCK_ROWS >> k for k in range(10)) if size <= room)
    assert [size for size in sizes if size > room] == [BLOCK_ROWS >> k for k in range(10) if BLOCK_ROWS >> k > room]
    assert sizes.count(fits) == len(sizes) - (BLOCK_ROWS // fits).bit_length() + 1 == math.ceil(len(X) / fits)


def test_out_of_memory_midway_keeps_what_is_done() -> None:
    vae, X = random_vae((6,)), np.random.default_rng(0).normal(size=(1100, 6))
    sizes: list[int] = []

    def encode(x: Tensor) -> tuple[Tensor, ...]:
        sizes.append(len(x))
        if len(sizes) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return (vae.encode(x).mu,)

    (mu,) = by_block(vae, X, encode)
    assert sizes == [512, 512, 256, 256, 256]
    np.testing.assert_allclose(mu, by_block(vae, X, lambda x: (vae.encode(x).mu,))[0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("n", [1, 100, 1100])
def test_results_come_back_in_pieces(monkeypatch: pytest.MonkeyPatch, n: int, *, fails: bool) -> None:
    X = np.random.default_rng(0).normal(size=(n, 6))
    fetched: list[int] = []
    join, cat = blocks.on_host, torch.cat

    def on_host(parts: tuple[Tensor, ...]) -> Tensor:
        fetched.append(len(parts))
        with monkeypatch.context() as patch:
            if fails:  # for the first of two
                patch.setattr(
                    torch, "cat", Mock(side_effect=[torch.OutOfMemoryError("CUDA out of memory"), cat(parts)])
                )
            return join(parts)

    monkeypatch.setattr(blocks, "on_host", on_host)
    gathered = blocks.Gathered(n, kept_bytes=100 * X[0].nbytes)
    for start in range(0, n, 32):
        some = torch.from_numpy(X[start : start + 32])
        gathered.add((torch.nn.functional.pad(some, (0, 0, 0, 32 - len(some))),), len(some))
    gathered.fetch()
    np.testing.assert_array_equal(gathered.whole[0], X)
    assert len(fetched) == math.ceil(n / 128)
    assert sum(fetched) == math.ceil(n / 32)


def test_what_ran_out_of_memory_is_dropped_before_results_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "RESULT_BYTES", 1 << 20)
    monkeypatch.setattr(blocks, "is_gpu", lambda device: True)
    monkeypatch.setattr(blocks, "rows_of_block", lambda vae, n_features: 512)
    held: list[weakref.ref[Tensor]] = []
    join = blocks.on_host

    def on_host(parts: tuple[Tensor, ...]) -> Tensor:
        assert all(tensor() is None for tensor in held)
        return join(parts)

    def encode(x: Tensor) -> tuple[Tensor, ...]:
        n_calls.append(1)
        mu = vae.encode(x).mu
        if len(n_calls) == 2:
            held.append(weakref.ref(mu))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return (mu,)

    n_calls: list[int] = []
    monkeypatch.setattr(blocks, "on_host", on_host)
    vae, X = random_vae((6,)), np.random.default_rng(0).normal(size=(1100, 6))
    (mu,) = by_block(vae, X, encode)
    assert len(held) == 1
    np.testing.assert_allclose(mu, by_block(vae, X, lambda x: (vae.encode(x).mu,))[0], rtol=1e-12, atol=1e-14)


def test_no_memory_for_one_row_is_a_clear_error() -> None:
    def full(x: Tensor) -> tuple[Tensor, ...]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(DeviceMemoryError, match="cpu has too little free memory for even one row of 6 features: free"):
        by_block(random_vae((6,)), np.zeros((3, 6)), full)
