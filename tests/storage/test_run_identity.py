"""The same run, or another: what is compared, what is said, and that it is of what was loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae_anomaly import VAEDetector
from vae_anomaly.engines.shard import ShardScorer, Task
from vae_anomaly.errors import CheckpointError, DataError, ModelFileError
from vae_anomaly.fitted_model import FittedModel
from vae_anomaly.fitting.checkpoints import Checkpoints
from vae_anomaly.storage import model_file
from vae_anomaly.storage.model_schema import read_checked
from vae_anomaly.storage.record_log import RecordLog
from vae_anomaly.storage.resumable_table import open_resumable_table
from vae_anomaly.storage.run_identity import RunIdentity

VALUES = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
FACTS = st.dictionaries(st.text(max_size=5), VALUES | st.text(max_size=5) | st.lists(VALUES, max_size=2), max_size=4)


@given(facts=FACTS)
def test_a_run_is_the_same_as_what_it_wrote(facts: dict[str, object]) -> None:
    identity = RunIdentity(facts)
    identity.check(json.loads(json.dumps(identity.facts)), "it", "", DataError)
    assert RunIdentity(identity.facts).facts == identity.facts


@given(facts=FACTS, others=FACTS)
def test_two_runs_are_the_same_only_if_all_facts_are(facts: dict[str, object], others: dict[str, object]) -> None:
    ours, theirs = RunIdentity(facts), RunIdentity(others)
    assert (ours.differences(theirs.facts) == []) == (ours.facts == theirs.facts)
    assert len(ours.differences(theirs.facts)) == len(theirs.differences(ours.facts))


def test_the_sentence_names_all_that_differs_and_shows_no_hash() -> None:
    identity = RunIdentity({"rows": np.int64(3), "shape": (2, 2), "model": "0" * 64, "same": 1})
    with pytest.raises(DataError) as caught:
        identity.check({"rows": 4, "shape": [2], "model": "f" * 64, "same": 1, "more": "x"}, "x", "y", DataError)
    assert str(caught.value) == (
        "x belongs to another run, which differs in model, more ('x' there, None here), rows (4 there, 3 here), "
        "shape ([2] there, [2, 2] here): y"
    )


def begin_table(path: Path, fact: int) -> None:
    with open_resumable_table(path, RunIdentity({"fact": fact})) as table:
        table.write({"index": np.arange(2), "decision": np.zeros(2, int)})
        raise InterruptedError


def begin_fit(path: Path, fact: int) -> None:
    fit = Checkpoints(path, 0, {"fact": fact}, resume=path.exists())
    fit.latest()
    fit.write(1, {}, {})
    raise InterruptedError


def begin_log(path: Path, fact: int) -> None:
    RecordLog(path, {"fact": fact})
    raise InterruptedError


@pytest.mark.parametrize(
    ("begin", "error", "advice"),
    [
        (begin_table, DataError, "remove .*x.csv.partial to start over"),
        (begin_fit, CheckpointError, "make these the same, or use another folder"),
        (begin_log, DataError, "give another --output, or --fresh to start over"),
    ],
)
def test_everything_that_resumes_says_it_alike(
    tmp_path: Path, begin: Callable[[Path, int], None], error: type[Exception], advice: str
) -> None:
    for _ in range(2):
        with pytest.raises(InterruptedError):
            begin(tmp_path / "x.csv", 1)
    with pytest.raises(
        error, match=rf"x.csv belongs to another run, which differs in fact \(1 there, 2 here\): {advice}"
    ):
        begin(tmp_path / "x.csv", 2)


@pytest.fixture
def path(tmp_path: Path, table_detector: VAEDetector) -> Path:
    table_detector.save(tmp_path / "m.vae")
    return tmp_path / "m.vae"


def test_the_hash_is_of_the_file(path: Path, table_detector: VAEDetector) -> None:
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert FittedModel.load(path).file_digest == expected
    assert FittedModel.load(path).using("kl").file_digest == expected
    assert read_checked(path).file_digest == expected
    assert table_detector.model_.file_digest == expected


@pytest.mark.parametrize("read", [FittedModel.load, read_checked])
def test_the_hash_is_of_what_was_loaded_and_not_of_what_lies_there_now(
    path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    expected, check = hashlib.sha256(path.read_bytes()).hexdigest(), model_file.check_digest

    def replaced_meanwhile(*arguments: object) -> None:
        (path.parent / "other").write_bytes(b"another model")
        (path.parent / "other").replace(path)
        check(*arguments)

    monkeypatch.setattr(model_file, "check_digest", replaced_meanwhile)
    assert read(path).file_digest == expected
    assert path.read_bytes() == b"another model"


def test_a_worker_compares_what_it_loaded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = read_checked(path).file_digest
    task = Task(str(path), digest, str(path.parent), "elbo", "cpu", None)
    ShardScorer(task)
    tensors, config, _ = model_file.read(path)
    model_file.write(path, tensors, config | {"metadata": {"another": 1}})
    load = FittedModel.load

    def put_back_after_loading(*arguments: object, **options: object) -> FittedModel:
        model = load(*arguments, **options)
        model_file.write(path, tensors, config)
        return model

    monkeypatch.setattr(FittedModel, "load", put_back_after_loading)
    with pytest.raises(ModelFileError, match="another model than the one that the run began with"):
        ShardScorer(task)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
