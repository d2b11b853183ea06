"""Fits by two processes: the curve, the model and the files of one, and a rank that dies costs nothing but time."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import run
from vae_anomaly import VAEDetector
from vae_anomaly.engines.on_ray import SETTINGS
from vae_anomaly.fitting.batches import Permutation, Windows
from vae_anomaly.fitting.checkpoints import found
from vae_anomaly.fitting.distributed import Ranks, current_ranks
from vae_anomaly.storage.rows import RowsOnDisk

CPU = torch.device("cpu")

# by default it starts its own store anew among ranks that are still looking for the old one
ENVIRONMENT = os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "OMP_NUM_THREADS": "1"}
TORCHRUN = [sys.executable, "-P", "-m", "torch.distributed.run", "--nproc-per-node", "2"]
LOCAL = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]


def torchrun(*words: str, restarts: int = 0) -> subprocess.Popen[str]:
    """A command of two ranks."""
    command = [*TORCHRUN, *LOCAL, "--max-restarts", str(restarts), "-m", "vae_anomaly.cli", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=ENVIRONMENT, **pipes)  # type: ignore[call-overload,no-any-return]


def same(one: VAEDetector, other: VAEDetector, X: np.ndarray, tolerance: float) -> float:
    """Compare curves and scores; the greatest relative difference of the curves."""
    assert len(one.history_) == len(other.history_)
    names = sorted(one.history_[0])
    curves = [np.array([[epoch[name] for name in names] for epoch in fit.history_]) for fit in (one, other)]
    np.testing.assert_allclose(*curves, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(one.score_samples(X), other.score_samples(X), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(one.calibration_scores_, other.calibration_scores_, rtol=tolerance, atol=tolerance)
    return float(np.abs(curves[0] - curves[1]).max() / np.abs(curves[0]).max())


def test_a_process_alone_changes_nothing() -> None:
    alone, values, module = current_ranks(), torch.arange(3.0), torch.nn.BatchNorm1d(3)
    assert alone == Ranks(0, 1)
    assert alone.own_rows(7) == slice(0, None, 1)
    assert alone.sum_over_ranks(values) is values
    assert alone.batch_mean(values, 3) == values.mean()
    assert alone.true_on_any([True, False]) == [True, False]
    assert alone.broadcast_from_first([1.5]) == [1.5]
    assert alone.data_parallel(module)(lambda: 7) == 7
    alone.average_buffers(module, 0.5)
    assert torch.equal(module.running_var, torch.ones(3))


@pytest.mark.parametrize("sizes", [(4, 4), (5, 3), (3, 3, 2), (1, 0)])
def test_the_mean_over_ranks_of_what_each_descends_is_the_gradient_of_the_batch(sizes: tuple[int, ...]) -> None:
    rows = torch.randn(sum(sizes), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weight = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad((weight * rows).square().mean(), weight)
    gradients = [
        torch.autograd.grad(Ranks(rank, len(sizes)).batch_mean((weight * own).square(), len(rows)), weight)[0]
        for rank, own in enumerate(torch.split(rows, sizes))
    ]
    torch.testing.assert_close(torch.stack(gradients).mean(), expected)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("on_disk", [False, True])
def test_the_parts_of_all_ranks_make_the_batch(tmp_path: Path, monkeypatch, size: int, on_disk: bool) -> None:
    X = np.arange(2_000, dtype=np.float64).reshape(1000, 2)
    X.tofile(tmp_path / "X")
    monkeypatch.setattr("vae_anomaly.fitting.batches.CHUNK_BYTES", 80)
    monkeypatch.setattr("vae_anomaly.fitting.batches.WINDOW_CHUNKS", 7)
    with (tmp_path / "X").open("rb", buffering=0) as file:
        rows = RowsOnDisk(file, 0, X.shape, X.dtype, "X")
        whole, *ranks = (Windows(rows, CPU) if on_disk else Permutation(X, CPU) for _ in range(size + 1))
        order = whole.order(torch.Generator().manual_seed(0))
        for start in range(0, 1000, 64):
            stop = min(start + 64, 1000)
            expected = whole.batch(order, start, stop)
            assert len(expected) == stop - start
            for rank in range(size):
                own = Ranks(rank, size).own_rows(start)
                assert (start + own.start) % size == rank
                rows_of_rank = ranks[rank].batch(order, start + own.start, stop, own.step)
                np.testing.assert_array_equal(rows_of_rank, expected[own])
        if on_disk and size > 1:
            assert len(ranks[0].inner) <= len(whole.inner) // size + 1


@pytest.mark.parametrize("kind", ["odd", pytest.param("images", marks=pytest.mark.slow)])
def test_two_ranks_give_the_curve_and_scores_of_one(
    tmp_path: Path, monkeypatch, make_table, make_images, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    X = make_images(300) if kind == "images" else make_table(161)  # whose last batch has one row
    np.save("X.npy", X.astype(np.float64))
    words = ["fit", "--data", "X.npy", "--batch-size", "128", "--epochs", "8", "--no-report", "--output"]
    process = torchrun(*words, "two.vae", "--checkpoint", "kept")
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert output.count("wrote") == 1
    assert list(Path("kept").iterdir()) == []
    alone = VAEDetector(batch_size=128, epochs=8).fit(X.astype(np.float64))
    difference = same(alone, VAEDetector.load("two.vae"), X.astype(np.float64), 1e-9)
    with capsys.disabled():
        print(f"\n{kind}: two ranks of 64 against one of 128: curves differ by {difference:.1e}")


@pytest.mark.slow
def test_a_killed_rank_costs_time_and_nothing_else(
    tmp_path: Path, monkeypatch, make_table, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    X, rng, kills = make_table(4_000), random.Random(0), 0
    np.save("X.npy", X)
    words = ["fit", "--data", "X.npy", "--batch-size", "128", "--epochs", "10", "--no-report", "--json"]
    words += ["--patience", "10", "--output"]
    alone = VAEDetector(batch_size=128, epochs=10, patience=10).fit(X)
    kept = ["--checkpoint", "kept", "--checkpoint-interval", "0.2", "--resume"]
    process = torchrun(*words, "two.vae", *kept, restarts=3)
    deadline = time.monotonic() + 120
    while process.poll() is None and kills < 2 and time.monotonic() < deadline:
        before = found(Path("kept"))[:1]
        while process.poll() is None and found(Path("kept"))[:1] in ([], before) and time.monotonic() < deadline:
            time.sleep(0.01)  # a rank that dies before it got on proves nothing
        time.sleep(rng.uniform(0, 0.2))
        ranks = [
            int(number)
            for number in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            if b"vae_anomaly.cli" in Path(f"/proc/{number}/cmdline").read_bytes()
        ]
        if ranks:
            os.kill(rng.choice(ranks), signal.SIGKILL)
            kills += 1
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert json.loads(output)["model"]["epochs"] == 10
    difference = same(alone, VAEDetector.load("two.vae"), X, 1e-8)
    assert kills == 2
    with capsys.disabled():
        print(f"\n{kills} ranks killed: curves differ by {difference:.1e} from those of one process never killed")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--engine", "ray"], 2, "--engine ray needs --checkpoint, a folder that all workers can read and write"),
        (["--address", "a:1"], 2, "--address and --workers go with --engine"),
        (["--workers", "2"], 2, "--address and --workers go with --engine"),
        (["--engine", "ray", "--checkpoint", "kept"], 1, "kept holds the checkpoint of an unfinished fit: resume it"),
        (["--engine", "ray", "--checkpoint", "new"], 1, "--engine ray needs Ray (import of ray halted; None in sys"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, monkeypatch, make_table, words: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in SETTINGS:
        monkeypatch.setenv(name, "")
    np.save("X.npy", make_table(9))
    Path("kept").mkdir()
    Path("kept/000000000001.checkpoint").touch()
    result = run("fit", "--data", "X.npy", *words)
    assert (result.exit_code, message in result.stderr, result.stdout) == (code, True, ""), result.stderr
