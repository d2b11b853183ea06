"""Every format of data keeps the contract, is listed where formats are listed, and a new one takes one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
from PIL import Image

from helpers import python, run
from vae_anomaly import VAEDetector
from vae_anomaly.datasets import Dataset, chunks, count_rows, data_files, extent, load_file, rows_at, stamp
from vae_anomaly.datasets.formats import facts_of, format_of, suffixes, suffixes_help
from vae_anomaly.datasets.formats.base import Extent, Format
from vae_anomaly.engines import score_dataset as scoring
from vae_anomaly.engines.shard import ShardScorer
from vae_anomaly.errors import DataError
from vae_anomaly.registry import FORMATS

N = 23
X = np.random.default_rng(0).integers(0, 255, size=(N, 4)).astype(np.float64)


def save_images(path: Path) -> None:
    path.mkdir()
    for i, row in enumerate(X.astype(np.uint8)):
        Image.fromarray(row.reshape(2, 2)).save(path / f"{i:02}.png")


def save_pages(path: Path) -> None:
    pages = [Image.fromarray(row.reshape(2, 2)) for row in X.astype(np.uint8)]
    pages[0].save(path, format="TIFF", save_all=True, append_images=pages[1:])


def save_parts(path: Path) -> None:
    path.mkdir()
    for i in range(0, N, 10):
        FRAME.iloc[i : i + 10].to_parquet(path / f"{i:02}.parquet")


FRAME = pd.DataFrame(X, columns=list("abcd"))
WRITERS: dict[str, Callable[[Path], object]] = {
    "csv": lambda path: FRAME.to_csv(path, index=False),
    "image_file": save_pages,
    "image_folder": save_images,
    "npy": lambda path: np.save(path, X),
    "npz": lambda path: np.savez(path, X=X),
    "parquet": lambda path: FRAME.to_parquet(path, row_group_size=5),
    "parquet_folder": save_parts,
    "xlsx": lambda path: FRAME.to_excel(path, index=False),
    "zarr": lambda path: zarr.create_array(path, data=X, chunks=(5, 4)),
}
SHARDABLE = FORMATS.where(shardable=True)


@pytest.fixture
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The rows in the format that the test is about."""
    name = request.node.callspec.params["name"]
    path = tmp_path / f"X{''.join(FORMATS.entry(name).facts['suffixes'][:1])}"
    WRITERS[name](path)
    return path


def test_every_format_is_written_by_these_tests() -> None:
    assert set(WRITERS) == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_any_chunks_from_any_row_are_the_same_rows(path: Path, name: str) -> None:
    whole = load_file(path)
    assert format_of(path) == name
    np.testing.assert_array_equal(whole.to_array().reshape(N, -1), X)
    for first_row in (0, 1, 7, N - 1):
        for n_rows in (1, 4, 5, 100):
            parts = [(part.to_array().copy(), part.row_numbers) for part in chunks(path, n_rows, None, first_row)]
            assert max(len(rows) for rows, _ in parts) <= n_rows
            np.testing.assert_array_equal(np.concatenate([rows for rows, _ in parts]), whole.to_array()[first_row:])
            np.testing.assert_array_equal(np.concatenate([n for _, n in parts]), np.arange(first_row, N))
    assert count_rows(path) in (N, None)


@pytest.mark.parametrize("name", FORMATS)
def test_a_stamp_changes_with_the_data(path: Path, name: str) -> None:
    before = stamp(str(path))
    assert stamp(str(path)) == before
    changed = next(path.rglob("*.*")) if path.is_dir() else path
    changed.write_bytes(changed.read_bytes() + b" ")
    assert stamp(str(path)) != before


@pytest.mark.parametrize("name", FORMATS)
def test_a_label_column_is_for_tables(path: Path, name: str) -> None:
    if FORMATS.entry(name).facts.get("columns"):
        assert load_file(path, "a").feature_names == ("b", "c", "d")
    else:
        for read in (load_file, lambda path, column: list(chunks(path, 3, column))):
            with pytest.raises(DataError, match="--label-column is for .csv and .tsv and .txt and .parquet and .xlsx"):
                read(path, "a")


