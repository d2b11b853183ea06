"""Times of functions that take turns, as ratios within one run."""

from __future__ import annotations

import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

Timed = Callable[[], object]


@dataclass
class Record:
    """One figure: a ratio within one run, or a time where there is nothing to compare it with.

    Parameters
    ----------
    what
        The benchmark and its case.
    value, low, high
        Median and quartiles over the rounds.
    unit
        Of all three: "x" for ratios.
    target
        The highest (with ``at_least`` the lowest) value that was aimed for, if there is one.
    details
        Whatever else was measured, such as medians in seconds.
    """

    what: str
    value: float
    low: float
    high: float
    unit: str = "x"
    target: float | None = None
    at_least: bool = False
    details: dict[str, Any] = field(default_factory=dict)


def rounds(functions: dict[str, Timed], n: int, *, warm: int = 2) -> dict[str, np.ndarray]:
    """Seconds of each function in each of ``n`` rounds, all taking turns in every round."""
    for _ in range(warm):
        for function in functions.values():
            function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    gc.collect()
    gc.disable()
    try:
        for _ in range(n):
            for name, function in functions.items():
                start = time.perf_counter()
                function()
                times[name].append(time.perf_counter() - start)
    finally:
        gc.enable()
    return {name: np.array(seconds) for name, seconds in times.items()}


def compared(what: str, times: dict[str, np.ndarray], a: str, b: str, **fields: Any) -> Record:
    """The ratio of ``a`` to ``b``, round by round."""
    low, median, high = np.quantile(times[a] / times[b], [0.25, 0.5, 0.75])
    details = {f"{name}, ms": round(1e3 * float(np.median(times[name])), 3) for name in (a, b)}
    return Record(what, float(median), float(low), float(high), details=details | fields.pop("details", {}), **fields)


def summarised(what: str, values: list[float], unit: str, **fields: Any) -> Record:
    """Median and quartiles of values."""
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return Record(what, float(median), float(low), float(high), unit, **fields)


@contextmanager
def threads(n: int) -> Iterator[None]:
    """PyTorch with ``n`` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_a_process(code: str, **given: Any) -> dict[str, Any]:
    """What ``code`` leaves in ``result``, with wall and CPU seconds and peak memory of a process of its own, on Linux.

    ``given`` are the names that it starts with; ``mark()`` in the code sets memory and both clocks to zero.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        words = [sys.executable, "-P", "-c", CHILD, json.dumps(given), code, str(path)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        measured: dict[str, Any] = json.loads(path.read_text())
        return measured


# of its own peak: what getrusage reports began with that of the process that started this one
CHILD = """
import json, sys, time
given, code, path = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
def mark():
    with open("/proc/self/clear_refs", "w") as peaks:
        peaks.write("5")
    names["_start"] = time.perf_counter(), time.process_time(), peak()
names = dict(given, mark=mark)
mark()
exec(code, names)
ends = time.perf_counter(), time.process_time(), peak()
wall, cpu, memory = (end - start for end, start in zip(ends, names["_start"]))
json.dump({"wall": wall, "cpu": cpu, "memory": memory, "result": names.get("result")}, open(path, "w"))
"""


def environment() -> dict[str, Any]:
    """What the figures were taken with."""
    flags = ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = next((line for line in lines if line.startswith("flags")), "")
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "avx512_fp16")
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "CPU flags": [flag for flag in wanted if flag in flags.split()],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "load before": [round(load, 2) for load in os.getloadavg()],
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY"),
        "memory, GiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
    } | {name: version_of(name) for name in ("vae-anomaly", "torch", "numpy", "scikit-learn", "pyod")}


def version_of(package: str) -> str | None:
    """Its version, if it is installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
