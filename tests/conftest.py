"""Fixtures that several modules share: small fitted detectors, and data like what users have."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

# tests run side by side: threads of several processes would wait for each other more than they compute
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["SCIPY_ARRAY_API"] = "1"  # read once, when SciPy is imported; one of scikit-learn's checks asks for it

import numpy as np
import pytest
from hypothesis import settings

from helpers import Make, images, table
from vae_anomaly import registry
from vae_anomaly.cli.interruption import SIGNALS

if TYPE_CHECKING:
    from vae_anomaly import FittedModel, VAEDetector
    from vae_anomaly.storage.rows import Rows


settings.register_profile("default", deadline=None)  # no test fails for being slow
settings.load_profile("default")
GPU = os.environ.get("VAE_ANOMALY_TEST_DEVICE", "cuda")  # what tests under -m gpu run on


def pytest_configure(config: pytest.Config) -> None:
    """Give the processes that tests start the same world everywhere.

    Outside of ``-m gpu`` GPUs are hidden: "auto" is the CPU in every test. What a shell ignores for its background, or
    nohup, would be ignored in all processes started from here; a handler is not passed on.
    """
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    for number in SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda number, frame: None)


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """Give each test the same draws in every run, whatever ran before it."""
    if torch := sys.modules.get("torch"):  # many modules of tests never import it
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def gpu() -> str:
    """The name of a GPU."""
    import torch

    if GPU == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    return GPU


@pytest.fixture(scope="session", params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Each device that is there, for what holds on all of them."""
    name: str = "cpu" if request.param == "cpu" else request.getfixturevalue("gpu")
    return name


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
def calibrated_for_one_score(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits compute no held-out scores but the one that decides, which saves two thirds of the time of a small one."""
    from vae_anomaly.calibration.result import LEFT_OUT
    from vae_anomaly.fitting import fit
    from vae_anomaly.fitting.training_scores import leaves_out_own_row

    def score_held_out(model: FittedModel, calibration: Rows, everything: Rows | None = None) -> dict[str, str]:
        is_left_out = everything is not None and leaves_out_own_row(model.vae.prior, model.score)
        model.held_out_scores[model.score] = model.score_samples(everything if is_left_out else calibration)
        return {model.score: LEFT_OUT} if is_left_out else {}

    monkeypatch.setattr(fit, "score_held_out", score_held_out)
    monkeypatch.setattr(fit, "folds_of", lambda *_, **__: None)


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
