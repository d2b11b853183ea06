"""README: its example runs, its commands exist, its figures of speech are the program's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import numpy as np
import pytest

from vae_anomaly.cli import main
from vae_anomaly.registry import CALIBRATION_METHODS as METHODS

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_the_python_example_runs_and_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = blocks("python")
    names: dict[str, object] = {}
    exec(example, names)  # the project's own text
    np.testing.assert_array_equal(names["detector"].predict(names["X_new"]), [1, -1])
    assert (tmp_path / "model.vae").exists()


def test_every_command_and_method_is_in_the_readme() -> None:
    for name in main.commands:
        assert f"vae-anomaly {name}" in README
    for name in METHODS:
        assert f"`{name}`" in README or f"`{name} " in README


def test_every_command_line_in_the_readme_parses() -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    lines += re.findall(r"`(vae-anomaly [^`]+)`", README)
    found = 0
    for line in lines:
        for part in line.split("&&"):
            words = shlex.split(part, comments=True)
            if words[:1] != ["vae-anomaly"]:
                continue
            found += 1
            command = main.commands[words[1]]
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
