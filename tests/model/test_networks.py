"""Networks: shapes for every input, and the article's numbers from its own weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_anomaly.model.elbo import elbo_terms
from vae_anomaly.model.likelihoods.squared_error import SquaredError
from vae_anomaly.model.networks.article import article
from vae_anomaly.model.networks.conv import ConvDecoder, ConvEncoder
from vae_anomaly.model.scaling import Scaling
from vae_anomaly.model.vae import VAE, reset_parameters
from vae_anomaly.registry import ARCHITECTURES


@given(
    height=st.integers(8, 37),
    width=st.integers(8, 37),
    channels=st.sampled_from([1, 3]),
    latent=st.integers(1, 5),
    n_layers=st.integers(1, 3),
)
@settings(max_examples=25)
def test_conv_takes_and_gives_any_image_size(
    height: int, width: int, channels: int, latent: int, n_layers: int
) -> None:
    shape, filters = (height, width, channels), (2, 3, 4)[:n_layers]
    x = torch.rand(2, height * width * channels)
    posterior = ConvEncoder(shape, latent, filters)(x)
    assert all(field.shape == (2, latent) for field in posterior)
    assert ConvDecoder(shape, latent, filters)(posterior.mu).shape == x.shape


def test_conv_rows_are_images_in_height_width_channel_order() -> None:
    encoder = ConvEncoder((8, 10, 3), 2, (4,))
    image = torch.rand(1, 8, 10, 3)
    kernel, bias = encoder.convolutions[0].weight, encoder.convolutions[0].bias
    expected = torch.relu((image[0, 0:2, 0:2].permute(2, 0, 1) * kernel[1, :, 1:, 1:]).sum() + bias[1])
    seen = encoder.convolutions(image.permute(0, 3, 1, 2))[0, 1, 0, 0]
    assert seen.item() == pytest.approx(expected.item(), rel=1e-5)
    flat = encoder(image.flatten(1)).mu
    again = encoder.head(encoder.convolutions(image.permute(0, 3, 1, 2)).flatten(1)).mu
    torch.testing.assert_close(flat, again)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("shape", [(12, 9, 1), (8, 8, 3)])
def test_every_architecture_gives_posterior_and_decoded_rows(name: str, shape: tuple[int, ...]) -> None:
    encoder, decoder = ARCHITECTURES[name](shape, 4)
    x = torch.rand(3, int(np.prod(shape)))
    mu, sigma, log_var = encoder(x)
    assert mu.shape == sigma.shape == log_var.shape == (3, 4)
    assert (sigma >= 0).all()
    assert decoder(mu).shape == x.shape


@pytest.mark.parametrize("shape", [(30,), (7, 28, 1), (28, 28, 2), (28, 28, 4)])
def test_conv_refuses_what_is_not_an_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="needs images of at least 8 x 8"):
        ARCHITECTURES["conv"](shape, 4)


@pytest.mark.parametrize("n_features", [784, 13])
def test_article_computes_its_network_and_loss_exactly(n_features: int) -> None:
    encoder, decoder = article((n_features,), 10)
    vae = VAE(encoder, decoder, SquaredError(), Scaling(torch.tensor(0.0), torch.tensor(1.0))).double()
    reset_parameters(vae, torch.Generator().manual_seed(3))
    rng = np.random.default_rng(0)
    x, eps = rng.random((6, n_features)), rng.normal(size=(6, 10))
    w = {name: value.numpy() for name, value in vae.state_dict().items()}

    def layer(name: str, h: np.ndarray) -> np.ndarray:
        return h @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def relu(h: np.ndarray) -> np.ndarray:
        return np.maximum(h, 0)

    h = relu(layer("encoder.hidden.2", relu(layer("encoder.hidden.0", x))))
    mu, sigma = relu(layer("encoder.mu.0", h)), relu(layer("encoder.sigma.0", h))
    assert w["encoder.hidden.0.weight"].shape == (256, n_features)
    assert w["encoder.hidden.2.weight"].shape == (64, 256)
    assert (sigma == 0).any(), "the case that the guard 1e-8 is for must occur"
    z = mu + sigma * eps
    h = relu(layer("decoder.hidden.2", relu(layer("decoder.hidden.0", z))))
    decoded = 1 / (1 + np.exp(-layer("decoder.output", h)))
    kl = 0.5 * np.sum(mu**2 + sigma**2 - np.log(1e-8 + sigma**2) - 1, axis=1)
    loss = np.mean((x - decoded) ** 2) + np.mean(kl) / n_features

    with torch.no_grad():
        reconstruction, ours = elbo_terms(vae, torch.tensor(x), torch.tensor(eps)[None])
    np.testing.assert_allclose(ours, kl, rtol=1e-12)
    np.testing.assert_allclose(((ours - reconstruction).mean() / n_features).item(), loss, rtol=1e-12)


def test_reset_parameters_uses_its_generator_alone(global_random_state) -> None:
    encoder, _ = article((20,), 3)
    before = global_random_state()
    reset_parameters(encoder, torch.Generator().manual_seed(5))
    first = [weight.clone() for weight in encoder.parameters()]
    reset_parameters(encoder, torch.Generator().manual_seed(5))
    assert all(torch.equal(a, b) for a, b in zip(first, encoder.parameters(), strict=True))
    assert global_random_state() == before
    weight = encoder.hidden[0].weight
    assert weight.abs().max() <= 1 / np.sqrt(20)
    assert weight.std().item() == pytest.approx(1 / np.sqrt(60), rel=0.1)
