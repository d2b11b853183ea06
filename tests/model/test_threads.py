"""Processes that are forked after PyTorch has made threads: an error instead of a process that waits for ever."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from helpers import python, table
from vae_anomaly import VAEDetector

pytestmark = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")

CODE = """
import multiprocessing, sys, time
from pathlib import Path
import numpy as np, torch
from vae_anomaly import FittedModel, VAEDetector, score_dataset

path, before, after, threads = sys.argv[1:]
torch.set_num_threads(2)
X = np.load(Path(path).with_name("X.npy"))
ACTIONS = {
    "load": lambda: FittedModel.load(path),
    "score": lambda: FittedModel.load(path).score_samples(X),
    "sample": lambda: FittedModel.load(path).sample(3),
    "fit": lambda: VAEDetector(epochs=1, device="cpu").fit(X),
    "processes": lambda: score_dataset(Path(path).with_name("X.npy"), path, Path(path).with_name("out"), workers=2),
    "nothing": lambda: None,
}

def child(answers):
    torch.set_num_threads(int(threads))
    try:
        ACTIONS[after]()
        answers.put("done")
    except Exception as error:
        answers.put(f"{type(error).__name__}: {error}")

ACTIONS[before]()
context = multiprocessing.get_context("fork")
answers = context.SimpleQueue()
process = context.Process(target=child, args=(answers,))
process.start()
process.join(60)
print("waits for ever" if process.exitcode is None else answers.get())
process.kill()
"""


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    np.save(tmp_path / "X.npy", table(600))
    VAEDetector(epochs=1, device="cpu").fit(table()).save(tmp_path / "m.vae")
    return tmp_path / "m.vae"


@pytest.mark.parametrize(
    ("before", "after"),
    [("score", "score"), ("load", "load"), ("sample", "fit"), ("fit", "sample")],
)
def test_a_forked_process_says_what_to_do_instead_of_waiting(saved: Path, before: str, after: str) -> None:
    said = python(CODE, saved, before, after, 2)
    assert said.startswith("ForkError: this process was forked from one that had already computed with 2 threads")
    assert "get_context('spawn') or 'forkserver', or call torch.set_num_threads(1)" in said


@pytest.mark.parametrize(
    ("before", "after", "threads"),
    [("score", "score", 1), ("nothing", "score", 2), ("score", "processes", 2)],
)
def test_what_works_after_a_fork_is_left_alone(saved: Path, before: str, after: str, threads: int) -> None:
    assert python(CODE, saved, before, after, threads) == "done\n"
