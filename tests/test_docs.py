"""README and docs: their examples run, their commands, links and excerpts exist."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import click
import numpy as np
import pytest

from helpers import ROOT
from vae_anomaly.cli import main
from vae_anomaly.registry import CALIBRATION_METHODS, SCORES

PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("tests/**/README.md"))
}
README, EXTENDING = PAGES["README.md"], PAGES["docs/extending.md"]


def blocks(text: str, language: str) -> list[str]:
    """Fenced code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def is_excerpt(block: str) -> bool:
    """Whether the code is quoted from the file that its first line names."""
    return re.match(r"# \S+\.py\n", block) is not None


SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", EXTENDING, re.DOTALL | re.MULTILINE))
PREPARATION = blocks(EXTENDING, "python")[0]


def test_the_python_examples_run_and_are_right(own_folder: Path) -> None:
    example, of_pipelines, of_images = blocks(README, "python")
    names: dict[str, object] = {}
    exec(example, names)  # the project's own text
    np.testing.assert_array_equal(names["detector"].predict(names["X_new"]), [1, -1])
    assert (own_folder / "model.vae").exists()
    exec(of_images, names)
    row, column = eval(of_images.rstrip().rsplit("\n", 1)[1], names)
    assert 22 <= row < 25
    assert 4 <= column < 7
    steps, last = of_pipelines.rstrip().rsplit("\n", 1)
    exec(steps, names)
    shown, expected = last.split("#")
    assert eval(shown, names) == eval(expected)


@pytest.mark.parametrize("title", SECTIONS)
def test_an_addition_works_as_it_is_described(
    title: str, own_folder: Path, monkeypatch: pytest.MonkeyPatch, restored_registries: None
) -> None:
    monkeypatch.setattr(main, "commands", dict(main.commands))
    names: dict[str, object] = {"__name__": "extension"}
    written = [block for block in blocks(SECTIONS[title], "python") if not is_excerpt(block)]
    assert written
    for block in (PREPARATION, *written):
        exec(block, names)  # the project's own text


@pytest.mark.parametrize("title", SECTIONS)
def test_an_addition_is_shown_on_a_real_one(title: str) -> None:
    excerpts = [block.split("\n", 1) for block in blocks(SECTIONS[title], "python") if is_excerpt(block)]
    assert excerpts
    for path, code in excerpts:
        assert code in (ROOT / path.removeprefix("# ")).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_links_paths_and_modules_exist(page: str) -> None:
    folder, text = (ROOT / page).parent, PAGES[page]
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (folder / target).exists(), target
    for path in re.findall(r"`((?:vae_anomaly|cli|datasets|reports|tests|docs)/[\w/.]*\w\.\w+)`", text):
        assert (ROOT / path).exists() or (folder / path).exists(), path
    for name in () if page == "CHANGELOG.md" else re.findall(r"`(vae_anomaly(?:\.[a-z_]+)+)`", text):
        assert find_spec(name), name


def test_every_fault_in_the_table_is_injected_by_a_test() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/test_*.py"))
    names = re.findall(r"`([a-z]\w+)`", PAGES["tests/README.md"])
    assert len(names) > 15
    assert [name for name in names if f"def test_{name}(" not in text] == []


def test_every_command_method_and_score_is_in_the_readme() -> None:
    for name in main.commands:
        assert f"vae-anomaly {name}" in README
    for name in (*CALIBRATION_METHODS, *SCORES):
        assert f"`{name}`" in README or f"`{name} " in README


def test_every_command_line_in_the_pages_parses() -> None:
    found = 0
    for text in PAGES.values():
        lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
        lines += re.findall(r"`(vae-anomaly [^`]+)`", text)
        for line in lines:
            for part in line.split("&&"):
                words = shlex.split(part, comments=True)
                if words[:1] != ["vae-anomaly"] or words[1:2] == ["..."]:
                    continue
                found += 1
                command = main.commands[words[1].rstrip(",")]
                known = {option for parameter in command.params for option in parameter.opts}
                used = {word for word in words[2:] if word.startswith("-") and word != "-"}
                assert used <= known, part
    assert found > 15


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_and_option_has_help(name: str) -> None:
    command = main.commands[name]
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
