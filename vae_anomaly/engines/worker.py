"""A worker process: reads a task and then one shard a line from standard input, and answers each with a record.

It ends when its standard input ends, so it outlives the process that started it by at most one shard.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Any

from vae_anomaly.engines.manifest import Shard
from vae_anomaly.engines.shard import ShardScorer, Task
from vae_anomaly.standard_streams import replace_missing_streams


def main() -> None:
    """Score shards until there are no more."""
    replace_missing_streams()
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is not an answer

    def answer(value: Any) -> None:
        os.write(answers, f"{json.dumps(value)}\n".encode())

    with contextlib.suppress(BrokenPipeError):  # the other process is gone
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
