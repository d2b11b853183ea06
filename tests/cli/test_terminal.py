"""What steers a terminal never reaches it: names and labels are shown escaped, in results and in errors."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from helpers import run
from vae_anomaly import VAEDetector
from vae_anomaly.storage.safe_reading import printable

EVIL = "a\x1b[2J\x07\n\r\u202eb\u2066\x9b1m"
CONTROL = set(
    map(chr, (*range(32), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029))
)


@given(st.text(st.characters()))
def test_nothing_that_steers_is_left_and_all_else_is(text: str) -> None:
    shown = printable(text)
    assert not CONTROL & set(shown)
    shown.encode()
    assert printable(shown) == shown
    if text.isascii() and text.isprintable():
        assert shown == text


@pytest.mark.parametrize("text", ["plain, text", "café 数字 ελ", "a\u00a0b", "C:\\new"])
def test_what_is_harmless_stays(text: str) -> None:
    assert printable(text) == text


def clean(result: Result, code: int) -> str:
    """All output, which must hold no control character but the ends of lines."""
    assert result.exit_code == code, result.output
    text = result.output
    assert not (CONTROL - {"\n"}) & set(text), repr(text)
    return text


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_table) -> Path:
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame(make_table(60), columns=list("abcdef"))
    frame["label"] = ["good"] * 50 + [EVIL.replace("\r", "")] * 10
    frame.to_csv(f"{EVIL}.csv", index=False)
    return tmp_path


def test_results_are_shown_escaped(evil: Path) -> None:
    words = ("--data", f"{EVIL}.csv", "--label-column", "label", "--normal", "good", "--epochs", 1)
    assert "\\x1b[2J" in clean(run("fit", *words, "--output", f"{EVIL}.vae", "--scores", f"{EVIL}.jsonl"), 0)
    text = clean(run("evaluate", f"{EVIL}.csv", "--label-column", "label", "--model", f"{EVIL}.vae"), 0)
    assert "\\u202e" in text
    clean(run("inspect", f"{EVIL}.vae"), 0)
    clean(run("inspect", f"{EVIL}.vae", "--json"), 0)
    clean(run("calibrate", f"{EVIL}.vae", "--rate", "0.5", "--output", f"{EVIL}.2.vae"), 0)
    clean(run("sample", "--model", f"{EVIL}.vae", "--output", f"{EVIL}.npy"), 0)
    clean(run("review", f"{EVIL}.jsonl", "--model", f"{EVIL}.vae", "--output", "r.csv"), 0)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("fit", "--data", f"{EVIL}.csv", "--label-column", EVIL), 1),
        (("fit", "--data", f"{EVIL}.csv", "--label-column", "label"), 1),
        (("fit", "--data", f"{EVIL}.csv", "--label-column", "label", "--normal", EVIL), 2),
        (("fit", "--data", f"{EVIL}.npy"), 2),
        (("fit", "--normal", "0", f"--{EVIL}"), 2),
        (("inspect", f"{EVIL}.csv"), 1),
        (("drift", f"{EVIL}.csv", f"{EVIL}.csv"), 1),
        ((EVIL,), 2),
        ((f"--{EVIL}",), 2),
    ],
)
def test_errors_are_shown_escaped(evil: Path, words: tuple[str, ...], code: int) -> None:
    errors = clean(run(*words), code).split("Error: ")
    assert len(errors) == 2
    assert errors[1].count("\n") == 1


def image_folder(detector: VAEDetector, X: np.ndarray) -> None:
    detector.save("m.vae")
    Path("images").mkdir()
    for i, pixels in enumerate(X):
        Image.fromarray(pixels).save(f"images/{i}\x1b[2J,\"'\n.png")


def test_names_in_files_are_kept_and_quoted(tmp_path, monkeypatch, image_detector, make_images) -> None:
    monkeypatch.chdir(tmp_path)
    image_folder(image_detector, make_images(3))
    names = [f"{i}\x1b[2J,\"'\n.png" for i in range(3)]
    result = run("score", "images", "--model", "m.vae")
    assert pd.read_csv(io.StringIO(result.stdout))["file"].tolist() == names
    assert run("score", "images", "--model", "m.vae", "--output", "s.csv").exit_code == 0
    assert pd.read_csv("s.csv")["file"].tolist() == names


def test_names_on_a_terminal_are_escaped(tmp_path, monkeypatch, image_detector, make_images) -> None:
    monkeypatch.chdir(tmp_path)
    image_folder(image_detector, make_images(3))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "vae_anomaly.cli", "score", "images", "--model", "m.vae"]
    subprocess.run(command, stdout=theirs, stderr=subprocess.DEVNULL, check=True)
    os.close(theirs)
    shown = os.read(ours, 65_536).decode()
    os.close(ours)
    assert "\x1b" not in shown
    assert "0\\x1b[2J," in shown
