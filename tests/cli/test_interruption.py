"""Interrupted commands: one line, the right exit code, nothing left behind, and a fit that goes on."""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from helpers import run
from vae_anomaly import VAEDetector
from vae_anomaly.cli.interruption import SIGNALS, interruptible
from vae_anomaly.fitted_model import FittedModel
from vae_anomaly.fitting.checkpoints import found
from vae_anomaly.fitting.run import Run

FIT = ["fit", "--normal", "0", "--dataset", "digits", "--epochs", "3", "--batch-size", "32"]
KEPT = ["--checkpoint", "my kept"]
CODES = [(number, 128 + number) for number in SIGNALS]


pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture(autouse=True)
def handlers_are_restored() -> Iterator[None]:
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


@contextlib.contextmanager
def signalled(number: int, owner: type = Run, name: str = "step", n: int = 1) -> Iterator[None]:
    """Send this process a signal in the n-th call of a method."""
    calls, method = 0, getattr(owner, name)

    def signalling(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == n:
            os.kill(os.getpid(), number)
        return method(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, signalling)
        yield


@pytest.mark.parametrize(("number", "code"), CODES)
def test_a_stopped_fit_says_how_to_go_on_and_does(own_folder: Path, number: int, code: int) -> None:
    assert run(*FIT, "--output", "whole.vae").exit_code == 0
    with signalled(number, n=5):
        stopped = run(*FIT, *KEPT)
    assert (stopped.exit_code, stopped.stdout) == (code, "")
    (line,) = stopped.stderr.splitlines()
    start = "interrupted; to go on: vae-anomaly "
    assert line.startswith(start)
    (checkpoint,) = found(own_folder / "my kept")
    assert int(checkpoint.stem) >= 5
    refused = run(*FIT, *KEPT)
    assert refused.exit_code == 1
    assert refused.stderr.startswith("Error: my kept holds the checkpoint of an unfinished fit: resume it")
    assert found(own_folder / "my kept") == [checkpoint]
    resumed = run(*shlex.split(line.removeprefix(start)))
    assert (resumed.exit_code, resumed.stderr) == (0, "")
    assert Path("model.vae").read_bytes() == Path("whole.vae").read_bytes()
    assert Path("model.scores.csv").read_bytes() == Path("whole.scores.csv").read_bytes()
    assert list(Path("my kept").iterdir()) == []


def test_interrupted_after_training_it_goes_on_from_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with signalled(signal.SIGTERM, VAEDetector, "save"):
        stopped = run(*FIT, *KEPT)
    assert stopped.exit_code == 143
    assert stopped.stderr.endswith("--resume\n")
    monkeypatch.setattr(Run, "step", lambda run: pytest.fail("took a step again"))
    assert run(*FIT, *KEPT, "--resume").exit_code == 0


@pytest.mark.parametrize(("number", "code"), CODES)
def test_without_checkpoints_a_fit_just_stops(own_folder: Path, number: int, code: int) -> None:
    with signalled(number, n=3):
        stopped = run(*FIT)
    assert (stopped.exit_code, stopped.stdout, stopped.stderr) == (code, "", "interrupted\n")
    assert list(own_folder.iterdir()) == []


def test_resume_says_where_there_is_nothing_to_go_on_from() -> None:
    result = run(*FIT, *KEPT, "--resume")
    assert (result.exit_code, result.stderr) == (0, "note: my kept holds no checkpoint: starting from the beginning\n")
    usage = run(*FIT, "--resume")
    assert usage.exit_code == 2
    assert "--resume needs --checkpoint" in usage.stderr


def test_a_damaged_checkpoint_is_reported_in_one_line(own_folder: Path) -> None:
    assert run(*FIT, "--output", "whole.vae").exit_code == 0
    with signalled(signal.SIGTERM, n=5):
        assert run(*FIT, *KEPT, "--checkpoint-interval", 0).exit_code == 143
    newest, before = found(own_folder / "my kept")
    newest.write_bytes(newest.read_bytes()[:-9])
    (line,) = run(*FIT, *KEPT, "--resume").stderr.splitlines()
    assert line.startswith(f"note: {Path('my kept') / newest.name} is damaged")
    assert line.endswith(f"going on from the one before, {before.name}")
    assert Path("model.vae").read_bytes() == Path("whole.vae").read_bytes()


@pytest.mark.parametrize(("number", "code"), CODES)
@pytest.mark.parametrize("extra", [[], ["--output", "s.csv"], ["--output", "s.parquet"], ["--fdr", "0.1"]])
def test_other_commands_leave_nothing_behind(
    own_folder: Path, table_detector: VAEDetector, extra: list[str], number: int, code: int
) -> None:
    table_detector.save("model.vae")
    np.save("X.npy", np.zeros((5, 6)))
    before = sorted(own_folder.iterdir())
    with signalled(number, FittedModel, "by_block"):
        stopped = run("score", "X.npy", *extra)
    assert (stopped.exit_code, stopped.stdout, stopped.stderr) == (code, "", "interrupted\n")
    assert sorted(own_folder.iterdir()) == before


def test_what_an_interruption_breaks_is_no_error_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    def half_done() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            raise ImportError("half done") from None

    before = {number: signal.getsignal(number) for number in SIGNALS}
    with pytest.raises(click.exceptions.Exit) as leaving, interruptible():
        half_done()
    for number, handler in before.items():
        assert signal.signal(number, handler) is signal.SIG_IGN
    assert leaving.value.exit_code == 143
    assert capsys.readouterr().err == "interrupted\n"
    with pytest.raises(ImportError, match="missing"), interruptible():
        raise ImportError("missing")


def test_an_interruption_that_a_finaliser_swallows_comes_again(capsys: pytest.CaptureFixture[str]) -> None:
    class Signalled:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    def work() -> None:
        Signalled()
        time.sleep(60)
        pytest.fail("went on")

    before = {number: signal.getsignal(number) for number in SIGNALS}
    with pytest.raises(click.exceptions.Exit) as leaving, interruptible():
        work()
    for number, handler in before.items():
        signal.signal(number, handler)
    assert leaving.value.exit_code == 143
    assert capsys.readouterr().err == "interrupted\n"


def test_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


WRITES = """
import itertools, sys
from pathlib import Path
import click
from vae_anomaly.cli import main
from vae_anomaly.storage.atomic import atomic_folder, atomic_write, check_writable
@click.command()
def write():
    print("ready", flush=True)
    for n in itertools.count():
        check_writable(Path("a"))
        with atomic_write(Path("a")) as file:
            file.write(b"%d" % (n % 10) * 100_000)
        with atomic_folder(Path("b"), lambda path: None) as folder:
            (folder / "c").write_bytes(b"%d" % (n % 10) * 100_000)
main.add_command(write)
main(["write"], prog_name="vae-anomaly")
"""
ROUNDS = 30


SIGNALLED_WHILE_HANDLING = """
import os, signal, threading
from vae_anomaly.cli.interruption import interruptible
notify_all = threading.Condition.notify_all
def signalled(condition):
    os.kill(os.getpid(), signal.SIGTERM)
    notify_all(condition)
with interruptible():
    threading.Condition.notify_all = signalled
    os.kill(os.getpid(), signal.SIGHUP)
"""


def writer(folder: Path, *, before: str = "") -> subprocess.Popen[bytes]:
    """A process that writes a file and a folder again and again, and has begun to."""
    words = [sys.executable, "-P", "-c", before + WRITES]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(words, cwd=folder, **pipes)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def ended(process: subprocess.Popen[bytes]) -> bytes:
    """What a process wrote to its stderr until its end; one that does not end is killed, and fails the test."""
    try:
        return process.communicate(timeout=60)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise


def is_whole(folder: Path) -> bool:
    """Whether nothing hidden is there, and each file is of one write."""
    entries = {path.name for path in folder.iterdir()}
    files = [path.read_bytes() for path in (folder / "a", folder / "b" / "c") if path.exists()]
    return entries <= {"a", "b"} and all(len(file) == 100_000 and len(set(file)) == 1 for file in files)


def test_two_signals_at_once_leave_nothing_half_done(tmp_path: Path) -> None:
    rng = random.Random(0)
    for _ in range(ROUNDS):
        process = writer(tmp_path)
        time.sleep(rng.uniform(0, 0.05))
        first, *more = (rng.choice(SIGNALS) for _ in range(rng.choice([2, 2, 5])))
        process.send_signal(first)
        for number in more:
            time.sleep(rng.uniform(0, 0.001))
            process.send_signal(number)
        assert ended(process) == b"interrupted\n"
        assert process.returncode in {128 + number for number in (first, *more)}
        assert is_whole(tmp_path), sorted(tmp_path.rglob("*"))


def test_a_signal_that_is_handled_waits_for_no_further_one() -> None:
    process = subprocess.Popen([sys.executable, "-P", "-c", SIGNALLED_WHILE_HANDLING], stderr=subprocess.PIPE)
    stderr = ended(process)
    assert stderr.startswith(b"interrupted\n")
    assert b"Exit: 129" in stderr


def test_a_process_that_is_ending_ignores_further_signals(tmp_path: Path) -> None:
    late = "import atexit, os, signal\n@atexit.register\ndef late(): os.kill(os.getpid(), signal.SIGTERM)\n"
    process = writer(tmp_path, before=late)
    process.send_signal(signal.SIGHUP)
    ended(process)
    assert process.returncode == 129


def test_nohup_is_heeded(tmp_path: Path) -> None:
    process = writer(tmp_path, before="import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    process.send_signal(signal.SIGHUP)
    time.sleep(0.1)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    ended(process)
    assert process.returncode == 143


def test_a_terminal_that_is_gone_changes_no_exit_code(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    words = [sys.executable, "-P", "-c", WRITES]
    process = subprocess.Popen(words, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    assert os.read(ours, 100).startswith(b"ready")
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 129
    assert is_whole(tmp_path)


KILLS = 20
DIES_WRITING = """
import os, signal, sys
from vae_anomaly.cli import main
name, moment, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
calls, function = 0, getattr(os, name)
def dying(*args):
    global calls
    calls += 1
    if calls < n or moment == "after":
        function(*args)
    if calls == n:
        os.kill(os.getpid(), signal.SIGKILL)
setattr(os, name, dying)
main(sys.argv[4:], prog_name="vae-anomaly")
"""
WRITING = [("fsync", "before", 6), ("fsync", "after", 9), ("replace", "before", 3), ("replace", "after", 8)]


def process(*words: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-P", *words], env=environment, **quiet)  # type: ignore[call-overload]


@pytest.mark.slow
def test_twenty_kills_change_no_bit(own_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fit", "--normal", "0,1,2", "--dataset", "digits", "--epochs", "100", "--no-report", "--output"]
    command, folder = ["-m", "vae_anomaly.cli", *arguments], own_folder / "kept"
    kept = ["model.vae", "--checkpoint", "kept", "--checkpoint-interval", "0.05", "--resume"]
    assert process(*command, "whole.vae").wait() == 0
    rng, kills, finished = random.Random(0), 0, 0

    def survive(code: int) -> None:
        nonlocal kills, finished
        if code == -signal.SIGKILL:
            kills += 1
            return
        finished += 1
        assert code == 0
        assert Path("model.vae").read_bytes() == Path("whole.vae").read_bytes()
        assert list(folder.iterdir()) == []

    for name, moment, n in WRITING:
        survive(process("-c", DIES_WRITING, name, moment, str(n), *arguments, *kept).wait())
    assert kills == len(WRITING)
    while kills < KILLS:
        before = found(folder)[:1]
        fit = process(*command, *kept)
        while fit.poll() is None and found(folder)[:1] == before:
            time.sleep(0.01)  # a process that dies while it is still loading proves nothing
        time.sleep(rng.uniform(0, 1))
        fit.kill()
        survive(fit.wait())
    survive(process(*command, *kept).wait())
    with capsys.disabled():
        print(f"\n{kills} kills, {len(WRITING)} of them while writing; {finished} fits ended, each in the same bytes")


@pytest.mark.parametrize("rounds", [0, 8_000_000])
def test_a_signal_that_has_to_wait_says_so(rounds: int, tmp_path: Path) -> None:
    """It waits for a computation that does not return to Python before it is done, here of a digest."""
    code = (
        "import hashlib, os, signal, threading, time, click\n"
        "from vae_anomaly.cli.interruption import interruptible\n"
        "threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()\n"
        "try:\n"
        "    with interruptible():\n"
        f"        {rounds} and hashlib.pbkdf2_hmac('sha256', b'', b'', {rounds})\n"
        "        time.sleep(30)\n"
        "except click.exceptions.Exit as error:\n"
        "    raise SystemExit(error.exit_code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    waits = ["note: interrupted as soon as the computation under way is done"] if rounds else []
    assert (done.returncode, done.stderr.splitlines()) == (143, [*waits, "interrupted"])
