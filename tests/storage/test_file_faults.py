"""Files are complete or absent: whatever fails while one is written, and whoever else writes it."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers import run
from vae_anomaly import VAEDetector
from vae_anomaly.reports import record_frame, write_benchmark
from vae_anomaly.storage.atomic import atomic_folder, atomic_write, check_writable
from vae_anomaly.storage.score_table import open_score_table

FAULTS = (errno.ENOSPC, errno.EACCES, errno.EIO, errno.EROFS, errno.EDQUOT)
CALLS = ("touch", "write", "fsync", "chmod", "replace")
FRAME = pd.DataFrame({"index": range(5), "anomaly_score": np.arange(5.0)})


def inject(monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
    """Let a system call that writing needs fail as the system would."""

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    if call == "write":
        opened = Path.open

        class Full:
            def __init__(self, file):
                self.file = file

            def __enter__(self):
                return self

            def __exit__(self, *error):
                self.file.close()

            def __getattr__(self, name):
                return fail if name in ("write", "writelines") else getattr(self.file, name)

        monkeypatch.setattr(
            Path,
            "open",
            lambda path, *a, **k: Full(opened(path, *a, **k)) if ".part" in path.name else opened(path, *a, **k),
        )
    elif call in ("touch", "replace"):
        monkeypatch.setattr(Path, call, fail)
    else:
        monkeypatch.setattr(os, call, fail)


@pytest.mark.parametrize("number", FAULTS)
@pytest.mark.parametrize(
    ("call", "old"),  # only what replaces a file has its mode changed
    [*product(CALLS, [b"old"]), *((call, None) for call in CALLS if call != "chmod")],
)
def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, old: bytes | None
) -> None:
    path = tmp_path / "file.csv"
    if old is not None:
        path.write_bytes(old)
    with monkeypatch.context() as patch:
        inject(patch, call, number)
        with pytest.raises(OSError, match=os.strerror(number)) as caught, atomic_write(path) as file:
            file.write(b"new" * 100_000)
    assert caught.value.filename == str(path)
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == ([] if old is None else [old])


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
@pytest.mark.parametrize(
    ("call", "old"), [*product(["mkdir", "fsync", "first replace"], [True, False]), ("second replace", True)]
)
def test_a_failed_folder_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: BaseException, old: bool
) -> None:
    path = tmp_path / "folder"
    if old:
        path.mkdir()
        (path / "file").write_text("old")
    calls, (home, name) = [], (os, "fsync") if call == "fsync" else (Path, call.split()[-1])
    works = getattr(home, name)

    def fails(*args: object, **options: object) -> object:
        calls.append(args)
        if len(calls) == 1 + (call == "second replace"):
            raise error
        return works(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(home, name, fails)
        with pytest.raises(type(error)) as caught, atomic_folder(path, check) as part:
            (part / "file").write_text("new")
    if isinstance(error, OSError):
        assert caught.value.filename == str(path)
    assert [entry.name for entry in tmp_path.iterdir()] == (["folder"] if old else [])
    assert not old or (path / "file").read_text() == "old"
    with atomic_folder(path, check) as part:
        (part / "file").write_text("new")
    assert (path / "file").read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def check(path: Path) -> None:
    """Any folder may be replaced."""


def table_writer(suffix: str) -> Callable[[Path, VAEDetector], object]:
    def write(path: Path, _: VAEDetector) -> None:
        with open_score_table(path.with_suffix(suffix)) as append:
            append(FRAME)
            append(FRAME)

    return write


def benchmark(path: Path, _: VAEDetector) -> None:
    record = {"method": "a", "score": "own", "case": "x", "test": "all", "seed": 0, "error": None}
    numbers = ("roc_auc", "average_precision", "fpr_at_95_tpr", "fit_seconds", "score_seconds")
    write_benchmark(path.parent, path.stem, record_frame([record | dict.fromkeys(numbers, 0.5)]), {}, [])


WRITERS: dict[str, Callable[[Path, VAEDetector], object]] = {
    ".vae": lambda path, detector: detector.save(path),
    ".md": benchmark,
    **{suffix: table_writer(suffix) for suffix in (".csv", ".jsonl", ".npy", ".parquet")},
}


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("call", CALLS)
def test_every_kind_of_output_is_whole_or_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table_detector: VAEDetector, suffix: str, call: str
) -> None:
    WRITERS[suffix](tmp_path / f"out{suffix}", table_detector)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert f"out{suffix}" in before
    with monkeypatch.context() as patch:
        inject(patch, call, errno.ENOSPC)
        with pytest.raises(OSError, match="No space left") as caught:
            WRITERS[suffix](tmp_path / f"out{suffix}", table_detector)
    assert str(caught.value.filename).startswith(str(tmp_path / "out"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_folder_and_file_are_forced_to_disk_around_the_renaming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def logged(descriptor: int) -> None:
        calls.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", logged)
    monkeypatch.setattr(Path, "replace", lambda path, to: (calls.append("replace"), replace(path, to))[1])
    with atomic_write(tmp_path / "a") as file:
        file.write(b"x")
    assert calls == ["file", "replace", "folder"]


def test_a_folder_that_vanishes_is_one_error(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    with pytest.raises(FileNotFoundError) as caught, atomic_write(folder / "a"):
        folder.rename(tmp_path / "away")
    assert caught.value.filename == str(folder / "a")
    assert not folder.exists()


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/null", path)])
def test_pipes_and_devices_are_not_replaced(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "a")
    before = (tmp_path / "a").lstat().st_ino
    with pytest.raises(OSError, match="not a file that could be replaced"), atomic_write(tmp_path / "a"):
        pass
    assert (tmp_path / "a").lstat().st_ino == before


def test_asking_whether_a_file_can_be_written_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    for name in ("a", "b"):
        check_writable(tmp_path / name)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"old"}
    with pytest.raises(IsADirectoryError, match="is a folder: give the name of a file"):
        check_writable(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        check_writable(tmp_path / "none" / "a")


@pytest.mark.parametrize("call", ["touch", "open"])
def test_a_file_that_cannot_be_written_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def refuse(path: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, call, refuse)
    with pytest.raises(OSError, match="Permission denied") as caught:
        check_writable(tmp_path / "a")
    assert caught.value.filename == str(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_only_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    stale, other, foreign = (
        tmp_path / name for name in (".a.01234abc.part", ".b.01234abc.part", ".a.my_own_notes.part")
    )
    for path in (stale, other, foreign):
        path.write_bytes(b"")
    with atomic_write(tmp_path / "a"):
        (alive,) = (path for path in tmp_path.glob(".a.????????.part") if path != stale)
        assert not stale.exists()
        with atomic_write(tmp_path / "a"):
            assert alive.exists()
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "a", other, foreign])


def python(code: str, *arguments: object, **options: object) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-P", "-c", code, *map(str, arguments)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


WRITE = """
import sys
from pathlib import Path
from vae_anomaly.storage.atomic import atomic_write
path, letter, times = Path(sys.argv[1]), sys.argv[2].encode(), int(sys.argv[3])
print("ready", flush=True)
for _ in range(times):
    with atomic_write(path) as file:
        for _ in range(64):
            file.write(letter * 4096)
