"""The examples in docstrings run and are right."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

from helpers import FOLDERS, ROOT

WITH_EXAMPLES = [
    f"{package}.{path.stem}"
    for package, folder in FOLDERS.items()
    for path in sorted((ROOT / folder).glob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_module_are_right(name: str, own_folder: Path) -> None:
    failed, tried = doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried
    assert failed == 0


def test_the_detector_has_an_example() -> None:
    assert "vae_anomaly.detector" in WITH_EXAMPLES
