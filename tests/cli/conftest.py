"""Model files that the tests of several commands share; none of them may be changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers import Make, run


@pytest.fixture(scope="session")
def digits_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of digits, beside its scores."""
    path = tmp_path_factory.mktemp("digits") / "digits.vae"
    result = run("fit", "--normal", "0,1,2", "--dataset", "digits", "--output", path, "--seed", 1, "--no-report")
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture(scope="session")
def table_model(tmp_path_factory: pytest.TempPathFactory, make_table: Make) -> Path:
    """A model file of a table, beside its data; the model takes 6 features."""
    folder = tmp_path_factory.mktemp("table")
    np.save(folder / "normal.npy", make_table(300))
    result = run("fit", "--data", folder / "normal.npy", "--output", folder / "table.vae", "--epochs", 3, "--no-report")
    assert result.exit_code == 0, result.output
    return folder / "table.vae"
