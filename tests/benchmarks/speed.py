"""The benchmarks: each gives records, and is made small by ``smoke``."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch
from clocks import clocks
from data import images, mnist, table
from products import products_of
from timing import Record, compared, in_a_process, rounds, summarised

import vae_anomaly.detector
import vae_anomaly.fitting.fit
import vae_anomaly.fitting.run
import vae_anomaly.fitting.training
from vae_anomaly import VAEDetector
from vae_anomaly.fitting.precision import bfloat16_speed_up
from vae_anomaly.fitting.run import Run
from vae_anomaly.scoring import BLOCK_ROWS
from vae_anomaly.storage.rows import Rows

Benchmark = Callable[[bool], Iterator[Record]]

SHORT = {
    "epochs": 3,
    "batch_size": 128,
    "learning_rate": 0.004,
}  # enough for 0.98 on a split of MNIST's training images


class Started(Exception):
    """Raised to stop a fit where its training begins."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run


def run_of(X: np.ndarray, **parameters: Any) -> Run:
    """The training that a detector would begin on these samples."""

    def stop(vae: Any, rows: Rows, X_validation: Any, recipe: Any, noise: Any, generator: Any, **_: Any) -> None:
        raise Started(Run(vae, rows, recipe, generator))

    try:
        with mock.patch.object(vae_anomaly.fitting.fit, "train", stop):
            VAEDetector(**parameters).fit(X)
    except Started as started:
        return started.run
    raise AssertionError("fit did not train")


def endless(run: Run) -> Callable[[], None]:
    """Step after step, with epochs of no validation between them."""

    def step() -> None:
        if run.steps_into_epoch >= run.steps:
            run.history.append({})  # type: ignore[typeddict-item]
        run.step()

    return step


