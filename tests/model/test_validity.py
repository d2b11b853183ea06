"""What a file's buffers must be: declared shapes, and positive where a module divides by them."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from vae_anomaly import VAEDetector
from vae_anomaly.model.validity import check_shapes, check_values

SHAPES = {"means": ("K", "latent_dim"), "covariances": ("K", "latent_dim", "latent_dim"), "scale": ("latent_dim",)}


def buffers(**shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    fitting = {"means": (4, 2), "covariances": (4, 2, 2), "scale": (2,)}
    return {name: torch.zeros(shape) for name, shape in (fitting | shapes).items()}


LIMITS = {"K": 7}


def test_sizes_that_are_not_known_may_be_anything_up_to_their_limit_but_the_same() -> None:
    check_shapes(buffers(), SHAPES, "a thing", LIMITS, latent_dim=2)
    check_shapes(buffers(means=(7, 2), covariances=(7, 2, 2)), SHAPES, "a thing", LIMITS, latent_dim=2)
    check_shapes({}, {}, "a thing", {}, latent_dim=2)
    with pytest.raises(ValueError, match="a thing has at most 7 for its size K, got 8"):
        check_shapes(buffers(means=(8, 2), covariances=(8, 2, 2)), SHAPES, "a thing", LIMITS, latent_dim=2)
    with pytest.raises(ValueError, match="a thing declares no limit of its size K"):
        check_shapes(buffers(), SHAPES, "a thing", {}, latent_dim=2)


@pytest.mark.parametrize(
    "shapes",
    [
        {"means": (5, 2)},
        {"means": (4, 3)},
        {"means": (4,)},
        {"covariances": (4, 2, 3)},
        {"covariances": (4, 2, 2, 1)},
        {"scale": ()},
        {"scale": (3,)},
        {"other": (4, 2)},
    ],
)
def test_other_shapes_are_refused(shapes: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="a thing has no buffers of shapes"):
        check_shapes(buffers(**shapes), SHAPES, "a thing", LIMITS, latent_dim=2)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_every_scale_variance_and_deviation_of_a_fitted_module_is_checked(
    image_detector: VAEDetector, table_detector: VAEDetector, value: float
) -> None:
    for detector in (image_detector, table_detector):
        check_values(detector.vae_)
        names = [name for name, _ in detector.vae_.named_buffers()]
        positive = [name for name in names if name.endswith(("scale", "variance", "sigma", "std", "floor"))]
        assert len(positive) >= 4
        for name in positive:
            vae = copy.deepcopy(detector.vae_)
            vae.get_buffer(name).view(-1)[-1] = value
            with pytest.raises(ValueError, match=f"its {name} must be above 0"):
                check_values(vae)
