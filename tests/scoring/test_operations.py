"""What scoring asks of a GPU, counted on a CPU: operations of a block, and how often the host waits for one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import images, table
from vae_anomaly import VAEDetector, fitted_model
from vae_anomaly.fitting.captured_step import traffic
from vae_anomaly.scoring import BLOCK_ROWS, blocks


def mixed_table(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({"number": rng.normal(size=n), "kind": rng.choice(list("abc"), n), "other": rng.normal(size=n)})


KINDS: dict[str, tuple[Callable[[int], Any], dict[str, Any]]] = {
    "numbers": (table, {}),
    "columns": (mixed_table, {}),
    "images": (images, {"architecture": "mlp"}),
}


class Asked(TorchDispatchMode):
    """Counts operations that are no views, and what makes host and device wait for each other."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.counts["operations"] += not func.is_view
        if traffic(func, (args, kwargs), result):
            self.counts[str(func.overloadpacket)] += 1
        return result


@pytest.fixture(scope="module", params=KINDS)
def asked(request: pytest.FixtureRequest) -> tuple[str, Callable[[int], Counter[str]]]:
    make, given = KINDS[request.param]
    detector = VAEDetector(epochs=1, **given).fit(make(300))

    def by_block(*args: Any) -> tuple[np.ndarray, ...]:
        with torch.no_grad():  # in inference mode operations arrive undivided
            return blocks.by_block.__wrapped__(*args)  # type: ignore[attr-defined]

    def count(n_blocks: int) -> Counter[str]:
        rows = detector.model_.rows(make(n_blocks * BLOCK_ROWS))
        with pytest.MonkeyPatch.context() as patch, Asked() as asked:
            patch.setattr(fitted_model, "by_block", by_block)
            detector.model_.score_samples(rows)
        return asked.counts

    return request.param, count


def test_a_block_has_few_operations_and_hardly_waits(asked: tuple[str, Callable[[int], Counter[str]]]) -> None:
    kind, count = asked
    of_a_block = count(3)
    of_a_block.subtract(count(2))
    assert of_a_block.pop("aten.lift_fresh") == 1, "the block itself, which goes by way of page-locked memory"
    n = of_a_block.pop("operations")
    most = {"numbers": 200, "columns": 240, "images": 230}[kind]
    assert most / 2 < n <= most, n
    waits = {name: n for name, n in of_a_block.items() if n}
    # whether there are gaps; and on a CPU which images are not mostly dark
    assert waits == {"numbers": {"aten._local_scalar_dense": 1}, "columns": {}, "images": {"aten.nonzero": 1}}[kind]


def test_results_come_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "is_gpu", lambda device: True)
    monkeypatch.setattr(blocks, "MORE_ON_A_GPU", 1)
    fetched: list[int] = []
    join = blocks.on_host
    monkeypatch.setattr(blocks, "on_host", lambda parts: fetched.append(len(parts)) or join(parts))
    VAEDetector(epochs=1).fit(table(300)).score_samples(table(3 * BLOCK_ROWS))
    assert fetched[-1] == 3
