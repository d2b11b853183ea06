"""Scores over shards: the bits of one machine whatever the cuts, the engine, and who dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from helpers import run
from odd_rows import make_frame
from vae_anomaly import VAEDetector
from vae_anomaly.engines import ENGINES, processes
from vae_anomaly.engines import score_dataset as scoring
from vae_anomaly.engines.manifest import manifest
from vae_anomaly.engines.on_ray import RayScorer
from vae_anomaly.engines.score_dataset import score_dataset
from vae_anomaly.engines.shard import ShardScorer, Task, attempts_at, digest_at, is_whole
from vae_anomaly.engines.summary import quantiles
from vae_anomaly.errors import DataError, EngineError, ModelFileError, PartWarning
from vae_anomaly.scoring import BLOCK_ROWS
from vae_anomaly.storage.model_schema import read_checked

KINDS = ("npy", "parquet", "zarr", "folder", "url")
N = 2_600
RAY = ("--engine", "ray", "--output", "out")


@pytest.fixture(autouse=True)
def model(own_folder: Path, table_detector: VAEDetector) -> None:
    table_detector.save(own_folder / "m.vae")


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers without processes: what they do is the same, and faults can be patched in."""

    def run(task: Task, shards: Any, n_workers: int) -> Any:
        return map(ShardScorer(task), shards)

    monkeypatch.setattr(scoring, "run_on_processes", run)


def save(X: np.ndarray, kind: str) -> str:
    """Write rows as one kind of data, in several files if it is a folder; where they are."""
    if kind == "npy":
        np.save("X.npy", X)
    elif kind == "parquet":
        pd.DataFrame(X, columns=list("abcdef")).to_parquet("X.parquet", row_group_size=300)
    elif kind == "zarr":
        zarr.create_array("X.zarr", data=X, chunks=(170, 6))
    elif kind == "folder":
        Path("X.folder/b/_hidden").mkdir(parents=True)
        np.save("X.folder/a.npy", X[:1000])
        pd.DataFrame(X[1000:1500]).rename(columns=str).to_parquet("X.folder/b/1.parquet", row_group_size=77)
        pd.DataFrame(X[:0]).rename(columns=str).to_parquet("X.folder/b/2-empty.parquet")
        np.save("X.folder/b/3.npy", X[1500:2000])
        zarr.create_array("X.folder/c.zarr", data=X[2000:], chunks=(170, 6))
        Path("X.folder/_SUCCESS").touch()
        Path("X.folder/b/_hidden/x.txt").touch()
    else:
        save(X, "folder")
        return Path("X.folder").absolute().as_uri()
    return f"X.{kind}"


def parts(folder: str | Path = "out") -> pd.DataFrame:
    """All parts in order of their names, as other programs would read them."""
    return pd.concat([pd.read_parquet(path) for path in sorted(Path(folder).glob("part-*"))], ignore_index=True)


def alone(X: np.ndarray, detector: VAEDetector) -> np.ndarray:
    return -detector.score_samples(X)


def complete(result: scoring.ScoredDataset, X: np.ndarray, detector: VAEDetector) -> None:
    """Each row once, in order, with the bits of one machine, and nothing else in the folder."""
    table, expected = parts(), alone(X, detector)
    assert result.failures == ()
    assert table["row"].tolist() == list(range(len(X)))
    np.testing.assert_array_equal(table["anomaly_score"], expected)
    assert (result.n_rows, result.n_flagged) == (len(X), int(table["decision"].sum()))
    known = np.quantile(expected, [float(share) for share in result.quantiles], method="inverted_cdf")
    assert list(result.quantiles.values()) == known.tolist()
    names = {path.name for path in Path("out").iterdir() if not path.name.startswith("part-")}
    assert names == {"_run.json", "_summary.json"} | {f"_part-{i:06d}.sha256" for i in range(result.n_parts)}
    summary = json.loads(Path("out/_summary.json").read_text())
    assert (summary["rows"], summary["parts"], summary["failed"]) == (len(X), result.n_parts, [])
    assert pd.read_parquet("out")["row"].nunique() == len(X)


@pytest.mark.usefixtures("in_process")
@pytest.mark.filterwarnings("ignore:.*columns have no names")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shard_rows", [37, 999, None])
def test_any_cut_of_any_data_gives_the_bits_of_one_machine(
    kind: str, shard_rows: int | None, make_table, table_detector
) -> None:
    X = make_table(N, seed=5)
    complete(score_dataset(save(X, kind), "m.vae", "out", shard_rows=shard_rows), X, table_detector)


