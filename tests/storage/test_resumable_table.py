"""Scores that survive being killed: the same bytes in the end, no row twice and none left out."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import ROOT, run
from vae_anomaly import VAEDetector
from vae_anomaly.cli import options
from vae_anomaly.errors import DataError
from vae_anomaly.fitted_model import FittedModel
from vae_anomaly.storage.resumable_table import open_resumable_table
from vae_anomaly.storage.run_identity import RunIdentity

SUFFIXES = (".csv", ".jsonl")


def frame_of(first: int, n: int) -> pd.DataFrame:
    rows = np.arange(first, first + n)
    return pd.DataFrame({"index": rows, "anomaly_score": np.sin(rows), "decision": rows % 3 == 0, "file": 'a,"\n'})


class Killed(BaseException):
    """What no handler of errors catches."""


@pytest.fixture
def scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table_detector: VAEDetector, make_table) -> Path:
    """A folder with a model, and 50 rows in every kind of file, to be scored seven at a time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(options, "CHUNK_BYTES", 8 * 6 * 7)
    table_detector.save(Path("m.vae"))
    X = make_table(50, seed=3)
    np.save("X.npy", X)
    np.savez("X.npz", X=X)
    pd.DataFrame(X).to_csv("X.csv", index=False, header=False)
    pd.DataFrame(X, columns=list("abcdef")).to_parquet("X.parquet", row_group_size=9)
    return tmp_path


@pytest.mark.filterwarnings("ignore:.*columns have no names")
@pytest.mark.parametrize("kind", ["npy", "npz", "csv", "parquet"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_cut_at_any_chunk_it_continues_to_the_same_bytes(scored: Path, monkeypatch, kind: str, suffix: str) -> None:
    words = ("score", f"X.{kind}", "--model", "m.vae", "--output")
    assert run(*words, f"whole{suffix}").exit_code == 0
    whole = Path(f"whole{suffix}").read_bytes()
    real = FittedModel.score_table_of
    for n_runs in range(1, 12):
        left = iter(range(2))

        def cut(model: FittedModel, X: np.ndarray, left=left) -> object:
            if next(left, None) is None:
                raise Killed
            return real(model, X)

        with monkeypatch.context() as patch:
            patch.setattr(FittedModel, "score_table_of", cut)
            try:
                assert run(*words, f"s{suffix}", "--resume").exit_code == 0
            except Killed:
                partial = Path(f"s{suffix}.partial")
                assert whole.startswith(partial.read_bytes())
                assert len(partial.read_bytes().splitlines()) >= 2 * n_runs
                with partial.open("ab") as file:
                    file.write(b"7,0.3,to")  # what a kill in the middle of a chunk leaves
            else:
                break
    assert 4 <= n_runs < 11
    assert Path(f"s{suffix}").read_bytes() == whole
    assert not list(scored.glob("*.partial*"))


def test_a_folder_of_images_continues_too(tmp_path: Path, monkeypatch, image_detector, make_images) -> None:
    monkeypatch.chdir(tmp_path)
    image_detector.save(Path("m.vae"))
    Path("images").mkdir()
    for i, pixels in enumerate(make_images(12)):
        Image.fromarray(pixels).save(f"images/{i:02}.png")
    words = ("score", "images", "--model", "m.vae", "--output")
    assert run(*words, "whole.csv").exit_code == 0
    begin(words, pd.read_csv("whole.csv").head(5))
    assert run(*words, "s.csv", "--resume").exit_code == 0
    assert Path("s.csv").read_bytes() == Path("whole.csv").read_bytes()


def begin(words: tuple[str, ...], frame: pd.DataFrame) -> None:
    """Leave what the command would, killed after its first rows."""
    from vae_anomaly.cli.data import reading_for
    from vae_anomaly.cli.score_table import Source, identity_of
    from vae_anomaly.datasets.reading import INFERRED

    model = FittedModel.load(words[3])
    identity = identity_of(model, Source(Path(words[1]), None, reading_for(model, INFERRED), ()))
    with contextlib.suppress(Killed), open_resumable_table(Path("s.csv"), identity) as table:
        table.write(frame)
        raise Killed


@pytest.mark.parametrize("change", ["model", "data", "score", "label column", "number of threads"])
def test_another_run_is_not_continued(scored: Path, monkeypatch, make_table, change: str) -> None:
    words = ["score", "X.npy", "--model", "m.vae", "--output", "s.csv", "--resume"]
    begin(tuple(words), frame_of(0, 7))
    if change == "model":
        assert run("calibrate", "m.vae", "--rate", "0.3", "--output", "m.vae").exit_code == 0
    elif change == "data":
        np.save("X.npy", make_table(49))
    elif change == "score":
        words += ["--score", "kl"]
    elif change == "label column":
        words += ["--label-column", "a"]
    else:
        monkeypatch.setattr("torch.get_num_threads", lambda: 99)
    before = Path("s.csv.partial").read_bytes()
    result = run(*words)
    assert result.exit_code == 1
    assert f"s.csv belongs to another run, which differs in {change}" in result.stderr
    assert "remove s.csv.partial to start over" in result.stderr
    assert Path("s.csv.partial").read_bytes() == before


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"rows": 1}', "[" * 9999, '{"rows":1,"flagged":0,"bytes":99,"identity":{}}']
)
def test_progress_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "s.csv.partial").write_bytes(b"12345")
    (tmp_path / "s.csv.partial.json").write_text(content)
    with (
        pytest.raises(DataError, match="partial to start over"),
        open_resumable_table(tmp_path / "s.csv", RunIdentity({})),
    ):
        pass
    assert (tmp_path / "s.csv.partial").read_bytes() == b"12345"


