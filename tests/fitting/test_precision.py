"""bfloat16 products in training: taken where quick, recorded, and no worse; and no setting outlives a fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from helpers import Make
from vae_anomaly import VAEDetector
from vae_anomaly.errors import CheckpointError, DataError
from vae_anomaly.fitting import precision
from vae_anomaly.fitting.captured_step import WARM_UP, HostTraffic
from vae_anomaly.fitting.fit import fit_model
from vae_anomaly.fitting.precision import bfloat16_speed_up, denormals_flushed, resolve_precision
from vae_anomaly.fitting.run import Run
from vae_anomaly.model.vae import VAE
from vae_anomaly.storage.rows import RowsInMemory

CPU = torch.device("cpu")


def at_speed(monkeypatch: pytest.MonkeyPatch, speed: float) -> None:
    monkeypatch.setattr(precision, "bfloat16_speed_up", lambda device: speed)


@pytest.mark.parametrize(
    ("asked", "dtype", "speed", "came_to_be"),
    [
        ("auto", torch.float32, 2.0, "bfloat16"),
        ("auto", torch.float32, 1.3, "bfloat16"),
        ("auto", torch.float32, 1.2, "full"),
        ("auto", torch.float64, 2.0, "full"),
        ("full", torch.float32, 2.0, "full"),
        ("full", torch.float64, 2.0, "full"),
        ("bfloat16", torch.float32, 0.1, "bfloat16"),
    ],
)
def test_auto_precision_is_resolved(asked: str, dtype: torch.dtype, speed: float, came_to_be: str) -> None:
    assert resolve_precision(asked, dtype, lambda: speed) == came_to_be


def test_double_precision_has_no_bfloat16(make_table: Make) -> None:
    with pytest.raises(DataError, match="precision='bfloat16' needs float32 or uint8 samples, got float64: convert"):
        VAEDetector(precision="bfloat16").fit(make_table())
    with pytest.raises(ValueError, match="precision must be one of 'auto', 'full', 'bfloat16', got 'half'"):
        VAEDetector(precision="half").fit(make_table())


def test_the_measurement_finds_slow_and_fast_products_and_leaves_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        assert torch.get_num_threads() == 1
        clock[0] += cost[a.dtype]
        return a

    monkeypatch.setattr(precision.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(torch.nn.functional, "linear", product)
    monkeypatch.setattr(torch, "get_num_threads", threads := torch.get_num_threads)
    before = threads()
    for half, speed in ((0.5, 2.0), (4.0, 0.25)):
        cost = {torch.float32: 1.0, torch.bfloat16: half}
        bfloat16_speed_up.cache_clear()
        assert bfloat16_speed_up(CPU) == speed
    cost = {torch.float32: 1.0}  # a device that has none
    monkeypatch.setattr(precision, "seconds", lambda *_: (_ for _ in ()).throw(RuntimeError("not implemented")))
    bfloat16_speed_up.cache_clear()
    assert bfloat16_speed_up(CPU) == 0.0
    bfloat16_speed_up.cache_clear()
    assert threads() == before


def test_it_is_really_measured() -> None:
    bfloat16_speed_up.cache_clear()
    assert bfloat16_speed_up(CPU) > 0


class Timed:
    """Stands for a `Recorder` of CUDA graphs: a replay takes as long as the products' types say."""

    clock = 0.0
    seconds: ClassVar[dict[torch.dtype, float]] = {}
    fails = False

    def __init__(self, device: torch.device, generator: torch.Generator) -> None:
        self.kinds: list[torch.dtype] = []
        self.n_rehearsed = 0

    def aside(self, function: Callable[[], None]) -> None:
        self.n_rehearsed += 1
        function()

    def capture(self, function: Callable[[], None]) -> None:
        if self.fails:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        assert self.n_rehearsed == WARM_UP
        with HostTraffic() as traffic, watched_products(self.kinds):
            function()
        assert traffic.found is None

    def replay(self) -> None:
        Timed.clock += sum(self.seconds[kind] for kind in self.kinds)


@contextmanager
def watched_products(kinds: list[torch.dtype]) -> Iterator[None]:
    real = torch.nn.functional.linear

    def linear(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        result = real(x, *rest)
        kinds.append(result.dtype)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "linear", linear)
        yield


