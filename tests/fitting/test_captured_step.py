"""A training step that is repeated from a recording: the bits of single steps, and no step that cannot be recorded.

A graph of a GPU repeats operations on the memory that they had when they were captured, and none of Python's work.
`Operations` does the same on a CPU, so that whatever a recording would freeze shows here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import vae_anomaly.fitting.captured_step
import vae_anomaly.fitting.fit
import vae_anomaly.fitting.run
from helpers import images, python, table
from vae_anomaly import VAEDetector
from vae_anomaly.errors import TrainingWarning
from vae_anomaly.fitting.batches import Resident
from vae_anomaly.fitting.captured_step import WARM_UP, CapturedStep, GraphRecorder, HostTraffic, StepInputs, traffic
from vae_anomaly.fitting.run import Run
from vae_anomaly.fitting.training import train
from vae_anomaly.history import EpochRecord
from vae_anomaly.model.constants import constant
from vae_anomaly.model.likelihoods.gaussian import Gaussian

State = tuple[dict[str, torch.Tensor], list[EpochRecord]]


def mixed_table(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    numbers, gaps = rng.normal(size=(2, n))
    days = pd.date_range("2024-01-01", periods=n, freq="h")
    return pd.DataFrame(
        {"number": numbers, "gaps": np.where(gaps > 1, np.nan, gaps), "kind": rng.choice(list("abc"), n), "day": days}
    )


def large_images(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(n, 32, 32)).astype(np.uint8)


def framed_images(n: int) -> np.ndarray:
    return np.pad(images(n), ((0, 0), (2, 2), (2, 2)))


KINDS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "float64": (lambda: table(300), {}),
    "float32": (lambda: table(300).astype(np.float32), {"input_noise": 0.1}),
    "images": (lambda: images(300), {"architecture": "mlp"}),
    "bfloat16": (lambda: images(300), {"architecture": "mlp", "precision": "bfloat16"}),
    "frame": (lambda: framed_images(300), {"architecture": "mlp"}),
    "conv": (lambda: images(300), {"architecture": "conv"}),
    "columns": (lambda: mixed_table(300), {}),
    "patches": (lambda: large_images(20), {"architecture": "patches", "batch_size": 1_000}),
    "article": (lambda: images(300), {"architecture": "article"}),
    "bernoulli": (lambda: images(300) / 255, {"architecture": "mlp", "likelihood": "bernoulli"}),
    "grey levels": (lambda: images(300) / 255, {"architecture": "mlp", "likelihood": "continuous_bernoulli"}),
}


class Operations(TorchDispatchMode):
    """Records a function's operations with the very tensors they had, and does them again: a `Recorder` on a CPU."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator
        self.operations: list[tuple[Any, Any, Any, list[torch.Tensor]]] = []
        self.before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}
        self.made: set[int] = set()
        self.n_replays = 0

    def aside(self, function: Callable[[], None]) -> None:
        function()

    def capture(self, function: Callable[[], None]) -> None:
        state = self.generator.get_state()
        with self:
            function()
        for memory, before in self.before.values():  # nothing that was there may have changed
            memory.copy_(before)
        self.generator.set_state(state)

    @torch.no_grad()
    def replay(self) -> None:
        self.n_replays += 1
        for func, args, kwargs, results in self.operations:
            again = tensors(func(*args, **kwargs))
            for result, value in zip(results, again, strict=True):
                if result.data_ptr() != value.data_ptr():
                    result.copy_(value)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {memory.data_ptr(): memory for memory in (value.untyped_storage() for value in tensors((args, kwargs)))}
        for place, memory in given.items():
            if place not in self.made:
                self.before.setdefault(place, (memory, memory.clone()))
        result = func(*args, **(kwargs or {}))
        self.made |= {value.untyped_storage().data_ptr() for value in tensors(result)} - given.keys()
        self.operations.append((func, args, kwargs or {}, tensors(result)))
        return result


class Failing(Operations):
    def capture(self, function: Callable[[], None]) -> None:
        try:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nCompile with TORCH_USE")
        except RuntimeError:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture") from None


