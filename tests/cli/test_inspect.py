"""``vae-anomaly inspect``, by what it prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers import python, run

pytestmark = pytest.mark.usefixtures("own_folder")


def test_inspect_describes_a_model(digits_model: Path) -> None:
    text = run("inspect", digits_model).stdout
    for part in ("digits (built into scikit-learn), normal: 0, 1, 2", "8 x 8", "float32", "random_state=1", "torch 2."):
        assert part in text
    config = json.loads(run("inspect", digits_model, "--json").stdout)
    assert config["metadata"]["data"]["name"] == "digits"


def test_inspect_needs_no_torch(digits_model: Path) -> None:
    code = (
        "import sys; from vae_anomaly.cli import main\n"
        "try: main(['inspect', sys.argv[1]])\n"
        "finally: assert not {'torch', 'sklearn', 'pandas'} & set(sys.modules)"
    )
    python(code, digits_model)
