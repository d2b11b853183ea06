"""The engine for many machines: Ray (https://docs.ray.io). Nothing else in the library imports it.

Ray carries the manifest to the workers and a record for each shard back, but no rows and no scores; its own readers and
writers are not used.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vae_anomaly.engines.manifest import Shard
from vae_anomaly.engines.processes import ONE_THREAD, n_cpus
from vae_anomaly.engines.shard import ShardScorer, Task
from vae_anomaly.errors import EngineError

# set before Ray is imported, unless the user has set them: no usage reports, no search for a token in the home folder,
# no message for every step and for every node that dies
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_LOG_LEVEL": "ERROR",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}
MAX_FAILURES = 8  # of one fit: a worker that dies, or an error
LONGEST = 40  # characters of a folder in which Ray can make its sockets


class RayScorer:
    """`ShardScorer` as an actor, built from a task where it runs; takes and gives rows of Ray Data."""

    def __init__(self, task: Sequence[Any]) -> None:
        self.scorer = ShardScorer(Task(*task))

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        n = {name: int(row[name]) for name in ("number", "first_row", "n_rows", "start")}
        return self.scorer(Shard(location=str(row["location"]), **n))


def run_on_ray(
    task: Task, shards: Sequence[Shard], workers: int | None, address: str | None
) -> Iterator[dict[str, Any]]:
    """Score shards by actors of one CPU each, and yield a record for each as it is done.

    Ray starts again the shards of a worker or node that died.

    Raises
    ------
    EngineError
        If Ray is missing or its cluster cannot be reached.
    """
    with connected(address, workers) as ray:
        workers = workers or int(ray.cluster_resources().get("CPU", 1))
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        manifest = ray.data.from_items([shard._asdict() for shard in shards], override_num_blocks=len(shards))
        records = manifest.map(
            RayScorer,
            fn_constructor_args=(tuple(task),),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(workers, len(shards))),
            num_cpus=1,
            num_gpus=1 if task.device.startswith("cuda") else 0,
            runtime_env={"env_vars": ONE_THREAD},
        )
        try:
            yield from records.iter_rows()
        except ray.exceptions.RayError as error:  # such as that of workers that cannot load the model
            raise EngineError(f"Ray gave up: {str(error).strip().splitlines()[-1]}") from error


def train_on_ray(
    loop: Callable[[dict[str, Any]], str],
    arguments: dict[str, Any],
    workers: int | None,
    address: str | None,
    folder: Path,
) -> str:
    """Run a training loop on workers of one CPU each, by Ray Train, and return what the first of them returned.

    Parameters
    ----------
    loop
        A function of a module. It finds a process group of torch set up, and resumes from its own checkpoints.
    arguments
        What it is called with.
    workers
        The most workers; as many take part as there is room for, at least one. None: one for each CPU.
    address
        As `connected` has it.
    folder
        A folder that all workers see, where Ray Train keeps its files while it runs.

    Raises
    ------
    EngineError
        If Ray is missing, its cluster cannot be reached, or the loop failed more than eight times.
    """
    with connected(address, workers) as ray:
        from ray.train.torch import TorchTrainer
        from ray.train.v2.api.exceptions import TrainingFailedError

        workers = workers or int(ray.cluster_resources().get("CPU", 1))
        place = Path(tempfile.mkdtemp(prefix="ray-", dir=folder))
        trainer = TorchTrainer(
            reporting,
            train_loop_config={"loop": loop, "arguments": arguments, "result": str(place / "result")},
            scaling_config=ray.train.ScalingConfig(
                num_workers=(1, workers), use_gpu=ray.cluster_resources().get("GPU", 0) >= workers
            ),
            run_config=ray.train.RunConfig(
                name=secrets.token_hex(4),  # an earlier run's name would make Ray continue that run
                storage_path=str(place),
                failure_config=ray.train.FailureConfig(max_failures=MAX_FAILURES),
                worker_runtime_env={"env_vars": ONE_THREAD},
                logging_config=ray.train.LoggingConfig(log_level="ERROR"),
            ),
        )
        try:
            trainer.fit()
            return (place / "result").read_text(encoding="utf-8")
        except TrainingFailedError as error:
            failures: dict[int, Exception] = getattr(error, "worker_failures", {})
            why = next((str(failure) for failure in failures.values()), str(error))
            raise EngineError(f"the fit failed on Ray: {why.strip().splitlines()[-1]}") from error
        finally:
            shutil.rmtree(place, ignore_errors=True)


def reporting(config: dict[str, Any]) -> None:
    """A worker's part of `train_on_ray`."""
    import ray.train

    result = config["loop"](config["arguments"])
    if ray.train.get_context().get_world_rank() == 0:
        Path(config["result"]).write_text(result, encoding="utf-8")


def probe(address: str) -> None:
    """Raise `EngineError` at once if nothing answers at HOST:PORT; Ray takes a minute to notice."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise EngineError(f"the address of a Ray cluster is HOST:PORT, such as 10.0.0.1:6379, got {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise EngineError(f"the Ray cluster at {address} cannot be reached: {error}") from error


@contextlib.contextmanager
def connected(address: str | None, workers: int | None = None) -> Iterator[Any]:
    """The module ray, connected to a cluster: the one at an address, the one in use already, or a new one.

    Other machines can reach Ray, so a new cluster obeys only commands with a token that no other process knows. It
    keeps its files in a temporary folder, and ends with the ``with`` block.

    Raises
    ------
    EngineError
        If Ray is missing or the cluster cannot be reached.
    """
    if address is None and "RAY_AUTH_MODE" not in os.environ:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if address is not None:
        probe(address)
    try:
        import ray
        import ray.data
        import ray.train
    except ImportError as error:
        raise EngineError(f"--engine ray needs Ray ({error}): pip install 'vae-anomaly[ray]'") from None
    if ray.is_initialized():
        yield ray
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    place = None if len(tempfile.gettempdir()) + len("/ray-12345678") <= LONGEST else "/tmp"
    with tempfile.TemporaryDirectory(prefix="ray-", dir=place, ignore_cleanup_errors=True) as folder:
        try:
            if address is None:
                cpus = workers or n_cpus()
                ray.init(
                    "local",
                    num_cpus=cpus,
                    include_dashboard=False,
                    _temp_dir=folder,
                    _node_ip_address="127.0.0.1",
                    **quiet,
                )
            else:
                ray.init(address, **quiet)
        except Exception as error:
            where = "could not be started" if address is None else f"at {address} cannot be reached"
            raise EngineError(f"the Ray cluster {where}: {str(error).strip().partition(chr(10))[0]}") from error
        try:
            yield ray
        finally:
            ray.shutdown()