@pytest.mark.parametrize("by_url", [False, True])
@pytest.mark.parametrize("name", SHARDABLE)
def test_ranges_of_rows_are_read_by_path_and_by_url(path: Path, name: str, by_url: bool) -> None:
    location = path.as_uri() if by_url else str(path)
    assert [place.removeprefix("file://") for place in data_files(location)] == [str(path)]
    known = extent(location)
    assert known.n_rows == N
    assert known.groups is None or sum(known.groups) == N
    for first_row, n_rows in ((0, N), (3, 11), (N - 1, 1)):
        parts = [part.X.copy() for part in rows_at(location, first_row, n_rows, 4, None)]
        np.testing.assert_array_equal(np.concatenate(parts), X[first_row : first_row + n_rows])
    assert isinstance(stamp(location), str)


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in (*SHARDABLE, "parquet_folder")])
def test_other_formats_are_not_cut(path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"(is scored on one machine only|kind of data): .*.npy, .parquet, .zarr"):
        data_files(str(path))
    with pytest.raises(DataError, match="cannot be read in ranges of rows"):
        extent(str(path))


@pytest.mark.parametrize("name", FORMATS)
def test_help_and_messages_list_it(name: str, tmp_path: Path) -> None:
    facts = FORMATS.entry(name).facts
    (tmp_path / "x.odd").touch()
    with pytest.raises(DataError) as caught:
        load_file(tmp_path / "x.odd")
    shown = " ".join(run("fit", "--help", terminal_width=200).output.split())
    for text in [facts["shown"]] if "shown" in facts else facts["suffixes"]:
        assert text in suffixes_help()
        assert text in str(caught.value)
        assert text in shown


def test_formats_and_data_sets_are_listed_without_numpy() -> None:
    code = (
        "import sys; from vae_anomaly.datasets import NAMED, facts_of, suffixes, suffixes_help\n"
        "assert 'digits' in NAMED and '.npy' in suffixes_help() and suffixes(shardable=True) and facts_of('x.npz')\n"
        "assert not {'numpy', 'torch', 'pandas', 'PIL'} & set(sys.modules)"
    )
    python(code)


class Hexadecimal(Format):
    """Lines of whole numbers in hexadecimal."""

    def chunks(self, n_rows: int, first_row: int = 0, label_column: str | None = None) -> Iterator[Dataset]:
        lines = self.path.read_text().splitlines()
        for start in range(first_row, len(lines), n_rows):
            rows = [[int(cell, 16) for cell in line.split()] for line in lines[start : start + n_rows]]
            yield Dataset(np.array(rows, dtype=np.float64), self.source)

    def extent(self) -> Extent:
        return Extent(len(self.path.read_text().splitlines()))


@pytest.fixture
def hexadecimal(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more format, for as long as a test takes."""
    monkeypatch.setattr(FORMATS, "_added", dict(FORMATS._added))
    monkeypatch.setattr(FORMATS, "_objects", dict(FORMATS._objects))
    FORMATS.register("hexadecimal", suffixes=(".hex",), shardable=True)(Hexadecimal)


@pytest.mark.usefixtures("hexadecimal")
def test_a_new_format_is_one_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is fitted, scored, scored in shards, named in messages and in help; nothing else knows of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scoring, "run_on_processes", lambda task, shards, n: map(ShardScorer(task), shards))
    rows = np.random.default_rng(1).integers(0, 999, size=(200, 3))
    Path("X.hex").write_text("".join(" ".join(f"{cell:x}" for cell in row) + "\n" for row in rows.tolist()))
    assert facts_of("X.hex") == {"suffixes": (".hex",), "shardable": True}
    assert ".hex" in suffixes(shardable=True)
    assert ".hex" in suffixes_help()

    def succeeds(*words: str) -> None:
        result = run(*words)
        assert result.exit_code == 0, result.output

    succeeds("fit", "--data", "X.hex", "--epochs", "1", "--no-report", "--output", "m.vae")
    expected = -VAEDetector.load("m.vae").score_samples(rows.astype(np.float64))
    succeeds("score", "X.hex", "--model", "m.vae", "--output", "s.csv")
    np.testing.assert_array_equal(pd.read_csv("s.csv")["anomaly_score"], expected)
    succeeds("score", "X.hex", "--model", "m.vae", "--engine", "processes", "--shard-rows", "64", "--output", "parts")
    np.testing.assert_array_equal(pd.read_parquet("parts")["anomaly_score"], expected)
