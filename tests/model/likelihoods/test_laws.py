"""The laws of a likelihood, for every one that is registered: a new one is tested by being there."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from random_models import likelihood_of
from vae_anomaly.fitting.captured_step import HostTraffic
from vae_anomaly.model.likelihoods.base import Likelihood
from vae_anomaly.model.likelihoods.signal import signal_of
from vae_anomaly.model.validity import check_values
from vae_anomaly.registry import LIKELIHOODS

SHAPE, D = (5, 3, 2), 30
every_likelihood = pytest.mark.parametrize("name", LIKELIHOODS)
both_precisions = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def fitted(name: str, dtype: torch.dtype = torch.float64, shape: tuple[int, int, int] = SHAPE) -> Likelihood:
    """The likelihood after a fit to rows in [0, 1], or around it where all values are allowed."""
    generator = torch.Generator().manual_seed(0)
    decoded = torch.rand(60, math.prod(shape), generator=generator, dtype=torch.float64)
    x = decoded + 0.1 * torch.randn(decoded.shape, generator=generator, dtype=torch.float64)
    likelihood = likelihood_of(name, shape).double()
    if likelihood.support is not None:
        x = x.clamp(*likelihood.support)
    likelihood.fit_after_training(x, decoded, torch.randn(60, 3, generator=generator, dtype=torch.float64))
    return likelihood.to(dtype)


def rows(n: int, dtype: torch.dtype, size: float = 1.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows in [0, 1], which every support holds, and a decoder's output of that size."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, D, generator=generator, dtype=torch.float64).to(dtype)
    return x, (size * torch.randn(n, D, generator=generator, dtype=torch.float64)).to(dtype)


def of_scaled_images(likelihood: Likelihood) -> float:
    """Of images of one pixel, whose signal and sharpness are always the same; the density is that of x / sqrt(s)."""
    signal = signal_of(torch.zeros(1, 1, dtype=torch.float64), likelihood.smoothing)
    size = signal.size(likelihood.ink_floor, likelihood.edge_floor).item()
    return math.sqrt(size) * norm(likelihood.sharpness_mean, likelihood.sharpness_std).pdf(signal.sharpness.item())


# what the exponentials of energies sum to, for images of one pixel
INTEGRALS: dict[str, Callable[[Likelihood], float]] = {
    "squared_error": lambda likelihood: math.sqrt(math.pi),
    "correlated_gaussian": of_scaled_images,
}
MASSES_ON = {"bernoulli": (0.0, 1.0)}
PLANE = (1, 2, 1)  # an image of two pixels, or a table of two columns


def quadrature(likelihood: Likelihood, name: str, logit: float) -> tuple[np.ndarray, np.ndarray]:
    """Values of a single feature that cover the support, and their weights."""
    if name in MASSES_ON:
        return np.array(MASSES_ON[name]), np.ones(len(MASSES_ON[name]))
    low, high = likelihood.support or (logit - 40, logit + 40)
    x = np.linspace(low, high, 400_001)
    weights = np.full(len(x), (high - low) / (len(x) - 1))
    weights[[0, -1]] /= 2
    return x, weights


@every_likelihood
@pytest.mark.parametrize("decoded", [-4.0, -0.3, 0.0, 0.7, 6.0])
def test_it_integrates_to_one_and_has_the_moments_and_the_entropy_that_it_claims(name: str, decoded: float) -> None:
    likelihood = fitted(name, shape=(1, 1, 1))
    x, weights = quadrature(likelihood, name, decoded)
    column = torch.from_numpy(x)[:, None]
    log_p = likelihood.log_prob(column, torch.full_like(column, decoded)).numpy()
    density = weights * np.exp(log_p)
    expected = INTEGRALS.get(name, lambda likelihood: 1.0)(likelihood)
    assert density.sum() == pytest.approx(expected, rel=1e-6)
    density /= density.sum()
    one, mean = torch.tensor([[decoded]], dtype=torch.float64), (density * x).sum()
    assert likelihood.mean(one).item() == pytest.approx(mean, abs=1e-6)
    variance = likelihood.variance_of_features(column[:1], one)
    assert variance.dtype == torch.float64
    assert variance.item() == pytest.approx((density * (x - mean) ** 2).sum(), rel=1e-5)
    assert likelihood.entropy_of_features(column[:1], one).item() == pytest.approx(-(density * log_p).sum(), abs=1e-6)


def on_a_grid(likelihood: Likelihood, log_p: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """The integral of exp(log_p) over two features, in the support or around [0, 1]."""
    low, high = likelihood.support or (-8.0, 9.0)
    axis = torch.linspace(low, high, 1201, dtype=torch.float64)
    weights = torch.full_like(axis, (high - low) / (len(axis) - 1))
    weights[[0, -1]] /= 2
    return sum(
        float((log_p(torch.cartesian_prod(part, axis)).exp().view(len(part), -1) * weights).sum(dim=1) @ own)
        for part, own in zip(torch.split(axis, 200), torch.split(weights, 200), strict=True)
    )


@every_likelihood
@pytest.mark.parametrize("decoded", [(0.1, 0.8), (0.5, 0.5), (-1.0, 2.0)])
def test_its_density_integrates_to_one(name: str, decoded: tuple[float, float]) -> None:
    likelihood = fitted(name, shape=PLANE)
    density, output = likelihood.as_density(), torch.tensor([decoded], dtype=torch.float64)
    assert density.normalised
    assert (density is likelihood) == likelihood.normalised
    assert on_a_grid(likelihood, lambda x: density.log_prob(x, output.expand_as(x))) == pytest.approx(1, rel=1e-4)
    # and under each of several decoded rows at once, as exemplars ask for it
    if LIKELIHOODS.entry(name).facts.get("gaussian"):
        several = torch.cat([output, 0.5 * output])
        x = torch.rand(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        pairs = torch.stack([density.log_prob(x, one.expand_as(x)) for one in several], dim=1)
        torch.testing.assert_close(density.log_prob_of_pairs(x, several), pairs)


@every_likelihood
@both_precisions
@given(seed=st.integers(0, 10_000), size=st.sampled_from([1e-6, 0.3, 3.0, 60.0]))
@settings(max_examples=20)
def test_shares_of_features_sum_to_the_log_density(name: str, dtype: torch.dtype, seed: int, size: float) -> None:
    likelihood, (x, decoded) = fitted(name, dtype), rows(7, dtype, size, seed)
    shares = likelihood.log_prob_of_features(x, decoded)
    assert shares.shape == x.shape
    rounding = (1e-12 if dtype == torch.float64 else 2e-6) * (shares.abs().sum(dim=1) + 1)
    assert ((shares.sum(dim=1) - likelihood.log_prob(x, decoded)).abs() <= rounding).all()


@every_likelihood
@both_precisions
def test_bound_rows_have_the_same_log_density(name: str, dtype: torch.dtype) -> None:
    likelihood, (x, decoded) = fitted(name, dtype), rows(7, dtype)
    log_prob = likelihood.bind(x)
    for output in (decoded, 3 * decoded):
        assert torch.equal(log_prob(output), likelihood.log_prob(x, output))


@every_likelihood
@both_precisions
def test_rows_depend_on_no_other_row(name: str, dtype: torch.dtype) -> None:
    likelihood, (x, decoded) = fitted(name, dtype), rows(6, dtype)
    functions = (
        likelihood.log_prob,
        likelihood.training_log_prob,
        likelihood.log_prob_of_features,
        likelihood.variance_of_features,
        likelihood.entropy_of_features,
    )
    for function in functions:
        together = function(x, decoded)
        alone = torch.cat([function(x[i : i + 1], decoded[i : i + 1]) for i in range(6)])
        assert together.shape == alone.shape
        np.testing.assert_allclose(together, alone, rtol=1e-6 if dtype == torch.float32 else 1e-12)
    assert likelihood.mean(decoded).shape == x.shape


@every_likelihood
@both_precisions
def test_averages_over_decoded_means_agree_with_one_at_a_time(name: str, dtype: torch.dtype) -> None:
    likelihood, (x, decoded) = fitted(name, dtype), rows(7, dtype)
    weights = torch.softmax(torch.from_numpy(np.random.default_rng(0).normal(size=(7, 5))), dim=1)
    if not LIKELIHOODS.entry(name).facts.get("gaussian"):
        for average in (
            lambda: likelihood.log_prob_of_pairs(x, decoded),
            lambda: likelihood.mean_log_prob_of_features(x, decoded[:5], weights),
        ):
            with pytest.raises(TypeError, match="need a Gaussian likelihood"):
                average()
        return
    rtol = 1e-4 if dtype == torch.float32 else 1e-9
    means = [mean.expand_as(x) for mean in decoded[:5]]
    pairs = likelihood.log_prob_of_pairs(x, decoded[:5])
    assert pairs.dtype == torch.float64
    np.testing.assert_allclose(pairs, torch.stack([likelihood.log_prob(x, mean) for mean in means], dim=1), rtol=rtol)
    features = torch.stack([likelihood.log_prob_of_features(x, mean) for mean in means], dim=1)
    averaged = likelihood.mean_log_prob_of_features(x, decoded[:5], weights)
    np.testing.assert_allclose(averaged, (weights[..., None] * features).sum(dim=1), rtol=rtol, atol=rtol)


@every_likelihood
def test_a_step_of_learning_gives_what_training_maximises(name: str) -> None:
    likelihood, (x, decoded) = fitted(name), rows(9, torch.float64)
    learned = likelihood.learn(x, decoded, 0.5)
    np.testing.assert_allclose(learned, likelihood.training_log_prob(x, decoded), rtol=1e-12)


@every_likelihood
@both_precisions
def test_learning_moves_buffers_in_place_by_its_arguments_alone(name: str, dtype: torch.dtype) -> None:
    """A training on a GPU repeats a step from a recording of it, with the weight as a tensor."""
    by_number, by_tensor = fitted(name, dtype), fitted(name, dtype)
    places = [buffer.data_ptr() for buffer in by_tensor.buffers()]
    (x, decoded), weight = rows(9, dtype), torch.zeros((), dtype=dtype)
    with HostTraffic() as traffic:
        for share in (1.0, 0.3, 0.02):
            by_number.learn(x, decoded, share)
            by_tensor.learn(x, decoded, weight.fill_(share))
    assert traffic.found is None
    assert [buffer.data_ptr() for buffer in by_tensor.buffers()] == places
    for ours, theirs in zip(by_tensor.buffers(), by_number.buffers(), strict=True):
        assert torch.equal(ours, theirs)


@every_likelihood
def test_a_spread_that_stays_the_same_rescales_nothing(name: str) -> None:
    likelihood, (x, decoded) = fitted(name), rows(9, torch.float64)
    before = {key: value.clone() for key, value in likelihood.state_dict().items()}
    likelihood.rescale_noise(x, decoded, decoded)
    for key, value in likelihood.state_dict().items():
        torch.testing.assert_close(value, before[key], msg=key)


@every_likelihood
@pytest.mark.parametrize("n", [1, 2, 40])
def test_what_must_be_positive_is_so_after_any_fit(name: str, n: int) -> None:
    likelihood = likelihood_of(name, SHAPE)
    assert likelihood.positive_buffers <= set(likelihood.state_dict())
    blank = torch.zeros(n, D)
    likelihood.learn(blank, likelihood.mean(blank), 1.0)
    likelihood.fit_after_training(blank, blank, blank[:, :2])
    likelihood.rescale_noise(blank, blank, blank)
    check_values(likelihood)
    assert all(torch.isfinite(buffer).all() for buffer in likelihood.buffers())
    assert torch.isfinite(likelihood.log_prob(blank, blank)).all()


@every_likelihood
def test_the_shared_variance_is_all_that_white_noise_knows(name: str) -> None:
    likelihood, (x, decoded) = fitted(name), rows(5, torch.float64)
    if likelihood.shared_variance is not None:
        likelihood.shared_variance.fill_(0.37)
        np.testing.assert_allclose(likelihood.variance_of_features(x, decoded), np.full((5, D), 0.37))