@pytest.mark.parametrize("kind", KINDS)
def test_a_manifest_has_each_row_once_and_cuts_no_group(kind: str, make_table) -> None:
    where = save(make_table(N), kind)
    shards, fingerprint = manifest(where, 400)
    assert [shard.number for shard in shards] == list(range(len(shards)))
    assert shards[0].start == 0
    for one, other in pairwise(shards):
        assert other.start == one.start + one.n_rows
        assert other.first_row == (one.first_row + one.n_rows if one.location == other.location else 0)
    assert shards[-1].start + shards[-1].n_rows == N
    assert max(shard.n_rows for shard in shards) <= 400
    unit = {"npy": 400, "parquet": 300, "zarr": 340}.get(kind)
    assert unit is None or {shard.n_rows for shard in shards[:-1]} == {unit}
    assert manifest(where, 400).fingerprint == fingerprint


def test_the_cuts_do_not_depend_on_the_workers_but_on_the_data(make_table) -> None:
    shards, before = manifest(save(make_table(N), "npy"))
    assert {shard.n_rows for shard in shards[:-1]} == {BLOCK_ROWS}
    np.save("X.npy", make_table(N, seed=1))
    assert manifest("X.npy").fingerprint != before


@pytest.mark.parametrize("engine", ENGINES[:1])
def test_processes_score_and_end(engine: str, make_table, table_detector) -> None:
    X = make_table(N, seed=6)
    result = score_dataset(save(X, "npy"), "m.vae", "out", engine=engine, workers=2, shard_rows=300)
    complete(result, X, table_detector)


def test_a_second_run_scores_what_is_missing_alone(monkeypatch, in_process, make_table, table_detector) -> None:
    X = make_table(N, seed=7)
    score_dataset(save(X, "npy"), "m.vae", "out", shard_rows=500)
    before = {path.name: path.stat().st_mtime_ns for path in Path("out").glob("part-*")}
    Path("out/part-000001.parquet").unlink()
    cut = Path("out/part-000003.parquet")
    cut.write_bytes(cut.read_bytes()[:-20])
    Path("out/.part-000001.parquet.0badcafe.part").write_bytes(b"what a kill left")
    attempts_at(Path("out/part-000001.parquet")).write_bytes(b"..")
    with pytest.warns(PartWarning, match=r"out: damaged, and scored again: part-000003\.parquet$"):
        complete(score_dataset("X.npy", "m.vae", "out", shard_rows=500), X, table_detector)
    after = {path.name: path.stat().st_mtime_ns for path in Path("out").glob("part-*")}
    assert {name for name in after if after[name] != before[name]} == {"part-000001.parquet", cut.name}
    monkeypatch.setattr(ShardScorer, "write", lambda *rest: pytest.fail("scored again"))
    complete(score_dataset("X.npy", "m.vae", "out", shard_rows=500), X, table_detector)


def flip(path: Path, place: int) -> None:
    """Change one byte of a file."""
    blob = bytearray(path.read_bytes())
    blob[place] ^= 1
    path.write_bytes(blob)


def link(path: Path) -> None:
    """Put a link to a file of the user's in the place of a file."""
    path.unlink()
    path.symlink_to("../mine.txt")


def exchange(part: Path, other: Path) -> None:
    """Put another part, with its digest, in the place of a part."""
    shutil.copy(part, other)
    shutil.copy(digest_at(part), digest_at(other))


