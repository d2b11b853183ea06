"""``vae-anomaly datasets``, by what it prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import run

pytestmark = pytest.mark.usefixtures("own_folder")


def test_datasets_lists_what_is_on_disk(monkeypatch: pytest.MonkeyPatch, own_folder: Path) -> None:
    monkeypatch.delenv("VAE_ANOMALY_DATA", raising=False)
    monkeypatch.setenv("VAE_ANOMALY_CACHE", str(own_folder))
    output = run("datasets").stdout
    assert "built in" in output
    assert output.count("not on disk") == 3
    for file in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (own_folder / "kmnist").mkdir(exist_ok=True)
        (own_folder / "kmnist" / f"{file}-ubyte").touch()
    assert str(own_folder / "kmnist") in run("datasets").stdout
