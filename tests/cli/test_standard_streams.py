"""Commands that are started without some of the standard streams do their work, and end with the same exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vae_anomaly.cli import main

CLOSINGS = ("<&-", ">&-", "2>&-", "<&- >&- 2>&-")
COMMAND = f"{sys.executable} -P -m vae_anomaly.cli"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="closes descriptors by a POSIX shell")


def closed(words: str, closing: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["sh", "-c", f"{words} {closing}"], cwd=folder, capture_output=True, timeout=120, check=False)


@pytest.mark.parametrize("name", main.commands)
def test_every_command_ends_as_ever(tmp_path: Path, name: str) -> None:
    closing = CLOSINGS[1 + list(main.commands).index(name) % 3]
    assert closed(f"{COMMAND} {name} --help", closing, tmp_path).returncode == 0
    wrong = closed(f"{COMMAND} {name} --no-such-option", closing, tmp_path)
    assert wrong.returncode == 2
    assert (b"No such option" in wrong.stderr) == ("2>" not in closing)


@pytest.mark.parametrize("closing", CLOSINGS)
def test_what_is_printed_and_what_fails(tmp_path: Path, table_model: Path, closing: str) -> None:
    found = closed(f"{COMMAND} inspect {table_model}", closing, tmp_path)
    assert (found.returncode, found.stderr) == (0, b"")
    assert (b"SHA-256 matches" in found.stdout) == (">&-" not in closing.replace("2>&-", ""))
    assert closed(f"{COMMAND} inspect nothing", closing, tmp_path).returncode == 2
    (tmp_path / "damaged").write_bytes(table_model.read_bytes()[:-1])
    assert closed(f"{COMMAND} inspect damaged", closing, tmp_path).returncode == 1


@pytest.mark.parametrize("engine", ["", "--engine processes --workers 1"])
@pytest.mark.parametrize("closing", CLOSINGS)
def test_no_file_takes_the_place_of_a_stream(tmp_path: Path, table_model: Path, closing: str, engine: str) -> None:
    np.save(tmp_path / "X.npy", np.zeros((50, 6)))
    output = "parts" if engine else "s.csv"
    words = f"{COMMAND} score X.npy --model {table_model} --output {output} {engine}"
    found = closed(words, closing, tmp_path)
    assert (found.returncode, found.stderr) == (0, b"")
    if not engine:
        assert len((tmp_path / output).read_text().splitlines()) == 51


def test_a_worker_needs_no_stream_for_errors(tmp_path: Path) -> None:
    words = f"echo '[\"no model\"]' | {sys.executable} -P -m vae_anomaly.engines.worker"
    assert b"AttributeError" not in closed(words, "2>&-", tmp_path).stdout


def test_a_stream_that_cannot_be_written_to_is_one_line(tmp_path: Path, table_model: Path) -> None:
    found = closed(f"{COMMAND} inspect {table_model}", "1</dev/null", tmp_path)
    assert (found.returncode, found.stderr) == (1, b"Error: standard output: Bad file descriptor\n")
