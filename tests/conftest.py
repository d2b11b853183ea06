"""Fixtures that several modules share: small fitted detectors, and data like what users have."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

# tests run side by side: threads of several processes would wait for each other more than they compute
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["SCIPY_ARRAY_API"] = "1"  # read once, when SciPy is imported; one of scikit-learn's checks asks for it

import numpy as np
import pytest

from helpers import Make, images, table
from vae_anomaly import registry

if TYPE_CHECKING:
    from vae_anomaly import FittedModel, VAEDetector
    from vae_anomaly.storage.rows import Rows


@pytest.fixture(scope="session")
def table_detector() -> VAEDetector:
    from vae_anomaly import VAEDetector

    return VAEDetector(epochs=20).fit(table())


@pytest.fixture(scope="session")
def image_detector() -> VAEDetector:
    from vae_anomaly import VAEDetector

    return VAEDetector(epochs=5, architecture="conv").fit(images())


@pytest.fixture(scope="session")
def make_table() -> Make:
    return table


@pytest.fixture(scope="session")
def make_images() -> Make:
    return images


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of the test's own; ``pytestmark = pytest.mark.usefixtures("own_folder")`` for a module."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def calibrated_for_elbo_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits compute no held-out scores but the ELBO, which saves two thirds of the time of a small one."""
    from vae_anomaly.fitting import fit

    def score_held_out(model: FittedModel, calibration: Rows) -> None:
        model.held_out_scores["elbo"] = model.score_samples(calibration, "elbo")

    monkeypatch.setattr(fit, "score_held_out", score_held_out)


@pytest.fixture
def restored_registries() -> Iterator[None]:
    """What the test registers is forgotten after it."""
    yield
    for known in vars(registry).values():
        if isinstance(known, registry.Registry):
            for name in known._added.keys() - known._written.keys():
                del known._added[name], known._objects[name]


@pytest.fixture
def global_random_state() -> Callable[[], tuple[Any, ...]]:
    """A function that returns the state of every global random generator."""
    import torch

    def state() -> tuple[Any, ...]:
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002

    return state
