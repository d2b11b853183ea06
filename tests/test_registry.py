"""Registries: what is read from the source equals what an import gives, and reading it costs no import."""

from __future__ import annotations

import compileall
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers import python
from vae_anomaly import registry
from vae_anomaly.parameters import DEFAULTS, check_parameters
from vae_anomaly.registry import SCORES, Registry

REGISTRIES = {name: value for name, value in vars(registry).items() if isinstance(value, Registry)}

READ_AND_IMPORT = """
import json, sys
from vae_anomaly.registry import *

def known(registry):
    entries = [registry.entry(name) for name in registry]
    return [[entry.name, entry.help, entry.module, dict(entry.facts)] for entry in entries]

registries = {name: globals()[name] for name in NAMES}
read = {name: known(value) for name, value in registries.items()}
heavy = [name for name in ("torch", "numpy", "scipy", "sklearn", "pandas", "matplotlib", "PIL") if name in sys.modules]
callables = {name: [callable(value[entry]) for entry in value] for name, value in registries.items()}
imported = {name: known(value) for name, value in registries.items()}
print(json.dumps({"read": read, "heavy": heavy, "callables": callables, "imported": imported}))
"""


@pytest.fixture(scope="module")
def seen() -> Any:
    """What a new interpreter knows of all registries before and after it imports their entries."""
    code = f"NAMES = {list(REGISTRIES)}{READ_AND_IMPORT}"
    return json.loads(python(code))


def test_reading_names_and_help_imports_nothing_heavy(seen: Any) -> None:
    assert seen["heavy"] == []


@pytest.mark.parametrize("constant", REGISTRIES)
def test_what_is_read_is_what_is_imported(seen: Any, constant: str) -> None:
    assert seen["read"][constant]
    assert seen["read"][constant] == seen["imported"][constant]
    assert all(seen["callables"][constant])


@pytest.mark.parametrize("constant", REGISTRIES)
def test_every_entry_has_help_that_is_a_sentence(seen: Any, constant: str) -> None:
    for name, text, module, _ in seen["read"][constant]:
        assert text.endswith("."), f"{constant} {name!r} in {module}: {text!r}"


@pytest.mark.parametrize("constant", REGISTRIES)
def test_a_registry_is_known_by_its_own_name(constant: str) -> None:
    assert REGISTRIES[constant].constant == constant


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry whose entries are in a package of two modules, one of which cannot be imported."""
    package = tmp_path / "toy_box"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "wood.py").write_text(
        "from toy_register import TOYS\n\n"
        '@TOYS.register("train", wheels=8)\n'
        "class Train:\n"
        '    """A train,\n    with its track.\n\n    And much more of it.\n    """\n\n'
        '@TOYS.register("block")\n'
        "def block():\n"
        '    """A block."""\n'
    )
    (package / "broken.py").write_text(
        "import nothing_of_this_name\n\n"
        '@TOYS.register("doll", wheels=0, for_ages=(3, 9))\n'
        "def doll():\n"
        '    """A doll."""\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    toys = Registry("TOYS", "toy_box", "toy")
    home = type(sys)("toy_register")
    home.TOYS = toys
    monkeypatch.setitem(sys.modules, "toy_register", home)
    yield toys
    for name in [name for name in sys.modules if name.split(".")[0] == "toy_box"]:
        del sys.modules[name]


def test_names_help_and_facts_are_read_without_importing(toys: Registry) -> None:
    assert list(toys) == ["doll", "train", "block"]
    assert len(toys) == 3
    assert "train" in toys
    assert "ball" not in toys
    assert toys.entry("train").help == "A train, with its track."
    assert toys.entry("doll").facts == {"wheels": 0, "for_ages": (3, 9)}
    assert toys.where(wheels=8) == ("train",)
    assert toys.where(wheels=9) == ()
    assert "toy_box.wood" not in sys.modules


def test_an_entry_is_imported_when_it_is_asked_for(toys: Registry) -> None:
    train = toys["train"]
    assert train.__module__ == "toy_box.wood"
    assert toys.name_of(train) == "train"
    with pytest.raises(ModuleNotFoundError, match="nothing_of_this_name"):
        toys["doll"]


def test_without_sources_the_modules_are_imported(toys: Registry, tmp_path: Path) -> None:
    (tmp_path / "toy_box" / "broken.py").unlink()
    compileall.compile_dir(str(tmp_path / "toy_box"), legacy=True, quiet=1)
    for path in (tmp_path / "toy_box").glob("*.py"):
        path.unlink()
    importlib.invalidate_caches()
    assert list(toys) == ["train", "block"]
    assert toys.entry("train").help == "A train, with its track."


def test_entries_can_be_added_while_running(toys: Registry) -> None:
    @toys.register("ball", wheels=0)
    class Ball:
        """A ball."""

    assert list(toys)[-1] == "ball"
    assert toys["ball"] is Ball
    assert toys.entry("ball").help == "A ball."
    assert toys.where(wheels=0) == ("doll", "ball")
    assert toys.name_of(Ball) == "ball"


def test_a_name_is_taken_once(toys: Registry) -> None:
    with pytest.raises(ValueError, match=r"the toy 'train' is defined in toy_box\.wood already"):
        toys.register("train")(lambda: None)
    toys["train"]  # the refusal left the one that was there
    assert toys.entry("train").module == "toy_box.wood"


def test_an_entry_may_be_defined_again_in_its_own_module(toys: Registry) -> None:
    toys["train"]
    again = importlib.reload(sys.modules["toy_box.wood"])
    assert toys["train"] is again.Train


def test_unknown_names_are_refused(toys: Registry) -> None:
    with pytest.raises(KeyError, match="ball"):
        toys["ball"]
    with pytest.raises(KeyError, match="ball"):
        toys.entry("ball")
    with pytest.raises(KeyError):
        toys.name_of(int)


def test_a_package_that_is_missing_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        list(Registry("X", "no_such_package", "thing"))


def test_a_new_score_is_one_of_the_scores_a_detector_may_be_given(restored_registries: None) -> None:
    with pytest.raises(ValueError, match="score_name must be one of"):
        check_parameters(DEFAULTS | {"score_name": "toy"})
    SCORES.register("toy")(lambda vae, x, noise: x.sum(1))
    check_parameters(DEFAULTS | {"score_name": "toy"})