"""


def test_processes_that_write_one_file_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "a"
    writers = [python(WRITE, path, letter, 40) for letter in "abc"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            content = path.read_bytes()
            assert len(content) == 64 * 4096
            assert content == content[:1] * len(content)
            seen.add(content[:1])
    for writer in writers:
        assert writer.communicate()[1] == b""
        assert writer.returncode == 0
    assert len(seen) > 1
    assert os.listdir(tmp_path) == ["a"]


def test_a_killed_writer_leaves_the_old_file_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    rng = np.random.default_rng(0)
    for _ in range(12):
        writer = python(WRITE, path, "x", 10**6)
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0, 0.03))
        writer.kill()
        writer.communicate()
        assert path.read_bytes() in (b"old", b"x" * 64 * 4096)
    with atomic_write(path) as file:
        file.write(b"new")
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("suffix", [".vae", ".npy"])
def test_a_real_limit_on_file_size_ends_in_one_line(tmp_path: Path, table_detector: VAEDetector, suffix: str) -> None:
    table_detector.save(tmp_path / "m.vae")
    path = tmp_path / f"out{suffix}"
    path.write_bytes(b"old")
    command = ["calibrate", "m.vae"] if suffix == ".vae" else ["sample", "-n", "5000", "--model", "m.vae"]
    writer = subprocess.run(
        [sys.executable, "-m", "vae_anomaly.cli", *command, "--output", path.name],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert writer.returncode == 1
    assert writer.stderr.splitlines()[-1].startswith(f"Error: out{suffix}"), writer.stderr
    assert "Traceback" not in writer.stderr
    assert path.read_bytes() == b"old"
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize(
    "words", [["inspect", "m.vae"], ["inspect", "m.vae", "--json"], ["score", "X.npy", "--model", "m.vae"]]
)
def test_a_full_standard_output_is_one_line(tmp_path: Path, table_detector: VAEDetector, words: list[str]) -> None:
    table_detector.save(tmp_path / "m.vae")
    np.save(tmp_path / "X.npy", np.zeros((3, 6)))
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "vae_anomaly.cli", *words]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)
    assert result.stderr == "Error: standard output: No space left on device\n"
    assert result.returncode == 1


def test_the_command_line_names_the_file(tmp_path: Path, table_detector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table_detector.save(Path("m.vae"))
    np.save("X.npy", np.zeros((3, 6)))
    Path("s.jsonl").write_text("old")
    for call in CALLS:
        with monkeypatch.context() as patch:
            inject(patch, call, errno.EROFS)
            result = run("score", "X.npy", "--model", "m.vae", "--output", "s.jsonl")
        assert (result.exit_code, result.stderr) == (1, "Error: s.jsonl: Read-only file system\n")
    assert Path("s.jsonl").read_text() == "old"
    assert len(os.listdir()) == 3