def tensors(values: Any) -> list[torch.Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Operations]]:
    """Training as on a GPU, and what recorded it."""
    made: list[Operations] = []

    def recorder(device: torch.device, generator: torch.Generator) -> Operations:
        made.append(Operations(generator))
        return made[-1]

    monkeypatch.setattr(vae_anomaly.fitting.run, "shuffled", Resident)
    monkeypatch.setattr(vae_anomaly.fitting.run, "is_gpu", lambda device: True)
    monkeypatch.setattr(vae_anomaly.fitting.run, "GraphRecorder", recorder)
    return made


def arguments_of(kind: str, **parameters: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a fit gives to its training."""
    given: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def stop(*args: Any, **kwargs: Any) -> None:
        given.append((args, kwargs))
        raise KeyboardInterrupt

    make, own = KINDS[kind]
    detector = VAEDetector(**({"epochs": 4, "batch_size": 64, "precision": "full"} | own | parameters))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vae_anomaly.fitting.fit, "train", stop)
        with pytest.raises(KeyboardInterrupt):
            detector.fit(make())
    return given[0]


def trained(kind: str, change: Callable[[Any], None] | None = None, **parameters: Any) -> State:
    """A model's state after its training, and the history."""
    args, kwargs = arguments_of(kind, **parameters)
    if change is not None:
        change(args[0])
    history = train(*args, **kwargs)
    return args[0].state_dict(), history


def run_of(kind: str, **parameters: Any) -> Run:
    (vae, X, _, recipe, _, generator), _ = arguments_of(kind, **parameters)
    return Run(vae, X, recipe, generator)


@contextmanager
def one_by_one() -> Iterator[None]:
    """Steps are never recorded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CapturedStep, "take", lambda self, compute, inputs, obstacle: compute(inputs))
        yield


def assert_same(ours: State, theirs: State) -> None:
    assert ours[1] == theirs[1]
    assert all(torch.equal(value, theirs[0][name]) for name, value in ours[0].items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_recording_gives_the_bits_of_single_steps(recorders: list[Operations], kind: str) -> None:
    constant.cache_clear()  # as in a process that never saw such a model
    recorded = trained(kind)
    assert recorders[-1].n_replays > 0
    with one_by_one():
        assert_same(recorded, trained(kind))
    assert recorders[-1].n_replays == 0


@pytest.mark.parametrize("kind", ["float64", "bfloat16"])
def test_scalars_on_the_device_give_the_bits_of_python_numbers(
    monkeypatch: pytest.MonkeyPatch, recorders: list[Operations], kind: str
) -> None:
    # with rates that float32 holds exactly, since a GPU gets them so
    monkeypatch.setattr(vae_anomaly.fitting.run, "trapezoid", lambda step, total: (1 + step % 3) / 4)
    on_device = trained(kind, learning_rate=2**-9)
    monkeypatch.undo()
    monkeypatch.setattr(vae_anomaly.fitting.run, "trapezoid", lambda step, total: (1 + step % 3) / 4)
    assert_same(on_device, trained(kind, learning_rate=2**-9))
    assert recorders[-1].n_replays > 0


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the library may catch it."""


@contextmanager
def killed_after(steps: int) -> Iterator[None]:
    """In a ``with`` block, a training dies once it has taken so many steps."""
    step = Run.step

    def dying(run: Run) -> int:
        if run.position.taken == steps:
            raise Killed
        return step(run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "step", dying)
        yield


@pytest.mark.parametrize("steps", [1, WARM_UP, WARM_UP + 1, 11])
def test_a_resumed_training_has_the_same_bits(recorders: list[Operations], tmp_path: Path, steps: int) -> None:
    expected = trained("float32")
    kept = {"checkpoint_dir": tmp_path, "checkpoint_interval": 0}
    with killed_after(steps), pytest.raises(Killed):
        trained("float32", **kept)
    assert_same(trained("float32", **kept, resume=True), expected)


def test_a_run_goes_on_from_any_state_after_its_step_was_recorded(recorders: list[Operations]) -> None:
    run = run_of("float32", batch_size=20)
    for _ in range(WARM_UP):
        run.step()
    taken = run.position.taken
    state = {name: value.clone() for name, value in run.tensors().items()}
    for _ in range(run.steps - taken):
        run.step()
    assert recorders[-1].n_replays > 0
    expected = {name: value.clone() for name, value in run.tensors().items()}
    for _ in range(2):
        run.restore(state, [], taken)
        for _ in range(run.steps - taken):
            run.step()
        assert all(torch.equal(value, expected[name]) for name, value in run.tensors().items())


def test_batches_smaller_than_the_others_are_single_steps(recorders: list[Operations]) -> None:
    run = run_of("float32", batch_size=1_000)
    assert run.steps == 1
    assert run.step() < 1_000
    assert run.captured is not None
    assert run.captured.n_taken == 0


class Asking(Gaussian):
    """Asks the device for a number."""

    def learn(self, x: torch.Tensor, decoded: torch.Tensor, weight: Any) -> torch.Tensor:
        return super().learn(x, decoded, float(weight))


class Sending(Gaussian):
    """Sends a number to the device."""

    def learn(self, x: torch.Tensor, decoded: torch.Tensor, weight: Any) -> torch.Tensor:
        return super().learn(x, decoded * torch.tensor([1.0], device=x.device), weight)


class Choosing(Gaussian):
    """Takes as many rows as the device says."""

    def learn(self, x: torch.Tensor, decoded: torch.Tensor, weight: Any) -> torch.Tensor:
        there = x[:, 0] < torch.inf
        return super().learn(x[there], decoded[there], weight)


class Replacing(Gaussian):
    """Puts another tensor in the place of its buffer, which a recording would never read."""

    def learn(self, x: torch.Tensor, decoded: torch.Tensor, weight: Any) -> torch.Tensor:
        self.variance = self.variance.clone()
        return super().learn(x, decoded, weight)


@pytest.mark.parametrize(
    ("likelihood", "why"),
    [
        (Asking, "aten._local_scalar_dense.default asks the device for a number"),
        (Sending, "aten.lift_fresh.default makes a tensor of numbers on the host"),
        (Choosing, "aten.index.Tensor asks the device for a shape"),
        (Replacing, "it puts new tensors in the place of buffers"),
    ],
)
def test_a_step_that_cannot_be_recorded_is_never_recorded(
    recorders: list[Operations], likelihood: type[Gaussian], why: str
) -> None:
    def change(vae: Any) -> None:
        vae.likelihood = likelihood()

    with one_by_one():
        expected = trained("float32", change)
    with pytest.warns(TrainingWarning, match=f"not captured as a CUDA graph, since {why}: training goes on") as said:
        assert_same(trained("float32", change), expected)
    assert len(said) == 1
    assert recorders[-1].operations == []


def test_a_capture_that_fails_leaves_a_training_of_single_steps(
    recorders: list[Operations], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = trained("float32")
    monkeypatch.setattr(vae_anomaly.fitting.run, "GraphRecorder", lambda device, generator: Failing(generator))
    with pytest.warns(TrainingWarning, match="since CUDA error: .* when stream is capturing: tr") as said:
        assert_same(trained("float32"), expected)
    assert len(said) == 1


def test_gradients_of_a_step_that_fails_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of("float32")
    monkeypatch.setattr(run.optimizer, "step", lambda learning_rate: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError):
        run.step()
    assert all(p.grad is None for p in run.vae.parameters())


class Counted(TorchDispatchMode):
    """Counts operations that compute something, and are no views."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given, made = ({value.untyped_storage().data_ptr() for value in tensors(values)} for values in (args, result))
        self.n += func._schema.is_mutable or not made <= given
        return result


@pytest.mark.parametrize("kind", KINDS)
def test_within_an_epoch_nothing_passes_between_host_and_device(recorders: list[Operations], kind: str) -> None:
    with one_by_one():
        run = run_of(kind)
        run.step()
        with HostTraffic() as traffic:
            run.step()
    assert traffic.found is None


@pytest.mark.parametrize(("kind", "most"), [("float32", 130), ("images", 130), ("bfloat16", 170), ("columns", 260)])
def test_a_step_has_few_operations(recorders: list[Operations], kind: str, most: int) -> None:
    with one_by_one():
        run = run_of(kind)
        run.step()
        with Counted() as counted:
            run.step()
    assert most / 2 < counted.n <= most, counted.n


def test_what_goes_to_another_device_is_traffic() -> None:
    here, there = torch.zeros(3), torch.zeros(3, device="meta")
    add, copy, to = torch.ops.aten.add.Tensor, torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default
    between = "copies between host and device"
    assert traffic(copy, ((there, here), {}), there) == between
    assert traffic(copy, ((there, here[0]), {}), there) == between
    assert traffic(to, ((there,), {"device": "cpu"}), here) == between
    assert traffic(torch.ops.aten.index.Tensor, ((there, [here.long()]), {}), there) == between
    assert traffic(add, ((there, here[0]), {}), there) is None  # a number of Python's
    assert traffic(add, ((there, there), {}), there) is None
    assert traffic(torch.ops.aten.nonzero.default, ((there,), {}), there) == "asks the device for a shape"


def test_the_watch_over_a_step_imports_no_compiler() -> None:
    code = """
import sys, torch
from vae_anomaly.fitting.captured_step import HostTraffic
with HostTraffic() as traffic:
    (torch.ones(3, requires_grad=True) * 2).sum().backward()
print(traffic.found, "torch._dynamo" in sys.modules)
"""
    assert python(code).split() == ["None", "False"]


class Driver:
    """Stands for what `GraphRecorder` uses of PyTorch's CUDA, and keeps the order of the calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, fails: bool) -> None:
        self.calls: list[str] = []
        self.current, self.fails = Mock(name="default"), fails
        self.side = Mock(wait_stream=lambda other: self.calls.append("the side waits"))
        self.current.wait_stream = lambda other: self.calls.append("the default waits")
        self.default = self.current
        self.generators = [Mock(clone_state=lambda name=name: f"copy of {name}") for name in ("own", "global")]
        graph = Mock(replay=lambda: self.calls.append("replay"), reset=lambda: self.calls.append("reset"))
        graph.register_generator_state = lambda generator: self.calls.append("register")
        stands_in = {
            "Stream": lambda device: self.side,
            "current_stream": lambda device=None: self.current,
            "stream": self.on,
            "set_stream": lambda stream: setattr(self, "current", stream),
            "synchronize": Mock(side_effect=RuntimeError("once more")),
            "device": lambda device: nullcontext(),
            "current_device": lambda: 0,
            "default_generators": (self.generators[1],),
            "CUDAGraph": lambda: graph,
            "graph": self.capturing,
        }
        for name, value in stands_in.items():
            monkeypatch.setattr(torch.cuda, name, value)
        self.recorder = GraphRecorder(torch.device("cuda:0"), self.generators[0])

    @contextmanager
    def on(self, stream: Any) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before

    @contextmanager
    def capturing(self, graph: Any, *, stream: Any, capture_error_mode: str) -> Iterator[None]:
        self.current = stream
        self.calls.append(f"capture, {capture_error_mode}")
        yield
        if self.fails:  # and leaves the stream, as PyTorch does
            raise RuntimeError("the capture cannot be ended")
        self.current = self.default

    def work(self) -> None:
        self.calls.append("on the side" if self.current is self.side else "on the default")


def test_a_graph_is_captured_aside_and_replayed_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(monkeypatch, fails=False)
    driver.recorder.aside(driver.work)
    driver.recorder.capture(driver.work)
    driver.recorder.replay()
    aside = ["the side waits", "on the side", "the default waits"]
    assert driver.calls == [*aside, "register", "capture, thread_local", "on the side", "replay"]
    assert driver.current is driver.default
    assert not driver.generators[0].graphsafe_set_state.called


def test_a_capture_that_fails_gives_back_stream_and_generators(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    monkeypatch.setattr(vae_anomaly.fitting.captured_step, "failed_graphs", kept)
    driver = Driver(monkeypatch, fails=True)
    with pytest.raises(RuntimeError, match="cannot be ended"):
        driver.recorder.capture(driver.work)
    assert driver.current is driver.default
    assert driver.calls[-1] == "reset"
    assert len(kept) == 1
    for generator, name in zip(driver.generators, ("own", "global"), strict=True):
        generator.graphsafe_set_state.assert_called_once_with(f"copy of {name}")


# on a GPU


@pytest.fixture
def cuda(gpu: str) -> str:
    """The name of a GPU that has graphs."""
    if not gpu.startswith("cuda"):
        pytest.skip("needs CUDA")
    return gpu


def on_gpu(kind: str, gpu: str, **parameters: Any) -> State:
    state, history = trained(kind, device=gpu, epochs=6, **parameters)
    return {name: value.cpu() for name, value in state.items()}, history


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[GraphRecorder]:
    """The recorder of each step that is replayed on a GPU."""
    done, replay = [], GraphRecorder.replay

    def counted(recorder: GraphRecorder) -> None:
        replay(recorder)
        done.append(recorder)

    monkeypatch.setattr(GraphRecorder, "replay", counted)
    return done


def losses(history: list[EpochRecord]) -> np.ndarray:
    terms = ("reconstruction", "kl", "validation_reconstruction", "validation_kl")
    return np.array([[record[term] for term in terms] for record in history])  # type: ignore[literal-required]


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_trains_as_single_steps_do(cuda: str, replays: list[GraphRecorder], kind: str) -> None:
    with one_by_one():
        _, expected = on_gpu(kind, cuda)
    assert not replays
    _, history = on_gpu(kind, cuda)
    assert len(replays) > 5
    tolerance = 1e-6 if kind == "float64" else 1e-2 if kind in ("bfloat16", "conv") else 1e-3
    difference = np.abs(losses(history) - losses(expected)).max(axis=0)
    assert (difference <= tolerance * np.abs(losses(expected)).max(axis=0)).all(), difference


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["float64", "float32", "images", "bfloat16", "article"])
def test_a_graph_gives_the_same_bits_again(cuda: str, replays: list[GraphRecorder], kind: str) -> None:
    assert_same(on_gpu(kind, cuda), on_gpu(kind, cuda))
    assert len(replays) > 10


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
@pytest.mark.parametrize("steps", [2, 10])
def test_a_training_on_a_gpu_resumes_to_the_same_bits(cuda: str, tmp_path: Path, kind: str, steps: int) -> None:
    expected = on_gpu(kind, cuda)
    kept = {"checkpoint_dir": tmp_path, "checkpoint_interval": 0}
    with killed_after(steps), pytest.raises(Killed):
        on_gpu(kind, cuda, **kept)
    assert_same(on_gpu(kind, cuda, **kept, resume=True), expected)


@pytest.mark.gpu
def test_a_capture_that_fails_on_a_gpu_leaves_all_as_it_was(cuda: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with one_by_one():
        expected = on_gpu("float32", cuda)
    descend = Run.descend_resident

    def asking(run: Run, inputs: StepInputs) -> None:
        descend(run, inputs)
        if torch.cuda.is_current_stream_capturing():
            run.position.totals.tolist()  # the driver forbids it

    monkeypatch.setattr(Run, "descend_resident", asking)
    numbers, stream = torch.cuda.get_rng_state(), torch.cuda.current_stream()
    with pytest.warns(TrainingWarning, match="not captured as a CUDA graph, since"):
        assert_same(on_gpu("float32", cuda), expected)
    assert torch.equal(torch.cuda.get_rng_state(), numbers)
    assert torch.cuda.current_stream() == stream
    assert torch.isfinite(torch.randn(3, device=cuda)).all()
