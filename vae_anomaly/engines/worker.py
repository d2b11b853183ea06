"""A worker process: a task on standard input, then a shard a line; a record on standard output for each.

It ends with its standard input, so none outlives who started it by more than the shard under way.
"""

from __future__ import annotations

import json
import os
import sys

from vae_anomaly.engines.manifest import Shard
from vae_anomaly.engines.shard import ShardScorer, Task


def main() -> None:
    """Serve until there are no more shards."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no answer
        scorer = ShardScorer(Task(*json.loads(sys.stdin.readline())))
        print(json.dumps("ready"), file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(scorer(Shard(*json.loads(line)))), file=answers, flush=True)


if __name__ == "__main__":
    main()
