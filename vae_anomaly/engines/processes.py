"""The engine without dependencies: worker processes on this machine, each with one thread."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any, Self

from vae_anomaly.engines.manifest import Shard
from vae_anomaly.engines.shard import Task
from vae_anomaly.errors import EngineError

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def n_cpus() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


class Worker:
    """A process that scores shards; when it dies, another takes its place."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.stopped = False
        self.process = self.start()

    def start(self) -> subprocess.Popen[str]:
        """Start a process, and wait until it has loaded the model."""
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "vae_anomaly.engines.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | ONE_THREAD,
            start_new_session=True,  # Ctrl-C reaches only the process that hands out the shards
        )
        self.process = process
        if (answer := self.ask(self.task)) != "ready":
            self.close()
            why = answer["failed"] if answer else f"exit code {process.returncode}"
            raise EngineError(f"a worker process could not start: {why}")
        return process

    def ask(self, question: object) -> Any:
        """The answer of the process, or None if it dies."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(question), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        return json.loads(line) if line.endswith("\n") else None

    def score(self, shard: Shard) -> Any:
        """A shard's record; a process that dies is replaced, and the shard's file of attempts counts how often."""
        record = self.ask(shard)
        while record is None and not self.stopped:
            self.close()
            self.process = self.start()
            record = None if self.stopped else self.ask(shard)
        return record

    def stop(self) -> None:
        """End the process even in the middle of a shard, which another thread may be waiting for."""
        self.stopped = True
        self.process.kill()

    def close(self) -> None:
        """End the process and close its pipes."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):  # for what it did not read
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def run_on_processes(task: Task, shards: Sequence[Shard], n_workers: int) -> Iterator[dict[str, Any]]:
    """Score shards on ``n_workers`` processes, and yield a record for each as it is done.

    Raises
    ------
    EngineError
        If a process cannot start.
    """
    left = iter(shards)

    def start(_: int) -> Worker:  # closed at the end, also when another does not start
        return stack.enter_context(Worker(task))

    with contextlib.ExitStack() as stack, ThreadPoolExecutor(n_workers) as pool:
        n_workers = min(n_workers, len(shards))
        workers = list(pool.map(start, range(n_workers)))
        busy: dict[Future[Any], Worker] = {}
        for worker, shard in zip(workers, left, strict=False):
            busy[pool.submit(worker.score, shard)] = worker
        try:
            while busy:
                done, _ = wait(busy, return_when=FIRST_COMPLETED)
                for future in done:
                    worker = busy.pop(future)
                    for shard in islice(left, 1):
                        busy[pool.submit(worker.score, shard)] = worker
                    yield future.result()
        finally:
            for worker in workers:
                worker.stop()
