"""``vae-anomaly sample``, by the files it makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers import fails, run

pytestmark = pytest.mark.usefixtures("own_folder")


def test_sample_draws_grids_and_tables(digits_model: Path, table_model: Path) -> None:
    assert run("sample", "-n", 9, "--output", "grid.png", "--model", digits_model).exit_code == 0
    assert Path("grid.png").read_bytes().startswith(b"\x89PNG")
    assert run("sample", "-n", 5, "--output", "s.npy", "--model", digits_model).exit_code == 0
    assert np.load("s.npy").shape == (5, 8, 8)
    assert run("sample", "-n", 5, "--output", "s.csv", "--model", table_model).exit_code == 0
    assert pd.read_csv("s.csv", header=None).shape == (5, 6)
    assert "no images that a .png can show" in fails(1, "sample", "--output", "t.png", "--model", table_model)
