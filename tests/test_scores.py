"""A row's score is a function of that row alone, to the bit."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_anomaly import VAEDetector
from vae_anomaly.likelihoods import LIKELIHOODS
from vae_anomaly.networks import ARCHITECTURES
from vae_anomaly.scaling import Scaling
from vae_anomaly.scores import BLOCK_ROWS, SCORES, antithetic_noise, by_block
from vae_anomaly.vae import VAE, reset_parameters


def random_vae(architecture: str, likelihood: str, shape: tuple[int, ...], dtype: torch.dtype) -> VAE:
    encoder, decoder = ARCHITECTURES[architecture](shape, 3)
    scaling = Scaling(torch.tensor(0.0), torch.tensor(1.0))
    vae = VAE(encoder, decoder, LIKELIHOODS[likelihood](), scaling)
    reset_parameters(vae, torch.Generator().manual_seed(0))
    return vae.to(dtype)


@given(
    case=st.sampled_from(
        [("mlp", (5,)), ("mlp", (17,)), ("mlp", (28, 28, 1)), ("conv", (9, 11, 1)), ("article", (13,))]
    ),
    likelihood=st.sampled_from(sorted(LIKELIHOODS)),
    score=st.sampled_from(sorted(SCORES)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_scores_do_not_depend_on_neighbours_position_or_number(
    case: tuple[str, tuple[int, ...]], likelihood: str, score: str, dtype: torch.dtype, seed: int
) -> None:
    architecture, shape = case
    vae = random_vae(architecture, likelihood, shape, dtype)
    rng = np.random.default_rng(seed)
    X = rng.random((2 * BLOCK_ROWS + 37, int(np.prod(shape)))).astype("f8" if dtype == torch.float64 else "f4")
    noise = antithetic_noise(3, 3, torch.Generator().manual_seed(1)).to(dtype)

    def scores(rows: np.ndarray) -> np.ndarray:
        return by_block(vae, rows, lambda x: (SCORES[score](vae, x, noise),))[0]

    together = scores(X)
    assert together.shape == (len(X),)
    assert np.isfinite(together).all()
    chosen = rng.permutation(len(X))[: rng.integers(1, len(X))]
    np.testing.assert_array_equal(scores(X[chosen]), together[chosen])
    np.testing.assert_array_equal(scores(X[-1:]), together[-1:])


@pytest.mark.parametrize("threads", [1, 2])
def test_scores_are_the_same_in_another_process(tmp_path: Path, table_detector: VAEDetector, threads: int) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(700, 6))
    np.save(tmp_path / "X.npy", X)
    table_detector.save(tmp_path / "model.vae")
    script = (
        "import sys, hashlib, numpy as np, torch; from vae_anomaly import VAEDetector\n"
        "torch.set_num_threads(int(sys.argv[2]))\n"
        "d = VAEDetector.load(sys.argv[1] + '/model.vae'); s = d.score_samples(np.load(sys.argv[1] + '/X.npy'))\n"
        "print(hashlib.sha256(s.tobytes()).hexdigest())"
    )
    run = subprocess.run(
        [sys.executable, "-P", "-c", script, str(tmp_path), str(threads)], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == hashlib.sha256(table_detector.score_samples(X).tobytes()).hexdigest()


def test_noise_comes_in_opposite_pairs() -> None:
    noise = antithetic_noise(4, 5, torch.Generator().manual_seed(0))
    assert noise.shape == (4, 1, 5)
    assert torch.equal(noise[:2], -noise[2:])
    assert antithetic_noise(3, 5, torch.Generator()).shape == (3, 1, 5)


def test_elbo_is_the_difference_of_its_terms() -> None:
    vae = random_vae("mlp", "gaussian", (6,), torch.float64)
    x = torch.rand(9, 6, dtype=torch.float64)
    noise = antithetic_noise(2, 3, torch.Generator().manual_seed(1))
    reconstruction, negative_kl = SCORES["reconstruction"](vae, x, noise), SCORES["kl"](vae, x, noise)
    torch.testing.assert_close(SCORES["elbo"](vae, x, noise), reconstruction + negative_kl)
    assert (SCORES["importance_weighted"](vae, x, noise) >= SCORES["elbo"](vae, x, noise) - 1e-12).all()