def test_rows_that_are_not_as_they_were_written_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    partial, progress = tmp_path / "s.csv.partial", tmp_path / "s.csv.partial.json"
    with contextlib.suppress(Killed), open_resumable_table(path, RunIdentity({})) as table:
        table.write(frame_of(0, 3))
        raise Killed
    rows, counts = partial.read_bytes(), progress.read_text()
    assert '"rows": 3' in counts
    altered = [(rows[:i] + bytes([rows[i] ^ 1]) + rows[i + 1 :], counts) for i in range(len(rows))]
    altered += [(rows, counts.replace('"rows": 3', f'"rows": {n}')) for n in (2, 4)]
    altered += [
        (rows, counts.replace('"flagged": 1', '"flagged": 2')),
        (rows, counts.replace('"bytes": ', '"bytes": 1')),
    ]
    for content, text in altered:
        partial.write_bytes(content)
        progress.write_text(text)
        with (
            pytest.raises(
                DataError, match=r"(not as they were written|does not fit what is there).*partial to start over"
            ),
            open_resumable_table(path, RunIdentity({})),
        ):
            pass
        assert partial.read_bytes() == content
    partial.write_bytes(rows)
    progress.write_text(counts)
    with open_resumable_table(path, RunIdentity({})) as table:
        table.write(frame_of(3, 2))
    assert pd.read_csv(path)["index"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["s.csv.partial", "s.csv.partial.json"])
@pytest.mark.parametrize("make", [os.link, os.symlink, shutil.copy])
def test_what_is_not_ours_is_left_alone(tmp_path: Path, name: str, make: Callable[[Path, Path], object]) -> None:
    path, mine = tmp_path / "s.csv", tmp_path / "mine.txt"
    mine.write_text("gold")
    make(mine, tmp_path / name)
    with pytest.raises(DataError, match=r"to start over|move it away"), open_resumable_table(path, RunIdentity({})):
        pass
    assert mine.read_text() == (tmp_path / name).read_text() == "gold"
    assert not path.exists()


def test_progress_without_its_rows_starts_over(tmp_path: Path) -> None:
    (tmp_path / "s.csv.partial.json").write_text('{"rows": 3, "flagged": 0, "bytes": 99, "identity": {}}')
    with open_resumable_table(tmp_path / "s.csv", RunIdentity({})) as table:
        assert table.n_rows == 0
        table.write(frame_of(0, 2))
    assert len(pd.read_csv(tmp_path / "s.csv")) == 2