@pytest.mark.usefixtures("in_process")
def test_a_damaged_part_is_named_and_scored_again(make_table, table_detector) -> None:
    X = make_table(900, seed=7)
    save(X, "npy")
    Path("mine.txt").write_text("gold")
    words = ("score", "X.npy", "--model", "m.vae", "--engine", "processes", "--shard-rows", 300, "--output", "out")
    assert run(*words).exit_code == 0
    part = Path("out/part-000001.parquet")
    digest = digest_at(part)
    size = part.stat().st_size
    before = {path: path.read_bytes() for path in (part, digest)}
    damages = [partial(flip, part, place) for place in range(0, size, size // 9)]
    damages += [
        partial(flip, digest, 0),
        partial(link, part),
        partial(link, digest),
        lambda: part.write_bytes(b""),
        lambda: part.write_bytes(before[part] + b"more"),
        lambda: shutil.copy("out/part-000000.parquet", part),
        lambda: digest.write_bytes(b""),
        partial(exchange, Path("out/part-000002.parquet"), part),
    ]
    for damage in damages:
        damage()
        said = run(*words)
        assert said.exit_code == 0
        assert "note: " in said.stderr
        assert said.stderr.endswith("out: damaged, and scored again: part-000001.parquet\n")
        assert {path: path.read_bytes() for path in before} == before
    assert run(*words).stderr == ""
    assert Path("mine.txt").read_text() == "gold"
    complete(score_dataset("X.npy", "m.vae", "out", shard_rows=300), X, table_detector)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("missing", ["part-000001.parquet", "_part-000001.sha256"])
def test_what_a_kill_kept_from_being_written_is_scored_without_a_word(missing: str, make_table, table_detector) -> None:
    X = make_table(900, seed=7)
    score_dataset(save(X, "npy"), "m.vae", "out", shard_rows=300)
    Path("out", missing).unlink()
    Path("out/._part-000001.sha256.0badcafe.part").write_bytes(b"what a kill left")
    complete(score_dataset("X.npy", "m.vae", "out", shard_rows=300), X, table_detector)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("change", ["model", "data", "score", "label column", "number of shards"])
def test_a_folder_of_another_run_is_refused(change: str, make_table) -> None:
    save(make_table(900), "npy")
    words: dict[str, Any] = {"shard_rows": 300}
    score_dataset("X.npy", "m.vae", "out", **words)
    before = {path: path.read_bytes() for path in Path("out").iterdir()}
    if change == "model":
        assert run("calibrate", "m.vae", "--rate", "0.3", "--output", "m.vae").exit_code == 0
    elif change == "data":
        np.save("X.npy", make_table(900, seed=1))
    else:
        words |= {"score": "kl"} if change == "score" else {}
        words |= {"label_column": "a"} if change == "label column" else {}
        words |= {"shard_rows": 200} if change == "number of shards" else {}
    with pytest.raises(
        DataError, match=rf"another run, which differs in {change}( \(.* there, .* here\))?: give another folder"
    ):
        score_dataset("X.npy", "m.vae", "out", **words)
    assert {path: path.read_bytes() for path in Path("out").iterdir()} == before


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 9999, '"a"'])
def test_a_damaged_run_is_refused(content: str, make_table) -> None:
    save(make_table(9), "npy")
    Path("out").mkdir()
    Path("out/_run.json").write_text(content)
    with pytest.raises(DataError, match=r"(is damaged|another run).*: give another folder"):
        score_dataset("X.npy", "m.vae", "out")


def test_a_folder_with_other_files_is_refused(make_table) -> None:
    save(make_table(9), "npy")
    Path("out").mkdir()
    Path("out/mine.txt").touch()
    assert (
        "out holds other files"
        in run("score", "X.npy", "--model", "m.vae", "--engine", "processes", "--output", "out").stderr
    )


@pytest.mark.parametrize(("kind", "row"), [("npy", 700), ("parquet", 700), ("zarr", 700), ("folder", 1200)])
@pytest.mark.filterwarnings("ignore:.*columns have no names")
def test_a_shard_with_infinity_is_reported_and_stops_no_other(
    monkeypatch, in_process, kind: str, row: int, make_table, table_detector
) -> None:
    X = make_table(N, seed=8)
    healthy = X.copy()
    X[row, 2] = np.inf
    where = save(X, kind)
    words = ("score", where, "--model", "m.vae", "--engine", "processes", "--shard-rows", 300, "--output", "out")
    result = run(*words)
    assert result.exit_code == 1
    line, summary = result.stderr.splitlines()
    shown = 200 if kind == "folder" else row  # in the file
    assert line.startswith("rows ")
    assert f"row {shown}, column " in line
    assert line.endswith("is inf: fill in or drop missing and infinite values first")
    assert "Error: 1 of " in summary
    (failed,) = json.loads(Path("out/_summary.json").read_text())["failed"]
    assert failed["start"] <= row < failed["start"] + failed["n_rows"]
    lost = range(failed["start"], failed["start"] + failed["n_rows"])
    table = parts()
    assert table["row"].tolist() == [i for i in range(N) if i not in lost]
    np.testing.assert_array_equal(table["anomaly_score"], np.delete(alone(healthy, table_detector), lost))
    assert run(*words).exit_code == 1


