"""A worker process: a task on standard input, then a shard a line; a record on standard output for each.

It ends with its standard input, so none outlives who started it by more than the shard under way.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Any

from vae_anomaly.engines.manifest import Shard
from vae_anomaly.engines.shard import ShardScorer, Task


def main() -> None:
    """Serve until there are no more shards."""
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no answer

    def answer(value: Any) -> None:
        os.write(answers, f"{json.dumps(value)}\n".encode())

    with contextlib.suppress(BrokenPipeError):  # who asked is gone
        try:
            scorer = ShardScorer(Task(*json.loads(sys.stdin.readline())))
        except (ValueError, OSError) as error:
            answer({"failed": str(error)})
            return
        answer("ready")
        for line in sys.stdin:
            answer(scorer(Shard(*json.loads(line))))


if __name__ == "__main__":
    main()
