"""``score --maps`` and ``--boxes``: what they write is the detector's heat, and nothing of the user's is replaced."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import fails, images, run, table
from vae_anomaly import VAEDetector
from vae_anomaly.evaluation.regions import boxes_of

SHAPE = (30, 28)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of images, one of a table, images in a folder and the same in an array."""
    folder = tmp_path_factory.mktemp("maps")
    VAEDetector(epochs=10).fit(images(150, SHAPE)).save(folder / "images.vae")
    VAEDetector(epochs=1).fit(table()).save(folder / "table.vae")
    X = images(4, SHAPE, seed=1)
    X[1, 20:24, 10:14] = 255
    np.save(folder / "new.npy", X)
    (folder / "new" / "in").mkdir(parents=True)
    for i, image in enumerate(X):
        Image.fromarray(image).save(folder / "new" / "in" / f"part {i}.png")
    return folder


def test_maps_and_boxes_are_the_detectors_heat(folder: Path, tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    text = run("score", folder / "new.npy", "--model", folder / "images.vae", "--maps", maps, "--boxes").stdout
    detector = VAEDetector.load(folder / "images.vae")
    heat = detector.heat_maps(np.load(folder / "new.npy"))
    assert sorted(path.name for path in maps.iterdir()) == [
        f"00000{i}.{end}" for i in range(4) for end in ("npy", "png")
    ]
    threshold = detector.model_.calibrations["local"].threshold
    for i, row in enumerate(csv.DictReader(io.StringIO(text))):
        np.testing.assert_array_equal(np.load(maps / f"00000{i}.npy"), heat[i].astype(np.float32))
        with Image.open(maps / f"00000{i}.png") as picture:
            assert picture.size == SHAPE[::-1]
        expected = [[*box[:4], round(box.peak, 2)] for box in boxes_of(heat[i], threshold)]
        assert json.loads(row["boxes"]) == expected
    top, left, bottom, right, _ = boxes_of(heat[1], threshold)[0]
    assert top < 24 and bottom > 20 and left < 14 and right > 10  # noqa: PT018 - one box meets the spot


def test_maps_of_files_have_their_names(folder: Path, tmp_path: Path) -> None:
    run("score", folder / "new", "--model", folder / "images.vae", "--maps", tmp_path / "maps")
    assert (tmp_path / "maps" / "000002-in_part_2.png.npy").exists()


def test_a_folder_that_is_not_empty_is_left_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "a.txt").write_text("gold")
    command = ("score", folder / "new.npy", "--model", folder / "images.vae")
    assert "is no empty folder" in fails(2, *command, "--maps", tmp_path / "precious")
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    assert "--maps and --boxes do not go with" in fails(
        2, *command, "--boxes", "--resume", "--output", tmp_path / "s.csv"
    )
    (tmp_path / "bad.npy").write_bytes(b"no array")
    fails(1, "score", tmp_path / "bad.npy", "--model", folder / "images.vae", "--maps", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_table_has_no_places(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", table(3))
    message = fails(1, "score", tmp_path / "rows.npy", "--model", folder / "table.vae", "--boxes")
    assert "need a model of images" in message
