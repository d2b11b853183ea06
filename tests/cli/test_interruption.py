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
from click.testing import CliRunner, Result

from vae_anomaly import VAEDetector
from vae_anomaly.cli import main
from vae_anomaly.cli.interruption import SIGNALS, interruptible
from vae_anomaly.fitted_model import FittedModel
from vae_anomaly.fitting.checkpoints import found
from vae_anomaly.fitting.run import Run

FIT = ["fit", "--normal", "0", "--dataset", "digits", "--epochs", "3", "--batch-size", "32"]
KEPT = ["--checkpoint", "my kept"]
CODES = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


def run(*arguments: object) -> Result:
    before = [signal.getsignal(number) for number in SIGNALS]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert [signal.getsignal(number) for number in SIGNALS] == before
    return result


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


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


def test_a_damaged_checkpoint_is_told_in_one_line(own_folder: Path) -> None:
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
    with signalled(number, FittedModel, "elbo_terms"):
        stopped = run("score", "X.npy", *extra)
    assert (stopped.exit_code, stopped.stdout, stopped.stderr) == (code, "", "interrupted\n")
    assert sorted(own_folder.iterdir()) == before


def test_what_an_interruption_breaks_is_no_error_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    def half_done() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            raise ImportError("half done") from None

    with pytest.raises(click.exceptions.Exit) as leaving, interruptible():
        half_done()
    assert leaving.value.exit_code == 143
    assert capsys.readouterr().err == "interrupted\n"
    with pytest.raises(ImportError, match="missing"), interruptible():
        raise ImportError("missing")


def test_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


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