@pytest.mark.parametrize(("half", "found"), [(0.5, "bfloat16"), (0.9, "full"), (None, "full")])
def test_on_a_gpu_the_networks_of_the_fit_are_timed_at_its_batch(
    make_images: Make, monkeypatch: pytest.MonkeyPatch, half: float | None, found: str
) -> None:
    monkeypatch.setattr(precision, "is_gpu", lambda device: True)
    monkeypatch.setattr(precision, "GraphRecorder", Timed)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(precision.time, "perf_counter", lambda: Timed.clock)
    monkeypatch.setattr(Timed, "seconds", {torch.float32: 1.0, torch.bfloat16: half})
    monkeypatch.setattr(Timed, "fails", half is None)
    batches: list[int] = []
    real = precision.bfloat16_speed_up_of

    def measured(vae: VAE, batch: np.ndarray) -> float:
        batches.append(len(batch))
        before = {name: value.clone() for name, value in vae.state_dict().items()}
        speed = real(vae, batch)
        assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())
        assert all(p.grad is None for p in vae.parameters())
        return speed

    monkeypatch.setattr(precision, "bfloat16_speed_up_of", measured)
    assert VAEDetector(epochs=1, batch_size=48, architecture="mlp").fit(make_images()).precision_ == found
    assert batches == [48]


@pytest.mark.parametrize("architecture", ["mlp", "conv", "article"])
def test_training_in_fewer_bits_is_as_good_and_says_so(make_images: Make, tmp_path: Path, architecture: str) -> None:
    X, gains = make_images(300), []
    for name in ("full", "bfloat16"):
        detector = VAEDetector(architecture=architecture, precision=name, epochs=20).fit(X)
        elbo = [record["validation_reconstruction"] - record["validation_kl"] for record in detector.history_]
        gains.append(max(elbo) - elbo[0])
        assert {tensor.dtype for tensor in detector.vae_.state_dict().values()} == {torch.float32}
        assert detector.precision_ == name
    assert gains[1] == pytest.approx(gains[0], rel=0.05)
    again = VAEDetector(architecture=architecture, precision="bfloat16", epochs=20).fit(X)
    np.testing.assert_array_equal(again.score_samples(X), detector.score_samples(X))
    detector.save(tmp_path / "m.vae")
    loaded = VAEDetector.load(tmp_path / "m.vae")
    assert loaded.precision_ == loaded.get_params()["precision"] == "bfloat16"


def test_fewer_bits_are_taken_in_products_alone(make_images: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: dict[str, set[torch.dtype]] = {}
    real = torch.nn.functional.linear

    def linear(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        result = real(x, *rest)
        kinds.setdefault("training" if torch.is_grad_enabled() else "scoring", set()).add(result.dtype)
        return result

    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    VAEDetector(precision="bfloat16", epochs=2).fit(make_images())
    assert kinds["training"] >= {torch.bfloat16}
    assert kinds["scoring"] == {torch.float32}


def test_auto_is_recorded_as_what_was_used(make_images: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X = make_images().astype(np.float32)
    at_speed(monkeypatch, 2.0)
    detector = VAEDetector(epochs=1).fit(X)
    assert detector.precision_ == "bfloat16"
    assert detector.get_params()["precision"] == "auto"
    detector.save(tmp_path / "m.vae")
    at_speed(monkeypatch, 0.5)  # another machine
    loaded = VAEDetector.load(tmp_path / "m.vae")
    np.testing.assert_array_equal(loaded.fit(X).score_samples(X), detector.score_samples(X))
    assert VAEDetector(epochs=1).fit(X).precision_ == "full"


def test_checkpoints_of_another_precision_are_refused(
    make_images: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_speed(monkeypatch, 2.0)
    fit_model(RowsInMemory(make_images()), VAEDetector(epochs=1, checkpoint_dir=tmp_path).get_params())
    at_speed(monkeypatch, 0.5)
    with pytest.raises(CheckpointError, match=r"differs in precision \('bfloat16' there, 'full' here\)"):
        VAEDetector(epochs=1, checkpoint_dir=tmp_path, resume=True).fit(make_images())


def denormals_count() -> bool:
    return bool(torch.tensor(1e-310, dtype=torch.float64) * 1 > 0)


def test_denormals_are_flushed_inside_and_only_there() -> None:
    assert denormals_count()
    with denormals_flushed():
        assert not denormals_count()
        with denormals_flushed():
            pass
        assert not denormals_count()
    assert denormals_count()
    with pytest.raises(KeyError), denormals_flushed():
        raise KeyError
    assert denormals_count()


def test_no_setting_outlives_a_fit(make_table: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def watch(self: Any) -> int:
        seen.append(denormals_count())
        return step(self)

    step = Run.step
    monkeypatch.setattr(Run, "step", watch)
    for parameters in ({}, {"checkpoint_dir": tmp_path}):  # with checkpoints the training has a thread of its own
        before = torch.get_num_threads(), torch.is_autocast_enabled("cpu"), denormals_count()
        VAEDetector(epochs=1, **parameters).fit(make_table().astype(np.float32))
        assert (torch.get_num_threads(), torch.is_autocast_enabled("cpu"), denormals_count()) == before
    assert seen
    assert not any(seen)
