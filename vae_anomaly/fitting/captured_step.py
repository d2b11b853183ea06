"""A training step that a GPU takes from a recording of it: one launch in place of some two hundred.

On small networks a GPU computes for a tenth of the time in which Python and the driver tell it what to. A CUDA graph
holds all operations of a step, with the addresses of the memory that they read and write, and repeats them at once.
What differs from step to step, `StepInputs`, is therefore copied into memory that stays, on the device itself. All else
that a step reads or changes is state that keeps its place: rows, weights, moments, counters, the buffers of the
likelihood, the sums of the epoch. Random numbers go on, too: the graph counts on in the generator that is registered.

The first steps are taken one operation at a time, as libraries set themselves up in them and constants are sent. Then a
step is rehearsed and undone, to find out whether it can be captured: a graph can hold nothing that waits for the device
or comes from the host. A step that cannot be captured is taken as before, with a warning.

References
----------
CUDA Graphs, in PyTorch's notes on CUDA semantics: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vae_anomaly.errors import TrainingWarning

WARM_UP = 3  # steps before the capture, as PyTorch's notes have it

one_capture_at_a_time = threading.Lock()  # in a process, as PyTorch asks for

# kept for good: after a capture that failed PyTorch's allocator may still ask its graph which memory is its own
failed_graphs: list[torch.cuda.CUDAGraph] = []


class StepInputs(NamedTuple):
    """What a step takes that the one before did not, on the device.

    Attributes
    ----------
    places
        Of the batch's rows among all, ``(n,)`` int64.
    learning_rate
        ``()`` float32, whatever the precision: AdamW's kernel reads it so.
    variance_weight
        ``()``, of the batch in the running estimate of a variance, in the precision of the model.
    """

    places: Tensor
    learning_rate: Tensor
    variance_weight: Tensor


class Recorder(Protocol):
    """What records a function's work on a device and repeats it."""

    def aside(self, function: Callable[[], None]) -> None:
        """Call it where it will be recorded, without recording."""

    def capture(self, function: Callable[[], None]) -> None:
        """Record its work, none of which is done; RuntimeError if that cannot be."""

    def replay(self) -> None:
        """Do the work that was recorded."""


class CapturedStep:
    """Takes steps of one size: the first ones by themselves, all others from a recording.

    Parameters
    ----------
    recorder
        With nothing recorded.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.inputs: StepInputs | None = None  # those of the recording
        self.n_taken = 0
        self.refused = False

    def take(
        self,
        compute: Callable[[StepInputs], None],
        inputs: StepInputs,
        obstacle: Callable[[Callable[[], None]], str | None],
    ) -> None:
        """Take a step.

        Parameters
        ----------
        compute
            The step. It may leave nothing behind but what it changed in place, and is not kept.
        inputs
            Of this step.
        obstacle
            Finds out, by a step that is undone, what keeps steps from being captured; asked once.
        """
        if self.inputs is None:
            self.inputs = StepInputs(*(value.clone() for value in inputs))
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given)
        step = partial(compute, self.inputs)
        if self.n_taken == WARM_UP:
            self.rehearse(step, obstacle)
            if not self.refused:
                self.capture(step)
        if self.refused:
            step()
        elif self.n_taken < WARM_UP:
            self.recorder.aside(step)
        else:
            self.recorder.replay()
        self.n_taken += 1

    def rehearse(self, step: Callable[[], None], obstacle: Callable[[Callable[[], None]], str | None]) -> None:
        """Ask for an obstacle, where the step will be recorded."""
        found: list[str | None] = []
        self.recorder.aside(lambda: found.append(obstacle(step)))
        if found[0] is not None:
            self.refuse(found[0])

    def capture(self, step: Callable[[], None]) -> None:
        """Record the step, or give up."""
        try:
            self.recorder.capture(step)
        except RuntimeError as error:
            cause = error.__context__ or error  # the end of a capture fails too, and says less
            self.refuse(str(cause).partition("\n")[0])

    def refuse(self, why: str) -> None:
        """Take all further steps by themselves, and say so."""
        self.refused = True
        warnings.warn(
            f"the training step is not captured as a CUDA graph, since {why}: training goes on at the speed of single "
            "operations",
            TrainingWarning,
            stacklevel=2,
        )


class GraphRecorder:
    """`Recorder` of CUDA graphs.

    Parameters
    ----------
    device
        A GPU.
    generator
        The source of all random numbers of what is recorded.
    """

    def __init__(self, device: torch.device, generator: torch.Generator) -> None:
        self.device, self.generator = device, generator
        # one for all: handles and workspaces of libraries belong to a stream
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # of PyTorch's
        self.graph: torch.cuda.CUDAGraph | None = None

    def aside(self, function: Callable[[], None]) -> None:
        # on the default stream autograd would leave nodes that belong to it, which a capture may not touch
        before = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(before)
        with torch.cuda.stream(self.stream):
            function()
        before.wait_stream(self.stream)

    def capture(self, function: Callable[[], None]) -> None:
        with one_capture_at_a_time, torch.cuda.device(self.device):
            graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
            graph.register_generator_state(self.generator)
            try:
                # nothing is forbidden to other threads of the program meanwhile
                with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                    function()
            except RuntimeError:
                self.clean_up(graph, before)
                raise
        self.graph = graph

    def clean_up(self, graph: torch.cuda.CUDAGraph, before: torch.cuda.Stream) -> None:
        """Undo what a capture that failed leaves in the process; its stream had been ``before``."""
        torch.cuda.set_stream(before)  # where a capture cannot even be ended, its context leaves another one
        with contextlib.suppress(RuntimeError):
            torch.cuda.synchronize()  # the driver may report the error once more, here and not in the next step
        # generators were not told of the end either, without which some versions draw no more numbers
        for generator in (self.generator, torch.cuda.default_generators[torch.cuda.current_device()]):
            generator.graphsafe_set_state(generator.clone_state())
        graph.reset()
        failed_graphs.append(graph)

    def replay(self) -> None:
        assert self.graph is not None, "captured before"
        self.graph.replay()


class HostTraffic(TorchDispatchMode):  # type: ignore[no-untyped-call]  # of PyTorch's
    """In a ``with`` block, notes the first operation that waits for the device or takes what is on the host.

    Numbers of Python in an operation are part of its launch, and no traffic.

    Attributes
    ----------
    found
        What it does, in a few words; None: nothing was seen.
    """

    found: str | None = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else PyTorch's compiler is imported, which takes seconds

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.found is None and (what := traffic(func, (args, kwargs), result)):
            self.found = f"{func} {what}"
        return result


def traffic(func: Any, given: Any, result: Any) -> str | None:
    """How an operation makes host and device wait for each other; None: not at all."""
    tensors = [value for value in tree_leaves(given) if isinstance(value, Tensor)]
    results = [value for value in tree_leaves(result) if isinstance(value, Tensor)]
    if torch.Tag.data_dependent_output in func.tags:
        return "asks the device for a number"
    if torch.Tag.dynamic_output_shape in func.tags:
        # an index by integers has the same tag, and a shape that is known
        by_integers = func.overloadpacket in (torch.ops.aten.index, torch.ops.aten.index_put)
        if not by_integers or any(value.dtype in (torch.bool, torch.uint8) for value in tensors[1:]):
            return "asks the device for a shape"
    if func is torch.ops.aten.lift_fresh.default:
        return "makes a tensor of numbers on the host"
    copies = func.overloadpacket in (torch.ops.aten.copy_, torch.ops.aten._to_copy)
    devices = {value.device for value in tensors if copies or value.ndim} | {value.device for value in results}
    return "copies between host and device" if len(devices) > 1 else None
