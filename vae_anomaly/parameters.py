"""What `VAEDetector`'s parameters may be; checked in `fit`, as scikit-learn does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from vae_anomaly.fitting.precision import PRECISIONS
from vae_anomaly.model.likelihoods import LIKELIHOODS, Gaussian
from vae_anomaly.model.networks import ARCHITECTURES
from vae_anomaly.model.priors import PRIORS
from vae_anomaly.model.scaling import PREPROCESSING
from vae_anomaly.scoring.scores import SCORES

Constraint: TypeAlias = tuple[Callable[[Any], bool], str]


def is_integer(value: Any) -> bool:
    """A whole number, and not a truth value."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_real(value: Any) -> bool:
    """A finite number, and not a truth value."""
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


def is_count(value: Any) -> bool:
    """A whole number of at least 1."""
    return is_integer(value) and value >= 1


def is_image_shape(value: Any) -> bool:
    """Two or three sizes of at least 1."""
    return isinstance(value, tuple | list) and len(value) in (2, 3) and all(map(is_count, value))


def one_of(*names: str) -> Constraint:
    """One of these words."""
    return lambda v: isinstance(v, str) and v in names, "one of " + ", ".join(map(repr, names))


def optional(constraint: Constraint) -> Constraint:
    """None, or what the constraint says."""
    holds, text = constraint
    return lambda v: v is None or holds(v), f"{text}, or None"


COUNT: Constraint = (is_count, "an int of at least 1")
FRACTION: Constraint = (lambda v: is_real(v) and 0 < v < 1, "a number between 0 and 1")

CONSTRAINTS: dict[str, Constraint] = {
    "architecture": one_of(*ARCHITECTURES),
    "latent_dim": optional(COUNT),
    "likelihood": one_of("auto", *LIKELIHOODS),
    "prior": one_of("auto", *PRIORS),
    "preprocessing": one_of("auto", *PREPROCESSING),
    "image_shape": optional((is_image_shape, "(height, width) or (height, width, channels)")),
    "input_noise": optional((lambda v: is_real(v) and v >= 0, "a number of at least 0")),
    "epochs": optional(COUNT),
    "batch_size": optional(COUNT),
    "learning_rate": optional((lambda v: is_real(v) and v > 0, "a number above 0")),
    "patience": optional(COUNT),
    "validation_fraction": FRACTION,
    "calibration_fraction": FRACTION,
    "contamination": (
        lambda v: v == "auto" if isinstance(v, str) else is_real(v) and 0 < v <= 0.5,
        "'auto' or a number in (0, 0.5]",
    ),
    "n_draws": COUNT,
    "precision": one_of(*PRECISIONS),
    "score": one_of(*SCORES),
    "device": (lambda v: isinstance(v, str), "the name of a device, or 'auto'"),
    "checkpoint_dir": optional((lambda v: isinstance(v, str | Path) and str(v) != "", "the name of a folder")),
    "checkpoint_interval": (lambda v: is_real(v) and v >= 0, "a number of seconds, at least 0"),
    "resume": (lambda v: isinstance(v, bool | np.bool_), "True or False"),
}

# those of `VAEDetector`, which a file from before a parameter was there leaves out; a test compares them
DEFAULTS: dict[str, Any] = {
    "architecture": "mlp",
    "latent_dim": None,
    "likelihood": "auto",
    "prior": "auto",
    "preprocessing": "auto",
    "image_shape": None,
    "input_noise": None,
    "epochs": None,
    "batch_size": None,
    "learning_rate": None,
    "patience": None,
    "validation_fraction": 0.1,
    "calibration_fraction": 0.1,
    "contamination": "auto",
    "n_draws": 2,
    "precision": "auto",
    "score": "elbo",
    "random_state": 0,
    "device": "auto",
    "verbose": False,
    "checkpoint_dir": None,
    "checkpoint_interval": 30.0,
    "resume": False,
}

# where and when a fit keeps its state, and no part of the model: a file must not decide it
OF_THE_FIT_ALONE = ("checkpoint_dir", "checkpoint_interval", "resume")


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Refuse a bad parameter with its name, its constraint and its value.

    Raises
    ------
    ValueError
        For the first parameter that cannot be used.
    """
    for name, (holds, text) in CONSTRAINTS.items():
        if not holds(parameters[name]):
            raise ValueError(f"{name} must be {text}, got {parameters[name]!r}")
    if parameters["architecture"] == "article":
        for name, values in {"likelihood": ("auto", "gaussian"), "prior": ("auto", "normal")}.items():
            if parameters[name] not in values:
                raise ValueError(f"architecture='article' brings its own {name}: leave {name}='auto'")
    if parameters["prior"] == "exemplars" and LIKELIHOODS.get(parameters["likelihood"], Gaussian).support is not None:
        raise ValueError(
            "prior='exemplars' needs a Gaussian likelihood, got likelihood=" + repr(parameters["likelihood"])
        )
    if parameters["resume"] and parameters["checkpoint_dir"] is None:
        raise ValueError("resume=True needs checkpoint_dir, the folder with the checkpoints to go on from")
    if parameters["checkpoint_dir"] is not None and parameters["random_state"] is None:
        raise ValueError("checkpoint_dir needs a random_state, such as 0: without one a fit cannot be resumed")


def parameters_in(stored: Mapping[str, Any], device: str) -> dict[str, Any]:
    """All parameters of the detector whose file holds these, on this device.

    Raises
    ------
    ValueError
        For the first parameter that is unknown or cannot be used.
    """
    kept = {name: value for name, value in stored.items() if name not in OF_THE_FIT_ALONE}
    unknown = next((name for name in kept if name not in DEFAULTS), None)
    if unknown is not None:
        raise ValueError(f"its parameter {unknown[:100]!r} is unknown")
    parameters = DEFAULTS | kept | {"device": device}
    if isinstance(parameters["image_shape"], list):
        parameters["image_shape"] = tuple(parameters["image_shape"])
    check_parameters(parameters)
    return parameters