def test_a_shard_that_kills_its_workers_is_left_alone(monkeypatch, tmp_path, make_table, table_detector) -> None:
    save(make_table(900), "npy")
    killer = tmp_path / "killer.py"
    killer.write_text(
        "import os, signal\n"
        "from vae_anomaly.engines import shard, worker\n"
        "real = shard.ShardScorer.write\n"
        "def write(self, part, path):\n"
        "    if part.number == 1: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    real(self, part, path)\n"
        "shard.ShardScorer.write = write\n"
        "shard.MAX_ATTEMPTS = 2\n"
        "worker.main()\n"
    )
    started = []

    class Popen(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, command: list[str], **options: Any) -> None:
            super().__init__([sys.executable, "-P", str(killer)], **options)
            started.append(self)

    monkeypatch.setattr(processes.subprocess, "Popen", Popen)
    result = score_dataset("X.npy", "m.vae", "out", workers=2, shard_rows=300)
    (failure,) = result.failures
    assert (failure.shard.number, failure.error) == (1, "its worker died 2 times")
    assert result.n_rows == 600
    assert len(started) == 2 + 2
    assert all(process.poll() is not None for process in started)
    assert sorted(path.name for path in Path("out").glob(".*")) == []


def test_workers_that_cannot_start_are_one_error(monkeypatch, make_table) -> None:
    save(make_table(9), "npy")
    monkeypatch.setattr(processes.sys, "executable", "false")
    with pytest.raises(EngineError, match="a worker process could not start"):
        score_dataset("X.npy", "m.vae", "out")


def test_a_device_that_is_none_is_one_line(make_table) -> None:
    save(make_table(9), "npy")
    result = run(
        "score", "X.npy", "--model", "m.vae", "--engine", "processes", "--output", "out", "--device", "nothing"
    )
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: a worker process could not start: ")
    assert "device='nothing' cannot be used" in line


def test_another_model_is_noticed_by_the_worker(image_detector) -> None:
    task = Task("m.vae", read_checked(Path("m.vae")).file_digest, "out", "elbo", "cpu", None)
    image_detector.save("m.vae")
    with pytest.raises(ModelFileError, match="another model than the one that the run began with"):
        ShardScorer(task)


def test_data_that_shrinks_is_an_error_of_its_shard(make_table) -> None:
    (last,) = manifest(save(make_table(50), "npy")).shards
    np.save("X.npy", make_table(40))
    Path("out").mkdir()
    task = Task("m.vae", read_checked(Path("m.vae")).file_digest, "out", "elbo", "cpu", None)
    assert "was cut short while it was read: has 40 rows, not 50" in ShardScorer(task)(last)["error"]
    assert list(Path("out").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["X.npy", "--engine", "processes"], 2, "--engine needs --output"),
        (["-", "--engine", "processes", "--output", "out"], 2, "--engine needs --output and a file"),
        (["X.npy", "--engine", "processes", "--output", "out", "--resume"], 2, "takes no --fdr, --stream or --resume"),
        (
            ["X.npy", "--engine", "processes", "--output", "out", "--address", "a:1"],
            2,
            "--address goes with --engine ray",
        ),
        (["X.npy", "--workers", "2"], 2, "go with --engine"),
        (["memory://x.npy"], 2, "a URL needs --engine"),
        (["memory://x.npy", "--engine", "processes", "--output", "out"], 1, "does not exist, or holds no data"),
        (["nothing://x.npy", "--engine", "processes", "--output", "out"], 1, "nothing://x.npy cannot be read"),
        (["X.csv", "--engine", "processes", "--output", "out"], 1, "X.csv: is scored on one machine only: save it as"),
        (["X.npy", "--engine", "processes", "--output", "m.vae"], 2, "--output m.vae would replace --model m.vae"),
        (["X.npy", *RAY, "--address", "127.0.0.1:1"], 1, "the Ray cluster at 127.0.0.1:1 cannot be reached: "),
        (["X.npy", *RAY, "--address", "here"], 1, "the address of a Ray cluster is HOST:PORT"),
        (["X.npy", "--output", "."], 2, "is a directory"),
    ],
)
def test_mistakes_are_one_line(words: list[str], code: int, message: str, make_table) -> None:
    save(make_table(9), "npy")
    Path("X.csv").write_text("1,2\n")
    result = run("score", *words, "--model", "m.vae")
    assert (result.exit_code, message in result.stderr, result.stdout) == (code, True, ""), result.stderr


@given(
    st.lists(st.floats(allow_nan=False, width=64), min_size=1, max_size=60),
    st.lists(st.floats(0, 1), min_size=1, max_size=5),
    st.integers(1, 7),
)
def test_quantiles_are_exact(values: list[float], shares: list[float], step: int) -> None:
    array = np.array(values)
    pieces = [array[i : i + step] for i in range(0, len(array), step)]
    expected = [np.sort(array)[max(0, int(np.ceil(share * len(array))) - 1)] for share in shares]
    assert quantiles(lambda: iter(pieces), len(array), shares) == expected


