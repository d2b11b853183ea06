"""What is promised of fits and scores on every device; ``pytest -m gpu`` runs it on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from helpers import images, table
from vae_anomaly import FittedModel, VAEDetector, score_dataset
from vae_anomaly.fitting.precision import bfloat16_speed_up_of
from vae_anomaly.fitting.run import Run
from vae_anomaly.registry import SCORES
from vae_anomaly.scoring import BLOCK_ROWS, blocks
from vae_anomaly.scoring.attribution import ElboTerms, Explanation
from vae_anomaly.scoring.blocks import rows_of_block

SLOW_SCORES = SCORES.where(slow=True)
KINDS: dict[str, Callable[..., np.ndarray]] = {
    "float64": table,
    "float32": lambda n, seed=0: table(n, seed=seed).astype(np.float32),
    "images": images,
    "conv": images,
}
MLPS = [kind for kind in KINDS if kind != "conv"]
TOLERANCE = {"float64": 1e-6, "float32": 1e-3, "images": 1e-3, "conv": 1e-2}  # as a share of the spread


def fitted(kind: str, device: str, **parameters: Any) -> VAEDetector:
    architecture = "conv" if kind == "conv" else "mlp"
    given = {"epochs": 3, "architecture": architecture, "precision": "full", "device": device} | parameters
    return VAEDetector(**given).fit(KINDS[kind](300))


def scores(detector: VAEDetector, X: np.ndarray) -> dict[str, np.ndarray]:
    rows = detector.model_.rows(X)
    return {name: detector.model_.score_samples(rows, name) for name in detector.model_.scores}


def assert_close(ours: np.ndarray, theirs: np.ndarray, kind: str) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE[kind] * np.ptp(theirs))


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def detector(device: str, kind: str) -> VAEDetector:
    return fitted(kind, device)


def test_a_model_is_where_it_was_asked_for(detector: VAEDetector, device: str) -> None:
    assert {value.device.type for value in detector.vae_.state_dict().values()} == {device}


@pytest.mark.parametrize("score", sorted(SCORES))
def test_no_bit_depends_on_neighbours_position_or_number(detector: VAEDetector, kind: str, score: str) -> None:
    if score not in detector.model_.scores:
        pytest.skip("a score of images")
    rng = np.random.default_rng(0)
    n = BLOCK_ROWS // 4 if score in SLOW_SCORES else rows_of_block(detector.vae_, detector.model_.n_features, 2) + 37
    X = detector.model_.rows(KINDS[kind](n, seed=1))
    together = detector.model_.score_samples(X, score)
    assert np.isfinite(together).all()
    for size in (1, 7, len(X)):
        chosen = rng.permutation(len(X))[:size]
        np.testing.assert_array_equal(detector.model_.score_samples(X[chosen], score), together[chosen])


def test_a_second_fit_has_the_same_bits(detector: VAEDetector, device: str, kind: str, tmp_path: Path) -> None:
    if kind == "conv" and device != "cpu":
        pytest.skip("a GPU sums the gradients of convolutions in any order")
    detector.save(tmp_path / "first.vae")
    fitted(kind, device).save(tmp_path / "second.vae")
    assert (tmp_path / "first.vae").read_bytes() == (tmp_path / "second.vae").read_bytes()


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the library may catch it."""


def resumed(kind: str, device: str, folder: Path) -> VAEDetector:
    """The same fit, killed in its fourth step and resumed."""
    taken, step = [], Run.step

    def dying(run: Run) -> None:
        taken.append(1)
        if len(taken) == 4:
            raise Killed
        step(run)

    kept = {"checkpoint_dir": folder, "checkpoint_interval": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "step", dying)
        with pytest.raises(Killed):
            fitted(kind, device, **kept)
    return fitted(kind, device, **kept, resume=True)


@pytest.mark.parametrize("kind", MLPS)
def test_a_resumed_fit_has_the_same_bits(device: str, kind: str, tmp_path: Path) -> None:
    fitted(kind, device).save(tmp_path / "whole.vae")
    resumed(kind, device, tmp_path / "kept").save(tmp_path / "resumed.vae")
    assert (tmp_path / "resumed.vae").read_bytes() == (tmp_path / "whole.vae").read_bytes()


