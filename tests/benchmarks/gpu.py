"""How fast a GPU is used: a table, within some minutes.

    python tests/benchmarks/gpu.py                       # on a machine with a GPU
    python tests/benchmarks/gpu.py --device cpu --smoke  # a minute: that it still runs

"Graph" is what a fit does, a captured step that is replayed; "single" has each operation launched by itself.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from unittest import mock

import numpy as np
import torch
from clocks import clocks
from data import images, table
from speed import endless, run_of
from timing import environment

from vae_anomaly import VAEDetector
from vae_anomaly.fitting.captured_step import CapturedStep

BATCH = 256
ROUNDS = 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="[default: cuda]")
    parser.add_argument("--smoke", action="store_true", help="The smallest sizes.")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit(f"torch {torch.__version__} sees no GPU: run this on a machine with one")
    card = torch.cuda.get_device_name(options.device) if options.device.startswith("cuda") else "no GPU"
    said = "; ".join(f"{name}: {value}" for name, value in environment().items())
    print(f"{card}, CUDA {torch.version.cuda}; {said}\n")
    print("| what | graph | single | ratio |\n|---|---|---|---|", flush=True)
    for benchmark in (steps, fits_and_scores):
        for line in benchmark(options.device, smoke=options.smoke):
            print(line, flush=True)


def steps(device: str, *, smoke: bool) -> Iterator[str]:
    """A training step of images."""
    per_round = 5 if smoke else 50
    X = images(2 * BATCH * per_round * (ROUNDS + 1))
    for precision in ("full", "bfloat16"):
        medians = []
        for context in (graph, single):
            with context():
                run = run_of(X, device=device, architecture="mlp", precision=precision, batch_size=BATCH)
                step = endless(run)
                seconds = [seconds_of(partial(repeat, step, per_round), device) for _ in range(ROUNDS + 1)]
            medians.append(1e3 * float(np.median(seconds[1:])) / per_round)
        yield row(f"step of {BATCH} images of 28 x 28, {precision}, ms", *medians)


def fits_and_scores(device: str, *, smoke: bool) -> Iterator[str]:
    """Whole fits, and scoring from memory."""
    n_images, n_rows = (300, 300) if smoke else (14_900, 100_000)
    n_scored = (1_000, 1_000) if smoke else (400_000, 1_000_000)
    given = {"device": device} | ({"epochs": 2} if smoke else {})
    VAEDetector(**(given | {"epochs": 1})).fit(table(300, 8))  # libraries and the device set themselves up
    cases = (
        ("images of 28 x 28", images, n_images, n_scored[0], {"architecture": "mlp"}),
        ("rows of 64 features", lambda n: table(n, 64), n_rows, n_scored[1], {}),
    )
    for what, make, n_fitted, n, own in cases:
        X, times = make(n_fitted), []
        for context in (single, graph):
            detector = VAEDetector(**given, **own)
            with context():
                times.append(seconds_of(partial(detector.fit, X), device))
        yield row(f"fit of {n_fitted:,} {what}, {len(detector.history_)} epochs, s", *reversed(times))
        yield f"| {shares_of_a_fit(detector, X)} | | | |"
        X = make(n)
        rows = detector.model_.rows(X)
        detector.score_samples(X[: n // 100])
        for name in dict.fromkeys((detector.model_.score, "elbo")):
            seconds = seconds_of(partial(detector.model_.score_samples, rows, name), device)
            yield f"| score {n:,} {what} by {name}, rows a second | {n / seconds:,.0f} | | |"


def shares_of_a_fit(detector: VAEDetector, X: np.ndarray) -> str:
    """Where the time of one more fit goes, by the host's clock: a part that waits has what was computed before it."""
    with clocks() as spent:
        start = time.perf_counter()
        detector.fit(X)
        whole = time.perf_counter() - start
    listed = (f"{part} {seconds / whole:.1%}" for part, seconds in sorted(spent.items(), key=lambda item: -item[1]))
    return f"of it {sum(spent.values()) / whole:.1%} accounted for: {', '.join(listed)}"


@contextmanager
def graph() -> Iterator[None]:
    """Training as it is."""
    yield


@contextmanager
def single() -> Iterator[None]:
    """Training without captured steps."""
    with mock.patch.object(CapturedStep, "take", lambda self, compute, inputs, obstacle: compute(inputs)):
        yield


def seconds_of(function: Callable[[], object], device: str) -> float:
    """Wall time of a call, the device's work included."""
    wait = torch.cuda.synchronize if device.startswith("cuda") else int
    wait()
    start = time.perf_counter()
    function()
    wait()
    return time.perf_counter() - start


def repeat(step: Callable[[], None], n: int) -> None:
    """So many steps."""
    for _ in range(n):
        step()


def row(what: str, graph: float, single: float) -> str:
    """A row of the table."""
    return f"| {what} | {graph:.3g} | {single:.3g} | {graph / single:.2f} |"


if __name__ == "__main__":
    main()
