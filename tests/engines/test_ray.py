"""Real clusters on this machine, of a head and two nodes: workers and nodes die, and no row is lost or doubled."""

from __future__ import annotations

import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from odd_rows import make_frame
from vae_anomaly import VAEDetector
from vae_anomaly.fitting.checkpoints import found

pytest.importorskip("ray", reason="needs vae-anomaly[ray]")
pytestmark = pytest.mark.slow

# a line on standard input: one of the two nodes dies at once, and another comes
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
head = {"num_cpus": 0, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=head)
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(nodes.pop(0), allow_graceful=False)
    nodes.append(cluster.add_node(num_cpus=1))
    print("replaced", flush=True)
cluster.shutdown()
"""


class Cluster:
    """A cluster whose processes, and all that they start, know it by a folder in their environment."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        Path(folder, "home").mkdir()
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # it listens beyond this machine
        ray = token | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
        threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        self.environment = os.environ | ray | threads | {"HOME": f"{folder}/home", "RAY_TMPDIR": f"{folder}/r"}
        self.process = self.start("-c", CLUSTER, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        assert self.address

    def start(self, *words: str, **options: object) -> subprocess.Popen[str]:
        """A Python process among the cluster's."""
        return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
            [sys.executable, "-P", *words],
            stdout=subprocess.PIPE,
            text=True,
            env=self.environment,
            **options,
        )

    def processes(self) -> dict[int, str]:
        """Process ids and titles."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if f"{self.folder}/r".encode() in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return {number: title for number, title in found.items() if title}

    def kill_worker(self, title: str, rng: random.Random) -> bool:
        """Kill one of the processes that carry this in their title, if there is one."""
        workers = [number for number, name in sorted(self.processes().items()) if title in name]
        if workers:
            os.kill(rng.choice(workers), signal.SIGKILL)
        return bool(workers)

    def replace_node(self) -> None:
        """One node dies at once, and another comes."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print("next", file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "replaced\n"

    def stop(self) -> None:
        """End in order; what is left after that is killed; `processes` lists it before."""
        self.process.communicate(timeout=60)
        deadline = time.monotonic() + 30
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.2)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")  # short, since sockets are made in it
    running = Cluster(folder)
    try:
        yield running
        running.stop()
        left = running.processes()
        in_home = list(Path(folder, "home").rglob("*"))
    finally:
        for number in running.processes():
            os.kill(number, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
    assert (left, in_home) == ({}, [])


def kill_while(command: subprocess.Popen[str], progress: Callable[[], object], kills: list[Callable[[], bool]]) -> int:
    """Let each of these happen at a random moment after the command got further; how many did."""
    rng, deadline, done = random.Random(0), time.monotonic() + 150, 0
    while done < len(kills):
        before = progress()
        while progress() == before:
            if command.poll() is not None or time.monotonic() > deadline:
                return done
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        done += kills[done]()
    return done


def test_whoever_dies_nothing_is_lost(
    cluster: Cluster, tmp_path: Path, table_detector: VAEDetector, make_table, capsys: pytest.CaptureFixture[str]
) -> None:
    n_rows, rng = 320_000, random.Random(0)
    table_detector.save(tmp_path / "m.vae")
    X = np.tile(make_table(n_rows // 8, seed=9), (8, 1))
    np.save(tmp_path / "X.npy", X)
    ray = ["--engine", "ray", "--address", cluster.address]
    score = ["score", "X.npy", "--model", "m.vae", *ray, "--output", "out", "--shard-rows", str(n_rows // 16)]
    command = cluster.start("-m", "vae_anomaly.cli", *score, cwd=tmp_path, stderr=subprocess.PIPE)
    worker, node = lambda: cluster.kill_worker("ray::MapWorker", rng), lambda: cluster.replace_node() is None
    killed = kill_while(command, lambda: len(list(tmp_path.glob("out/part-*"))), [worker, node, worker])
    output, errors = command.communicate(timeout=150)
    assert command.returncode == 0, errors
    table = pd.concat([pd.read_parquet(path) for path in sorted(tmp_path.glob("out/part-*"))])
    assert output.startswith(f"scored     320,000 samples, {table['decision'].sum():,} flagged\n")
    lost, doubled = n_rows - table["row"].nunique(), int(table["row"].duplicated().sum())
    assert (lost, doubled, killed) == (0, 0, 3)
    assert table["row"].tolist() == list(range(n_rows))
    np.testing.assert_array_equal(table["anomaly_score"], -table_detector.score_samples(X))
    assert list(tmp_path.glob("out/.*")) == []
    with capsys.disabled():
        print(f"\na worker, a node and a worker killed: {lost} rows lost, {doubled} doubled")

    np.save(tmp_path / "Y.npy", X[:3000])
    fit = ["fit", "--data", "Y.npy", "--epochs", "8", "--batch-size", "64", "--no-report", *ray, "--workers", "2"]
    fit += ["--checkpoint", "kept", "--checkpoint-interval", "0.2", "--patience", "8"]
    command = cluster.start("-m", "vae_anomaly.cli", *fit, cwd=tmp_path, stderr=subprocess.PIPE)
    rank = lambda: cluster.kill_worker("ray::RayTrainWorker", rng)  # noqa: E731
    killed = kill_while(command, lambda: found(tmp_path / "kept")[:1], [rank])
    output, errors = command.communicate(timeout=150)
    assert (command.returncode, killed) == (0, 1), errors
    assert output.endswith("wrote      model.vae\n")
    assert list((tmp_path / "kept").iterdir()) == []
    alone = VAEDetector(epochs=8, patience=8, batch_size=64).fit(X[:3000])
    fitted = VAEDetector.load(tmp_path / "model.vae")
    names = sorted(alone.history_[0])
    curves = [np.array([[epoch[name] for name in names] for epoch in one.history_]) for one in (alone, fitted)]
    np.testing.assert_allclose(*curves, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(fitted.score_samples(X[:99]), alone.score_samples(X[:99]), rtol=1e-8)
    with capsys.disabled():
        print(f"a rank killed: curves differ by {np.abs(curves[0] - curves[1]).max() / np.abs(curves[0]).max():.1e}")


def test_tables_of_mixed_columns_have_the_scores_of_one_machine(cluster: Cluster, tmp_path: Path) -> None:
    frame = make_frame(2_000)
    detector = VAEDetector(epochs=1).fit(frame[:300])
    detector.save(tmp_path / "m.vae")
    (tmp_path / "rows").mkdir()
    frame[:1_200].to_parquet(tmp_path / "rows/a.parquet", row_group_size=500)
    frame[1_200:].to_parquet(tmp_path / "rows/b.parquet", index=False)
    ray = ["--engine", "ray", "--address", cluster.address, "--output", "out", "--shard-rows", "512"]
    command = cluster.start("-m", "vae_anomaly.cli", "score", "rows", "--model", "m.vae", *ray, cwd=tmp_path)
    output, _ = command.communicate(timeout=150)
    assert command.returncode == 0
    assert output.startswith("scored     2,000 samples, ")
    table = pd.concat([pd.read_parquet(path) for path in sorted(tmp_path.glob("out/part-*"))])
    np.testing.assert_array_equal(table["anomaly_score"], -detector.score_samples(frame))
    assert table["key"].tolist() == frame["key"].tolist()
    assert table["missing"].tolist() == frame.drop(columns="key").isna().sum(axis=1).tolist()