def test_the_exit_code_reports_flagged_samples(in_process, make_table) -> None:
    save(50 * make_table(40), "npy")
    words = ("score", "X.npy", "--model", "m.vae", "--engine", "processes", "--output", "out")
    said = run(*words, "--fail-on-anomaly")
    assert said.exit_code == 3
    assert said.stdout.splitlines()[0] == "scored     40 samples, 40 flagged"
    assert run(*words).exit_code == 0
    assert is_whole(Path("out/part-000000.parquet"))
    assert pq.read_metadata("out/part-000000.parquet").num_rows == 40


def children(process: subprocess.Popen[str]) -> list[int]:
    """Workers of a command that runs; its threads start them."""
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(number) for task in tasks for number in task.read_text().split()]


def wait_for_more(process: subprocess.Popen[str]) -> None:
    """Until there is another part."""
    before, deadline = len(list(Path("out").glob("part-*"))), time.monotonic() + 60
    while len(list(Path("out").glob("part-*"))) == before and process.poll() is None:
        time.sleep(0.005)
        assert time.monotonic() < deadline


def is_running(number: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return bool(Path(f"/proc/{number}/cmdline").read_bytes())
    except OSError:
        return False


@pytest.mark.slow
def test_workers_and_commands_die_and_no_row_is_lost(make_table, table_detector, capsys) -> None:
    X = np.tile(make_table(20_000, seed=10), (15, 1))
    np.save("X.npy", X)
    words = ["score", "X.npy", "--model", "m.vae", "--engine", "processes", "--output", "out", "--shard-rows", "10000"]
    command = [sys.executable, "-P", "-m", "vae_anomaly.cli", *words, "--workers", "2"]
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        wait_for_more(process)
        os.kill(children(process)[0], signal.SIGKILL)
        wait_for_more(process)
        workers = children(process)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == code
        assert errors == (
            "" if code < 0 else "interrupted; the parts in out stay: the same command goes on from there\n"
        )
        deadline = time.monotonic() + 60
        while any(map(is_running, workers)):  # none outlives the command by more than a shard
            time.sleep(0.01)
            assert time.monotonic() < deadline
    assert 4 <= len(list(Path("out").glob("part-*"))) < 30
    complete(score_dataset("X.npy", "m.vae", "out", shard_rows=10_000), X, table_detector)
    with capsys.disabled():
        print(f"\n2 workers and 2 commands ended: {len(X) - len(parts())} rows lost or doubled")


@pytest.mark.usefixtures("in_process", "calibrated_for_one_score")
def test_tables_of_mixed_columns_have_the_scores_of_one_machine() -> None:
    frame = make_frame(1_500)
    detector = VAEDetector(epochs=1).fit(frame[:300])
    detector.save("mixed.vae")
    frame[frame.columns[::-1]].to_parquet("X.parquet", row_group_size=400)
    result = score_dataset("X.parquet", "mixed.vae", "out", shard_rows=BLOCK_ROWS)
    assert result.failures == ()
    np.testing.assert_array_equal(parts()["anomaly_score"], alone(frame, detector))
    frame.astype({"size": object}).assign(size="many").to_parquet("wrong.parquet")
    result = score_dataset("wrong.parquet", "mixed.vae", "wrong", shard_rows=BLOCK_ROWS)
    assert "wrong.parquet: row 0, column 'size' is 'many', and it was a number in training" in str(result.failures[0])


@pytest.mark.usefixtures("calibrated_for_one_score")
def test_workers_of_ray_score_tables_of_mixed_columns_as_one_machine_does() -> None:
    frame = make_frame(1_100)
    detector = VAEDetector(epochs=1).fit(frame[:300])
    detector.save("mixed.vae")
    frame.to_parquet("X.parquet", row_group_size=BLOCK_ROWS)
    _, digest = read_checked(Path("mixed.vae"))
    Path("out").mkdir()
    work = RayScorer(tuple(Task("mixed.vae", digest, "out", "elbo", "cpu", None)))
    for shard in manifest("X.parquet").shards:  # as Ray Data has a row: numbers of NumPy's
        row = {name: np.int64(value) if isinstance(value, int) else value for name, value in shard._asdict().items()}
        assert work(row) == {"number": shard.number, "error": None}
    np.testing.assert_array_equal(parts()["anomaly_score"], alone(frame, detector))
    assert parts()["key"].tolist() == frame["key"].tolist()
