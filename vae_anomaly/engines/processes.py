"""The engine that needs nothing else: worker processes on this machine, each with one thread."""

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
    """A process that scores shards; another takes its place when it dies."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.stopped = False
        self.process = self.started()

    def started(self) -> subprocess.Popen[str]:
        """A process that has the model and waits for shards."""
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "vae_anomaly.engines.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | ONE_THREAD,
            start_new_session=True,  # Ctrl-C is for the process that gives out the shards
        )
        self.process = process
        if (answer := self.ask(self.task)) != "ready":
            self.close()
            why = answer["failed"] if answer else f"exit code {process.returncode}"
            raise EngineError(f"a worker process could not start: {why}")
        return process

    def ask(self, question: object) -> Any:
        """What the process answers, or None if it dies of it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(question), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        return json.loads(line) if line.endswith("\n") else None

    def score(self, shard: Shard) -> Any:
        """A shard's record; a process that dies is replaced, and the shard itself keeps count of how often."""
        record = self.ask(shard)
        while record is None and not self.stopped:
            self.close()
            self.process = self.started()
            record = None if self.stopped else self.ask(shard)
        return record

    def stop(self) -> None:
        """End the process, in the middle of a shard too; another thread may be waiting for it."""
        self.stopped = True
        self.process.kill()

    def close(self) -> None:
        """End the process and let go of its pipes."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):  # of what it did not take
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def run_on_processes(task: Task, shards: Sequence[Shard], n_workers: int) -> Iterator[dict[str, Any]]:
    """Score shards on so many processes; their records, as they come.

    Raises
    ------
    EngineError
        If a process cannot start.
    """
    left = iter(shards)
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(n_workers) as pool:
        n_workers = min(n_workers, len(shards))
        workers = list(pool.map(lambda _: stack.enter_context(Worker(task)), range(n_workers)))
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