def steps(smoke: bool) -> Iterator[Record]:
    """1. A training step against its own forward and backward products in float32."""
    targets = {("mlp", "full", 128): 1.35, ("mlp", "bfloat16", 128): 1.0, ("conv", "full", 128): 1.3}
    for architecture in ("mlp", "conv"):
        for batch in (64,) if smoke else (64, 128, 256, 512, 4096):
            X = images(2 * batch)
            functions: dict[str, Callable[[], object]] = {}
            for precision in ("full", "bfloat16"):
                given = {"architecture": architecture, "precision": precision, "batch_size": batch}
                step = endless(run_of(X, validation_fraction=0.01, calibration_fraction=0.01, **given))
                functions |= {f"{precision} products": products_of(step), f"{precision} step": step}
            times = rounds(functions, 3 if smoke else min(40, 20_000 // batch))
            for precision in ("full", "bfloat16"):
                what = f"{architecture} step, batch {batch}, {precision}"
                target = targets.get((architecture, precision, batch))
                against = f"{precision} products"
                own = float(np.median(times[f"{precision} step"] / times[against]))
                details: dict[str, Any] = {"against its own products": round(own, 2)}
                if batch == 128:
                    details |= shares_of(functions[f"{precision} step"], 3 if smoke else 40)
                yield compared(what, times, f"{precision} step", "full products", target=target, details=details)


def shares_of(step: Callable[[], object], n: int) -> dict[str, str]:
    """Where the time of so many steps goes."""
    with clocks() as spent:
        start = time.perf_counter()
        for _ in range(n):
            step()
        whole = time.perf_counter() - start
    return listed(spent, whole) | {"rest": f"{1 - sum(spent.values()) / whole:.1%}"}


def listed(spent: dict[str, float], whole: float) -> dict[str, str]:
    """Shares of the whole, largest first."""
    return {part: f"{seconds / whole:.1%}" for part, seconds in sorted(spent.items(), key=lambda item: -item[1])}


FIT = """
import numpy as np, warnings
warnings.simplefilter("ignore")
data = np.load(path)
X, X_test, y = data["X"], data["X_test"], data["y"]
from sklearn.metrics import roc_auc_score
import torch
if kind == "ours":
    from vae_anomaly import VAEDetector as Kind
else:
    from pyod.models.vae import VAE as Kind
    X, X_test = X.reshape(len(X), -1) / np.float32(255), X_test.reshape(len(X_test), -1) / np.float32(255)
    import pyod.models.base_dl, contextlib, io
mark()
detector = Kind(**parameters)
if kind == "ours":
    detector.fit(X)
else:
    with contextlib.redirect_stdout(io.StringIO()):
        detector.fit(X)
import time
fitted = time.perf_counter() - _start[0]
sign = -1 if kind == "ours" else 1
scores = sign * (detector.score_samples(X_test) if kind == "ours" else detector.decision_function(X_test))
result = {"fit": fitted, "auc": float(roc_auc_score(y, np.nan_to_num(scores, posinf=1e300)))}
"""


def fits(smoke: bool) -> Iterator[Record]:
    """2. A whole fit against PyOD's VAE: with the same layers, batch and epochs, with the defaults, and a short one."""
    held = mnist(("8",))
    if held is None:
        X, X_test = images(2_000), images(500)
        held = X, X_test, np.arange(len(X_test)) % 2
    if smoke:
        held = held[0][:300], held[1][:200], held[2][:200]
    epochs = 1 if smoke else 30
    layers = {
        "encoder_neuron_list": [512, 256],
        "decoder_neuron_list": [256, 512],
        "latent_dim": 16,
        "dropout_rate": 0.0,
    }
    pyod = {"verbose": 0, "epoch_num": epochs, "preprocessing": False}
    plain = {"likelihood": "gaussian", "prior": "normal", "input_noise": 0.0, "epochs": epochs, "patience": epochs}
    runs: dict[str, tuple[str, dict[str, Any]]] = {
        "ours, same layers": ("ours", plain | {"batch_size": 128}),
        "ours, same layers, full precision": ("ours", plain | {"batch_size": 128, "precision": "full"}),
        "PyOD, same layers": ("pyod", pyod | layers | {"batch_size": 128}),
        "ours, defaults": ("ours", {"epochs": 1} if smoke else {}),
        "ours, short": ("ours", SHORT),
        "PyOD, defaults": ("pyod", pyod | {"preprocessing": True}),
    }
    if not has_pyod():
        runs = {name: run for name, run in runs.items() if run[0] == "ours"}
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in runs}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.npz"
        np.savez(path, X=held[0], X_test=held[1], y=held[2])
        for _ in range(1 if smoke else 3):
            for name, (kind, parameters) in runs.items():
                results[name].append(in_a_process(FIT, path=str(path), kind=kind, parameters=parameters))
    for name, measured in results.items():
        details = {
            "ROC-AUC": [round(m["result"]["auc"], 4) for m in measured],
            "CPU, s": round(float(np.median([m["cpu"] for m in measured])), 1),
            "memory, MiB": round(float(np.median([m["memory"] for m in measured]))),
        }
        yield summarised(f"fit, {name}", [m["result"]["fit"] for m in measured], "s", details=details)
    for case, other, target in (
        ("same layers", "PyOD, same layers", 1.5),
        ("same layers, full precision", "PyOD, same layers", None),
        ("defaults", "PyOD, defaults", 2.5),
        ("short", "PyOD, defaults", 4.0),  # to a better ROC-AUC, which the records of both show
    ):
        if other in results:
            ratios = [
                b["result"]["fit"] / a["result"]["fit"]
                for a, b in zip(results[f"ours, {case}"], results[other], strict=True)
            ]
            yield summarised(
                f"fit, times as fast as PyOD's VAE, {case} against {other.partition(', ')[2]}",
                ratios,
                "x",
                target=target,
                at_least=True,
            )


def has_pyod() -> bool:
    """Whether PyOD is installed."""
    try:
        import pyod  # noqa: F401
    except ImportError:
        return False
    return True


def to_quality(smoke: bool) -> Iterator[Record]:
    """2. From the shell to a ROC-AUC of 0.98 on MNIST's digits 0, 1, 2, imports and evaluation included."""
    if mnist(("0",)) is None:
        return
    brief = [word for name, value in SHORT.items() for word in ("--" + name.replace("_", "-"), str(value))]
    for what, more in (("a short fit", brief), ("the default fit", [])):
        if smoke and not more:
            continue
        words = ["fit", "--normal", "0,1,2", *more, "--no-report"]
        seconds, aucs = [], []
        for _ in range(1 if smoke else 3):
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                out = shell([*words, "--output", f"{folder}/m.vae"])
                seconds.append(time.perf_counter() - start)
                aucs.append(float(out.split("ROC-AUC ")[1].split()[0]))
        details = {"ROC-AUC": sorted(set(aucs)), "command": "vae-anomaly " + " ".join(words)}
        yield summarised(f"shell to the ROC-AUC of 0, 1, 2 by {what}", seconds, "s", target=15.0, details=details)


def shell(words: list[str]) -> str:
    """Standard output of the command."""
    import subprocess

    command = [str(Path(sys.executable).with_name("vae-anomaly")), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def fitted(X: np.ndarray | pd.DataFrame, **parameters: Any) -> VAEDetector:
    """A detector after one epoch."""
    return VAEDetector(epochs=1, **parameters).fit(X)


def scoring(smoke: bool) -> Iterator[Record]:
    """3. Scoring against the products of its own forward passes, and against PyOD's ``decision_function``."""
    cases = [
        ("10,000 images", images(512 if smoke else 10_000), 1.35),
        ("1,000,000 images", images(1024 if smoke else 1_000_000), 1.35),
        ("4,000,000 x 64 table", table(1024 if smoke else 4_000_000, 64), 1.8),
    ]
    for name, X, target in cases:
        if smoke and len(X) > 1000 and X.ndim > 2:
            continue
        detector = fitted(X[:4000])
        products = products_of(lambda: detector.score_samples(X[:BLOCK_ROWS]))  # noqa: B023 - used at once
        n_blocks = -(-len(X) // BLOCK_ROWS)
        functions: dict[str, Callable[[], object]] = {
            "scoring": lambda: detector.score_samples(X),  # noqa: B023
            "products": lambda: [products() for _ in range(n_blocks)],  # noqa: B023
        }
        if has_pyod() and len(X) <= 10_000:
            functions["PyOD"] = pyod_scoring(X)
        times = rounds(functions, 1 if smoke or len(X) > 100_000 else 15, warm=0 if len(X) > 100_000 else 1)
        rate = {"rows a second": round(len(X) / float(np.median(times["scoring"])))}
        what = f"scoring {name}, against its products"
        yield compared(what, times, "scoring", "products", target=target, details=rate)
        if "PyOD" in times:
            yield compared(f"scoring {name}, times as fast as PyOD's VAE", times, "PyOD", "scoring")


def pyod_scoring(X: np.ndarray) -> Callable[[], object]:
    """PyOD's scoring by a VAE of our layers."""
    import contextlib
    import io

    from pyod.models.vae import VAE

    flat = X.reshape(len(X), -1).astype(np.float32) / 255
    layers = {"encoder_neuron_list": [512, 256], "decoder_neuron_list": [256, 512], "latent_dim": 16}
    with contextlib.redirect_stdout(io.StringIO()):
        detector = VAE(epoch_num=1, verbose=0, preprocessing=False, batch_size=128, **layers).fit(flat[:1000])
    return lambda: detector.decision_function(flat)


def out_of_core(smoke: bool) -> Iterator[Record]:
    """4. Scoring a file in pieces against scoring it in memory, and against reading it."""
    from vae_anomaly.datasets import chunks

    n = 2_000 if smoke else 100_000
    X = images(n)
    detector = fitted(X[:4000])
    with tempfile.TemporaryDirectory() as folder:
        npy, parquet = Path(folder) / "X.npy", Path(folder) / "X.parquet"
        np.save(npy, X)
        frame = pd.DataFrame(table(n, 64), columns=[f"x{i}" for i in range(64)])
        tables = fitted(frame[:4000])
        frame.to_parquet(parquet, row_group_size=1 << 16)

        def pieces(path: Path, model: VAEDetector) -> None:
            n_rows = (1 << 26) // (8 * model.n_features_in_)
            for part in chunks(path, n_rows):
                model.score_samples(part.X)

        def read() -> None:
            with npy.open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass

        buffer = bytearray(1 << 22)
        functions: dict[str, Callable[[], object]] = {
            "npy": lambda: pieces(npy, detector),
            "in memory": lambda: detector.score_samples(X),
            "reading npy": read,
            "parquet": lambda: pieces(parquet, tables),
            "in memory, table": lambda: tables.score_samples(frame),
        }
        times = rounds(functions, 1 if smoke else 5, warm=1)
    yield compared("scoring .npy in pieces, against in memory", times, "npy", "in memory", target=1.2)
    yield compared("scoring .npy in pieces, against reading it", times, "npy", "reading npy")
    yield compared("scoring .parquet in pieces, against in memory", times, "parquet", "in memory, table", target=1.2)


GROWTH = """
import sys
sys.path.insert(0, folder)
import numpy as np
from data import images, table
from vae_anomaly import VAEDetector
X = images(n_rows, int(n_pixels**0.5)) if n_pixels else table(n_rows, n_features)
own = {"prior": "normal", "architecture": "mlp"}
detector = VAEDetector(epochs=1, n_draws=n_draws, **own).fit(X[:min(n_rows, 2000)])
import time
mark()
start = time.perf_counter()
if scoring:
    detector.score_samples(X)
else:
    VAEDetector(epochs=1, batch_size=256, **own).fit(X)
result = time.perf_counter() - start
"""


def growth(smoke: bool) -> Iterator[Record]:
    """5. Exponents of time in rows, features, pixels and draws, between the two largest sizes; memory beside them.

    Of 20,000 rows, and of 1,000 where features or pixels grow.
    """
    rows, features = [1_000, 10_000, 100_000, 1_000_000, 10_000_000], [8, 100, 1_000, 10_000, 100_000]
    pixels = [side * side for side in (16, 32, 64, 128, 256)]
    grid: dict[str, tuple[str, list[int], bool]] = {
        "fit, rows": ("n_rows", rows, False),
        "fit, features": ("n_features", features, False),
        "fit, pixels": ("n_pixels", pixels, False),
        "scoring, rows": ("n_rows", rows, True),
        "scoring, features": ("n_features", features, True),
        "scoring, pixels": ("n_pixels", pixels, True),
        "scoring, draws": ("n_draws", [2, 16, 128], True),
    }
    for name, (what, sizes, scored) in grid.items():
        sizes = sizes[:2] if smoke else sizes
        n_rows = 1_000 if smoke or what in ("n_features", "n_pixels") else 20_000
        seconds, memory = [], []
        for size in sizes:
            given = {"n_rows": n_rows, "n_features": 8, "n_pixels": 0, "n_draws": 2} | {what: size}
            measured = in_a_process(GROWTH, folder=str(Path(__file__).parent), scoring=scored, **given)
            seconds.append(measured["result"])
            memory.append(measured["memory"])
        exponents = np.diff(np.log(seconds)) / np.diff(np.log(sizes))
        details = {
            "sizes": sizes,
            "s": [round(s, 3) for s in seconds],
            "added memory, MiB": [round(m) for m in memory],
        }
        yield Record(
            f"exponent of time, {name}",
            float(exponents[-1]),
            float(exponents.min()),
            float(exponents.max()),
            "",
            details=details,
        )


def start_up(smoke: bool) -> Iterator[Record]:
    """6. From the shell to the end: help, inspect, ten rows scored, and the package imported."""
    import subprocess

    python = sys.executable
    command = str(Path(python).with_name("vae-anomaly"))
    with tempfile.TemporaryDirectory() as folder:
        model, rows = f"{folder}/m.vae", f"{folder}/X.npy"
        fitted(table(500, 8)).save(model)
        np.save(rows, table(10, 8))
        words = {
            "import torch": [python, "-P", "-c", "import torch"],
            "--help": [command, "--help"],
            "inspect": [command, "inspect", model],
            "score of 10 rows": [command, "score", rows, "--model", model],
            "import vae_anomaly": [python, "-P", "-c", "import vae_anomaly"],
            "python": [python, "-P", "-c", ""],
        }

        def run(line: list[str]) -> Callable[[], object]:
            return lambda: subprocess.run(line, check=True, capture_output=True)

        times = rounds({name: run(line) for name, line in words.items()}, 1 if smoke else 15, warm=1)
    for name in ("--help", "inspect"):
        yield summarised(name, times[name].tolist(), "s", target=0.15)
    torch_seconds = float(np.median(times["import torch"]))
    target = 1.15 * torch_seconds + 0.5
    details = {"import torch, s": round(torch_seconds, 2), "target": "1.15 x import torch + 0.5 s"}
    yield summarised("score of 10 rows", times["score of 10 rows"].tolist(), "s", target=target, details=details)
    details = {"python alone, s": round(float(np.median(times["python"])), 3)}
    yield summarised("import vae_anomaly", times["import vae_anomaly"].tolist(), "s", details=details)


def watched(spent: dict[str, float], trained: list[tuple[float, float]]) -> Callable[..., Any]:
    """`train`, that notes its seconds and those of its parts."""

    def train(*args: Any, **kwargs: Any) -> Any:
        before, start = sum(spent.values()), time.perf_counter()
        result = real(*args, **kwargs)
        trained.append((time.perf_counter() - start, sum(spent.values()) - before))
        return result

    real = vae_anomaly.fitting.training.train
    return train


def pieces_of_a_fit(smoke: bool) -> Iterator[Record]:
    """7. Where a fit's time goes, and what the epochs of 100,000 x 64 rows cost beyond their parts."""
    bfloat16_speed_up(torch.device("cpu"))  # once a process
    rows = table(500 if smoke else 125_000, 64)
    for name, X, parameters in (
        ("images", images(500 if smoke else 15_000), {"epochs": 1 if smoke else 5}),
        ("100,000 x 64 table", rows, {"epochs": 1 if smoke else 3}),
        ("100,000 x 64 table, default epochs", rows, {"epochs": 1} if smoke else {}),
    ):
        trained: list[tuple[float, float]] = []
        with clocks() as spent, mock.patch.object(vae_anomaly.fitting.fit, "train", watched(spent, trained)):
            start = time.perf_counter()
            VAEDetector(**parameters).fit(X)
            whole = time.perf_counter() - start
        accounted = sum(spent.values()) / whole
        details = {"fit, s": round(whole, 2), **listed(spent, whole)}
        yield Record(f"share of a fit accounted for, {name}", accounted, accounted, accounted, "", 0.95, True, details)
        wall, parts = trained[0]
        for what, ratio, target in (
            ("training against the sum of its parts", wall / parts, 1.1),
            ("whole fit against its training", whole / wall, 1.25 if "epochs" not in parameters else None),
        ):
            yield Record(f"{what}, {name}", ratio, ratio, ratio, target=target)


BENCHMARKS: dict[str, Benchmark] = {
    "steps": steps,
    "fits": fits,
    "quality": to_quality,
    "scoring": scoring,
    "out-of-core": out_of_core,
    "growth": growth,
    "start-up": start_up,
    "pieces": pieces_of_a_fit,
}