def test_two_runs_do_not_write_one_table(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    with open_resumable_table(path, RunIdentity({})) as table:
        table.write(frame_of(0, 2))
        with (
            pytest.raises(DataError, match="is being written by another run"),
            open_resumable_table(path, RunIdentity({})),
        ):
            pass
        table.write(frame_of(2, 2))
    assert len(pd.read_csv(path)) == 4


def test_flagged_samples_of_earlier_runs_count(scored: Path, make_table) -> None:
    np.save("X.npy", np.concatenate([50 * make_table(7), np.zeros((1, 6))]))
    words = ("score", "X.npy", "--model", "m.vae", "--output", "s.csv", "--resume")
    assert run("score", "X.npy", "--model", "m.vae", "--output", "whole.csv").exit_code == 0
    begin(words, pd.read_csv("whole.csv").head(7))
    assert run(*words, "--fail-on-anomaly").exit_code == 3


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["X.npy", "--resume"], 2, "--resume needs --output"),
        (["-", "--resume", "--output", "s.csv"], 2, "--resume needs --output and a file"),
        (["X.npy", "--resume", "--output", "s.csv", "--fdr", "0.1"], 2, "does not go with --fdr"),
        (["X.npy", "--resume", "--output", "s.parquet"], 1, "--resume goes with .csv and .jsonl, not '.parquet'"),
    ],
)
def test_what_does_not_go_with_resume(scored: Path, words: list[str], code: int, message: str) -> None:
    result = run("score", "--model", "m.vae", *words)
    assert result.exit_code == code
    assert message in result.stderr
    assert not list(scored.glob("s.*"))


WRITE = """
import sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from test_resumable_table import frame_of
from vae_anomaly.storage.resumable_table import open_resumable_table
from vae_anomaly.storage.run_identity import RunIdentity
with open_resumable_table(Path(sys.argv[1]), RunIdentity({"a": 1})) as table:
    print(table.n_rows, flush=True)
    for first in range(table.n_rows, 300, 10):
        table.write(frame_of(first, 10))
"""


def content(path: Path) -> bytes:
    """What a file that may come and go holds."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return b""


def finish_by_kills(command: list[str], output: Path, rng: np.random.Generator, seconds: float) -> int:
    """Start a command again and again until its output is there; how many kills that took.

    Each kill comes at a random moment of the given ``seconds``, but after the run got further, so that a busy machine
    ends it too.
    """
    progress = output.with_name(output.name + ".partial.json")
    n_kills = 0
    while not output.exists():
        before = content(progress)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=output.parent)
        while process.poll() is None and content(progress) in (before, b""):
            time.sleep(0.005)
        try:
            _, errors = process.communicate(timeout=rng.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            n_kills += 1
        else:
            assert (process.returncode, errors) == (0, b"")
    return n_kills


def survive_kills(command: list[str], output: Path, whole: Path, n_kills: int) -> None:
    """``output`` comes out as ``whole`` each time, until the kills are enough: sooner ones where a run is quick."""
    rng, seconds = np.random.default_rng(0), 0.2
    while n_kills > 0:
        n_kills -= finish_by_kills(command, output, rng, seconds)
        assert output.read_bytes() == whole.read_bytes()
        assert not list(output.parent.glob("*.partial*"))
        output.unlink()
        seconds /= 2


def test_tables_survive_real_kills(tmp_path: Path) -> None:
    with open_resumable_table(tmp_path / "whole.jsonl", RunIdentity({"a": 1})) as table:
        for first in range(0, 300, 10):
            table.write(frame_of(first, 10))
    path = tmp_path / "s.jsonl"
    command = [sys.executable, "-c", WRITE, str(path), str(Path(__file__).parent), str(ROOT / "tests/support")]
    survive_kills(command, path, tmp_path / "whole.jsonl", n_kills=1)


SCORE = """
import sys
from vae_anomaly.cli import main, options, score
import vae_anomaly.fitted_model
options.CHUNK_BYTES = 8 * 6 * 48
print("ready", flush=True)
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_the_command_survives_real_kills(tmp_path: Path, table_detector: VAEDetector, make_table) -> None:
    table_detector.save(tmp_path / "m.vae")
    np.save(tmp_path / "X.npy", make_table(6_000, seed=4))
    python = [sys.executable, "-P", "-c", SCORE, "score", "X.npy", "--model", "m.vae", "--output"]
    subprocess.run([*python, "whole.csv"], cwd=tmp_path, check=True, capture_output=True)
    assert pd.read_csv(tmp_path / "whole.csv")["row"].tolist() == list(range(6_000))
    survive_kills([*python, "s.csv", "--resume"], tmp_path / "s.csv", tmp_path / "whole.csv", n_kills=10)
