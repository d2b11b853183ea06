"""The engine for many machines: Ray (https://docs.ray.io), used thinly; nothing else in the library imports it.

The manifest travels, and a record a shard comes back; rows and scores do not. Ray's own readers and writers stay out
of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vae_anomaly.engines.manifest import Shard
from vae_anomaly.engines.processes import ONE_THREAD
from vae_anomaly.engines.shard import ShardScorer, Task
from vae_anomaly.errors import EngineError

# set before Ray is imported, and only where the user has not: no usage reports, no token file in the user's home, no
# news of every step and of every node that dies
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_LOG_LEVEL": "ERROR",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}
LONGEST = 40  # characters of a folder in which Ray can make its sockets


class RayScorer:
    """`ShardScorer` as an actor: built where it runs, from a task; takes and gives rows of Ray Data."""

    def __init__(self, task: Sequence[Any]) -> None:
        self.scorer = ShardScorer(Task(*task))

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        n = {name: int(row[name]) for name in ("number", "first_row", "n_rows", "start")}
        return self.scorer(Shard(location=str(row["location"]), **n))


def run_on_ray(
    task: Task, shards: Sequence[Shard], workers: int | None, address: str | None
) -> Iterator[dict[str, Any]]:
    """Score shards by actors of one CPU each; their records, as they come.

    Ray begins anew whatever a dead worker or node had under way.

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
        yield from records.iter_rows()


@contextlib.contextmanager
def connected(address: str | None, workers: int | None = None) -> Iterator[Any]:
    """The module ray, with a cluster: that at an address, one that is connected already, or one on this machine alone.

    The last listens on the loopback interface, keeps its files in a temporary folder, and goes with the block.

    Raises
    ------
    EngineError
        If Ray is missing or the cluster cannot be reached.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
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
                cpus = workers or len(os.sched_getaffinity(0))
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
