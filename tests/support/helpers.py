"""What test modules share by name, ``from helpers import run``; fixtures are in ``conftest.py``."""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from click.testing import CliRunner, Result

from vae_anomaly.cli import main
from vae_anomaly.cli.interruption import SIGNALS
from vae_anomaly.registry import SCORES

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]
FOLDERS = {name: SETUPTOOLS["package-dir"].get(name, name.replace(".", "/")) for name in SETUPTOOLS["packages"]}

TABLE_SCORES = sorted(SCORES.keys() - SCORES.where(needs_images=True))
"""Scores of tables; images have all."""

Make: TypeAlias = Callable[..., np.ndarray]


def table(n: int = 200, n_features: int = 6, seed: int = 0) -> np.ndarray:
    """Correlated Gaussian rows."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 3)) @ rng.normal(size=(3, n_features)) + 0.1 * rng.normal(size=(n, n_features))


def images(n: int = 60, shape: tuple[int, ...] = (9, 8), seed: int = 0) -> np.ndarray:
    """8-bit images of one bright bar each."""
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 40, size=(n, *shape), dtype=np.uint8)
    for image, column in zip(X, rng.integers(0, shape[1], size=n), strict=True):
        image[:, column] = 220
    return X


def run(*arguments: object, **kwargs: Any) -> Result:
    """Run a command line in this process: ``run("score", path).stdout``; signals are handled after it as before."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        return CliRunner().invoke(main, [str(argument) for argument in arguments], **kwargs)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def fails(code: int, *arguments: object, **kwargs: Any) -> str:
    """Run a command that must fail with this exit code and one message, never a traceback; the message."""
    result = run(*arguments, **kwargs)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    (message,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    return message


def python(code: str, *arguments: object) -> str:
    """What a new interpreter prints when it runs the code, which must not fail."""
    command = [sys.executable, "-P", "-c", code, *map(str, arguments)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout


def loaded_after(code: str, *names: str) -> list[str]:
    """Which of these modules a new interpreter has loaded after it ran the code."""
    printed = python(f"import sys\n{code}\nprint([name for name in {names!r} if name in sys.modules])")
    loaded: list[str] = ast.literal_eval(printed.splitlines()[-1])
    return loaded