def test_fits_of_convolutions_rank_alike(device: str, tmp_path: Path) -> None:
    X = np.concatenate([images(100, seed=1), images(100, seed=1)[:, ::-1] // 2])
    first = fitted("conv", device).score_samples(X)
    for again in (fitted("conv", device), resumed("conv", device, tmp_path / "kept")):
        assert spearmanr(again.score_samples(X), first).statistic > 0.99


@pytest.mark.gpu
@pytest.mark.parametrize("fitted_on", ["cpu", "gpu"])
def test_a_file_scores_alike_on_every_device(gpu: str, kind: str, fitted_on: str, tmp_path: Path) -> None:
    detector = fitted(kind, gpu if fitted_on == "gpu" else "cpu")
    detector.save(tmp_path / "model.vae")
    X = KINDS[kind](100, seed=1)
    here, there = (VAEDetector.load(tmp_path / "model.vae", device=name) for name in (gpu, "cpu"))
    assert here.vae_.scaling.loc.device.type == gpu
    for same in (here, there):
        same.save(tmp_path / "again.vae")
        assert (tmp_path / "again.vae").read_bytes() == (tmp_path / "model.vae").read_bytes()
    ours, theirs, own = scores(here, X), scores(there, X), scores(detector, X)
    for name in detector.model_.scores:
        assert_close(ours[name], theirs[name], kind)
        np.testing.assert_array_equal(own[name], ours[name] if fitted_on == "gpu" else theirs[name])


@pytest.mark.gpu
def test_all_that_a_model_gives_is_alike_on_every_device(gpu: str, kind: str, tmp_path: Path) -> None:
    there = fitted(kind, "cpu").model_
    there.save(tmp_path / "model.vae")
    here, X = FittedModel.load(tmp_path / "model.vae", device=gpu), there.rows(KINDS[kind](40, seed=1))
    codes = there.transform(X)
    calls: list[Callable[[FittedModel], np.ndarray]] = [
        lambda model: model.transform(X),
        lambda model: model.reconstruct(X),
        lambda model: model.inverse_transform(codes),
        lambda model: model.sample(9, random_state=1),
        lambda model: model.interpolate(X[:2], 5),
        *(lambda model, part=part: getattr(model.explain(X[:5]), part) for part in Explanation._fields),
        *(lambda model, part=part: getattr(model.elbo_terms(X), part) for part in ElboTerms._fields),
    ]
    for call in calls:
        assert_close(call(here), call(there), kind)


@pytest.mark.gpu
def test_a_gpu_with_little_memory_left_gives_the_same_scores(gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = fitted("images", gpu)
    X = images(9_000, seed=1)
    expected = detector.score_samples(X)
    sizes: list[int] = []
    real = blocks.sender_to
    monkeypatch.setattr(blocks, "sender_to", lambda device, n, *rest: sizes.append(n) or real(device, n, *rest))
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(gpu).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(gpu) + (22 << 20)) / total)
    try:
        assert_close(detector.score_samples(X), expected, "images")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len(sizes) > 1, "there was room for whole blocks"


@pytest.mark.gpu
@pytest.mark.parametrize("architecture", ["mlp", "conv", "article"])
def test_products_of_a_fit_are_timed_in_graphs(gpu: str, architecture: str) -> None:
    detector = VAEDetector(architecture=architecture, epochs=1, device=gpu).fit(images(300))
    assert bfloat16_speed_up_of(detector.vae_, detector.model_.rows(images(128))) > 0


@pytest.mark.gpu
def test_data_larger_than_memory_are_fitted_on_a_gpu(gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vae_anomaly.storage.rows.LOADED_BYTES", 0)
    X = table(600)
    first, second = (VAEDetector(epochs=2, device=gpu).fit_batches(np.array_split(X, 5)) for _ in range(2))
    np.testing.assert_array_equal(first.score_samples(X), second.score_samples(X))


@pytest.mark.gpu
def test_worker_processes_give_the_bits_of_one(gpu: str, own_folder: Path) -> None:
    X = table(700)
    np.save("X.npy", X)
    fitted("float64", gpu).save("model.vae")
    result = score_dataset("X.npy", "model.vae", "scores", workers=1, device=gpu, shard_rows=300)
    assert not result.failures
    column = pd.read_parquet("scores").sort_values("index")["anomaly_score"]
    expected = -VAEDetector.load("model.vae", device=gpu).score_samples(X)
    np.testing.assert_array_equal(column, expected)
