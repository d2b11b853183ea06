"""No output of any command is an input of the same run or another output, under whatever name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest

from helpers import fails, run
from vae_anomaly import VAEDetector
from vae_anomaly.cli import main
from vae_anomaly.engines.score_dataset import score_dataset
from vae_anomaly.errors import DataError

pytestmark = pytest.mark.usefixtures("files")

# what would lose something, and what of it (nothing for a folder)
LOSSES: list[tuple[str, str]] = [
    ("fit --data d.npy --output d.npy", "d.npy"),
    ("fit --data m.scores.csv --output m.vae", "m.scores.csv"),
    ("fit --data d.npy --output new.vae --scores d.npy", "d.npy"),
    ("fit --data d.npy --output same --scores same", ""),
    ("fit --data d.npy --labels y.npy --output y.npy", "y.npy"),
    ("fit --data d.npy --labels y.csv --output m.vae --scores y.csv", "y.csv"),
    ("fit --data x.report/d.npy --output x.vae", "x.report/d.npy"),
    ("fit --data d.npy --output x.vae --scores x.report/s.csv", ""),
    ("fit --data d.npy --output x.vae --checkpoint x.report", ""),
    ("fit --data d.npy --output kept/a.checkpoint --checkpoint kept", ""),
    ("fit --data images --output images/0/0.png", "images/0/0.png"),
    ("fit --dataset mnist --data-dir named --normal 0 --output named/mnist/train-images-idx3-ubyte", ""),
    ("find d.csv --output d.csv", "d.csv"),
    ("find d.csv --train m.csv --output m.csv", "m.csv"),
    ("score d.npy --model t.vae --output d.npy", "d.npy"),
    ("score d.csv --model t.vae --output d.csv", "d.csv"),
    ("score d.npy --model m.csv --output m.csv", "m.csv"),
    ("score images --model t.vae --output images/0/s.csv", "images/0/0.png"),
    ("score d.npy --model s.csv.partial --output s.csv --resume", "s.csv.partial"),
    ("score d.npy --model s.csv.partial.json --output s.csv --resume", "s.csv.partial.json"),
    ("score d.npy --model t.vae --stream --fdr 0.1 --output new.csv --state d.npy", "d.npy"),
    ("score d.npy --model t.vae --stream --fdr 0.1 --output new.csv --state t.vae", "t.vae"),
    ("score d.npy --model t.vae --stream --fdr 0.1 --output s.csv --state s.csv", "s.csv"),
    ("score d.npy --model t.vae --stream --fdr 0.1 --output s.csv --state s.csv.partial", "s.csv.partial"),
    ("score s.csv.partial --model t.vae --stream --fdr 0.1 --output s.csv --state new.json", "s.csv.partial"),
    ("score images --model t.vae --stream --fdr 0.1 --output new.csv --state images/0/s.json", "images/0/0.png"),
    ("score rows/d.npy --model t.vae --engine processes --output rows", "rows/d.npy"),
    ("score rows --model t.vae --engine processes --output rows/scores", "rows/d.npy"),
    ("score d.npy --model rows/t.vae --engine processes --output rows", "rows/t.vae"),
    ("score file://{here}/rows --model t.vae --engine processes --output rows", "rows/d.npy"),
    ("report t.vae x.report/d.npy --output x.report", "x.report/d.npy"),
    ("report rows/t.vae d.npy --output rows", "rows/t.vae"),
    ("report t.vae d.npy --labels x.report/d.npy --output x.report", "x.report/d.npy"),
    ("evaluate d.npy --labels y.npy --model t.vae --output d.npy", "d.npy"),
    ("evaluate d.npy --labels y.csv --model t.vae --output y.csv", "y.csv"),
    ("evaluate d.npy --labels y.npy --model t.vae --output t.vae", "t.vae"),
    ("explain m.txt d.npy --row 0 --output m.txt", "m.txt"),
    ("explain t.vae images --row 0 --output images/0/0.png", "images/0/0.png"),
    ("sample --model m.csv --output m.csv", "m.csv"),
    ("review s.csv --model t.vae --output s.csv", "s.csv"),
    ("review s.csv --model m.csv --output m.csv", "m.csv"),
    ("calibrate t.vae --data d.npy --output d.npy", "d.npy"),
    ("calibrate t.vae --data d.npy --labels y.npy --output y.npy", "y.npy"),
    ("calibrate t.vae --reviewed s.csv --output s.csv", "s.csv"),
    ("calibrate t.vae --data t.calibrated.vae", "t.calibrated.vae"),
    ("benchmark tabular --data tables --output linked", "tables/a.npz"),
]


@pytest.fixture
def files(own_folder: Path) -> Path:
    """A file for every name in the table; none of them is ever read."""
    names = "d.npy d.csv y.npy y.csv m.scores.csv m.csv m.txt s.csv s.csv.partial s.csv.partial.json t.vae rows/t.vae "
    names += "t.calibrated.vae rows/d.npy x.report/d.npy images/0/0.png tables/a.npz"
    idx = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    for name in (*names.split(), *(f"named/mnist/{file}" for file in idx)):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"gold")
    Path("linked").mkdir()
    Path("linked/tabular.csv").symlink_to("../tables/a.npz")
    return own_folder


def contents() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(Path().rglob("*")) if path.is_file()}


@pytest.mark.parametrize(("words", "lost"), LOSSES)
def test_nothing_is_replaced_that_the_same_run_reads_or_writes(words: str, lost: str) -> None:
    before = contents()
    message = fails(2, *words.format(here=Path.cwd()).split())
    assert "would replace" in message or "lies in" in message
    assert contents() == before
    assert not lost or lost in before


def linked(path: Path) -> str:
    Path("link").symlink_to(path)
    return "link"


def linked_to_a_link(path: Path) -> str:
    linked(path)
    Path("second").symlink_to("link")
    return "second"


def hard_linked(path: Path) -> str:
    os.link(path, "hard")
    return "hard"


def through_a_folder(path: Path) -> str:
    Path("here").symlink_to(".")
    return f"here/{path}"


def with_dots(path: Path) -> str:
    return f"rows/../{path}"


def absolute(path: Path) -> str:
    return str(path.absolute())


@pytest.mark.parametrize("spell", [linked, linked_to_a_link, hard_linked, through_a_folder, with_dots, absolute])
@pytest.mark.parametrize(
    "words",
    [
        "fit --data d.npy --output {}",
        "score d.npy --model t.vae --engine processes --output {}",
        "evaluate d.npy --labels y.npy --model t.vae --output {}",
        "calibrate t.vae --data d.npy --output {}",
        "fit --data y.npy --output d.npy --scores {}",
    ],
)
def test_a_file_is_known_by_any_name(words: str, spell: Callable[[Path], str]) -> None:
    name = spell(Path("d.npy"))
    before = contents()
    assert "would replace" in fails(2, *(word.format(name) for word in words.split()))
    assert contents() == before


def test_outputs_that_are_not_there_yet_are_known_by_any_name() -> None:
    Path("link").symlink_to("new")
    for first, second in (("new", "link"), ("new", "rows/../new"), (Path("new").absolute(), "./new")):
        assert "which is written too" in fails(2, "fit", "--data", "d.npy", "--output", first, "--scores", second)


def test_standard_input_and_output_are_files_too(table_detector: VAEDetector, make_table) -> None:
    table_detector.save(Path("t.vae"))
    np.savetxt("d.csv", make_table(4), delimiter=",")
    before = Path("d.csv").read_bytes()
    for words in ("- --output d.csv < d.csv", "d.csv >> d.csv", "- < d.csv >> d.csv"):
        assert os.waitstatus_to_exitcode(os.system(f"python -P -m vae_anomaly.cli score --model t.vae {words}")) == 2
        assert Path("d.csv").read_bytes() == before


def test_a_model_may_replace_itself_and_others_lie_beside_each_other(table_detector: VAEDetector, make_table) -> None:
    shutil.rmtree("x.report")
    table_detector.save(Path("t.vae"))
    np.save("d.npy", make_table(60))
    assert run("calibrate", "t.vae", "--output", "t.vae", "--rate", "0.3").exit_code == 0
    assert run("score", "d.npy", "--model", "t.vae", "--output", "s.jsonl", "--resume").exit_code == 0
    fit = ("fit", "--data", "d.npy", "--epochs", "1", "--no-report", "--checkpoint", ".", "--output", "m.vae")
    assert run(*fit).exit_code == 0


def test_models_of_different_names_have_files_of_their_own(table_detector: VAEDetector) -> None:
    for name in ("v.1", "v.2", "v.3.vae"):
        table_detector.save(Path(name))
        assert run("calibrate", name, "--rate", "0.3").exit_code == 0
    assert {path.name for path in Path().glob("*.calibrated.vae")} == {
        "t.calibrated.vae",  # of the fixture
        "v.1.calibrated.vae",
        "v.2.calibrated.vae",
        "v.3.calibrated.vae",
    }


def test_score_dataset_refuses_the_same(files: Path) -> None:
    for data, model, output in (("rows", "t.vae", "rows"), (f"local://{files}/rows", "t.vae", "rows/new")):
        with pytest.raises(DataError, match="would replace|lies in"):
            score_dataset(data, model, output)


def test_every_command_with_an_output_is_in_the_table() -> None:
    def writes(command: click.Command) -> bool:
        return any(parameter.name == "output" for parameter in command.params)

    assert {words.split()[0] for words, _ in LOSSES} == {
        name for name, command in main.commands.items() if writes(command)
    }
