"""Zarr arrays: read a chunk at a time, and nothing in them runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from vae_anomaly.datasets import chunks, count_rows, load_file
from vae_anomaly.errors import DataError
from vae_anomaly.storage.zarr_files import CODECS

X = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "X.zarr"


@pytest.mark.parametrize("shape", [(50, 4), (50, 2, 2)])
@pytest.mark.parametrize(
    "options",
    [
        {"zarr_format": 2},
        {"zarr_format": 3},
        {"zarr_format": 3, "shards": (14, 4, 4)},
        {"compressors": None},
        {"compressors": zarr.codecs.BloscCodec(cname="lz4")},
        {"order": "F", "zarr_format": 2},
    ],
)
def test_chunks_are_the_array(path: Path, shape: tuple[int, ...], options: dict[str, Any]) -> None:
    given = X.reshape(shape)
    if "shards" in options:
        options = options | {"shards": options["shards"][: given.ndim]}
    # not by data=, which in Zarr 3.0.8 to 3.1.0 writes other numbers into shards
    array = zarr.create_array(path, shape=given.shape, dtype=given.dtype, chunks=(7, 4, 4)[: given.ndim], **options)
    array[:] = given
    assert count_rows(path) == 50
    for n_rows, expected in [(1000, [50]), (20, [14, 14, 14, 8]), (3, [3] * 16 + [2])]:
        parts = [part.X for part in chunks(path, n_rows)]
        assert [len(part) for part in parts] == expected
        np.testing.assert_array_equal(np.concatenate(parts), given)
    assert load_file(path).X.dtype == np.float32


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("codec", ["pickle", "numcodecs.pickle", "json2", "vlen-utf8"])
def test_a_codec_that_could_do_anything_is_refused_unread(path: Path, zarr_format: Any, codec: str) -> None:
    zarr.create_array(path, data=X, zarr_format=zarr_format)
    description = path / ("zarr.json" if zarr_format == 3 else ".zarray")
    about = json.loads(description.read_text())
    if zarr_format == 3:
        shard = {"chunk_shape": [50, 4], "index_codecs": [{"name": "bytes"}], "codecs": [{"name": codec}]}
        about["codecs"] = [{"name": "sharding_indexed", "configuration": shard}]
    else:
        about["filters"] = [{"id": codec}]
    description.write_text(json.dumps(about))
    for read in (load_file, count_rows):
        with pytest.raises(DataError, match=f"X.zarr: is in {codec}, not one of {', '.join(sorted(CODECS))}: rewrite"):
            read(path)


def test_the_description_that_was_checked_is_the_one_that_is_read(path: Path) -> None:
    zarr.create_array(path, data=X, zarr_format=3)
    (path / ".zarray").write_text(json.dumps({"zarr_format": 2, "filters": [{"id": "pickle"}]}))
    np.testing.assert_array_equal(load_file(path).X, X)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"not a Zarr array on disk \(a group\?"),
        ({"zarr.json": "no"}, "not a readable Zarr array"),
        ({"zarr.json": "[]"}, "not a readable Zarr array"),
        ({".zarray": "{}"}, "not a readable Zarr array"),
    ],
)
def test_what_is_no_array_is_refused(path: Path, files: dict[str, str], message: str) -> None:
    path.mkdir()
    for name, text in files.items():
        (path / name).write_text(text)
    with pytest.raises(DataError, match=f"X.zarr: {message}"):
        load_file(path)


def test_other_arrays_are_refused(path: Path) -> None:
    zarr.create_group(path)
    with pytest.raises(DataError, match="not a readable Zarr array"):
        load_file(path)
    zarr.create_array(path, shape=(4, 2), dtype="S3", overwrite=True, zarr_format=2)
    with pytest.raises(DataError, match="needs an array of real numbers|is in vlen-bytes"):
        load_file(path)
    zarr.create_array(path, shape=(1 << 20, 1 << 10), chunks=(1 << 20, 1 << 10), dtype="u1", overwrite=True)
    assert count_rows(path) == 1 << 20
    zarr.create_array(path, shape=(1 << 20, 1 << 10), chunks=(1 << 20, 1 << 10), dtype="u2", overwrite=True)
    with pytest.raises(DataError, match="its chunks have more than 1,073,741,824 bytes"):
        load_file(path)


def test_damage_is_reported(path: Path) -> None:
    zarr.create_array(path, data=X, chunks=(50, 4))
    (chunk,) = [file for file in (path / "c").rglob("*") if file.is_file()]
    chunk.write_bytes(chunk.read_bytes()[:-9])
    with pytest.raises(DataError, match="not a readable Zarr array"):
        load_file(path)
