"""A user's own data: what is read, and what is refused in one clear sentence."""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from vae_anomaly.datasets import Dataset, chunks, count_rows, load_file, load_labels
from vae_anomaly.datasets.reading import ImageNote, TableNote
from vae_anomaly.errors import DataError

X = np.random.default_rng(0).normal(size=(23, 3))
LABELS = np.array(["cat", "dog"] * 11 + ["cat"])


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The same 23 rows in every format."""
    frame = pd.DataFrame(X, columns=["a", "b", "c d"])
    paths = {kind: tmp_path / f"data.{kind}" for kind in ("npy", "npz", "csv", "parquet")}
    np.save(paths["npy"], X)
    np.savez(paths["npz"], X=X, y=LABELS)
    frame.to_csv(paths["csv"], index=False)
    frame.to_parquet(paths["parquet"])
    return paths


def kept(parts: Iterable[Dataset]) -> list[Dataset]:
    """Parts that outlive the next one."""
    return [replace(part, X=part.X.copy()) for part in parts]


@pytest.mark.parametrize("kind", ["npy", "npz", "csv", "parquet"])
@pytest.mark.parametrize("n_rows", [1, 5, 23, 1000])
def test_every_format_gives_the_same_rows_whole_and_in_chunks(files: dict[str, Path], kind: str, n_rows: int) -> None:
    whole = load_file(files[kind])
    np.testing.assert_array_equal(whole.X, X)
    parts = kept(chunks(files[kind], n_rows))
    assert [len(part) for part in parts[:-1]] == [n_rows] * (len(parts) - 1)
    np.testing.assert_array_equal(np.concatenate([part.X for part in parts]), X)
    if kind in ("csv", "parquet"):
        assert whole.feature_names == parts[0].feature_names == ("a", "b", "c d")
    if kind == "npz":
        assert whole.labels.tolist() == LABELS.tolist()


@given(X=hnp.arrays(np.float64, (4, 2), elements=st.floats(allow_nan=False, allow_infinity=False)))
@settings(max_examples=30)
def test_csv_keeps_every_bit(tmp_path_factory: pytest.TempPathFactory, X: np.ndarray) -> None:
    path = tmp_path_factory.getbasetemp() / "bits.csv"
    pd.DataFrame(X, columns=["a", "b"]).to_csv(path, index=False)
    np.testing.assert_array_equal(load_file(path).X, X)


def test_npy_stays_on_disk_and_keeps_its_type(tmp_path: Path) -> None:
    images = np.arange(2 * 8 * 9, dtype=np.uint8).reshape(2, 8, 9)
    np.save(tmp_path / "images.npy", images)
    data = load_file(tmp_path / "images.npy")
    assert isinstance(data.X, np.memmap)
    assert data.X.dtype == np.uint8
    np.save(tmp_path / "fortran.npy", np.asfortranarray(X))
    np.testing.assert_array_equal(np.concatenate([part.X for part in chunks(tmp_path / "fortran.npy", 4)]), X)


def test_a_huge_npy_is_not_read_to_look_at_it(tmp_path: Path) -> None:
    path = tmp_path / "huge.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 1000)})
        file.truncate(file.tell() + 10**12)
    assert len(load_file(path)) == 10**9
    assert len(next(chunks(path, 10))) == 10


def test_label_columns_are_taken_out(tmp_path: Path, files: dict[str, Path]) -> None:
    frame = pd.DataFrame(X, columns=list("abc"))
    frame.insert(1, "kind", LABELS)
    frame.to_csv(tmp_path / "labelled.csv", index=False)
    frame.to_parquet(tmp_path / "labelled.parquet")
    for name in ("labelled.csv", "labelled.parquet"):
        data = load_file(tmp_path / name, "kind")
        np.testing.assert_array_equal(data.X, X)
        assert data.labels.tolist() == LABELS.tolist()
        assert data.feature_names == ("a", "b", "c")
    with pytest.raises(DataError, match="no column 'sort'; its columns are a, kind, b, c"):
        load_file(tmp_path / "labelled.csv", "sort")
    assert load_file(tmp_path / "labelled.csv").X["kind"].tolist() == LABELS.tolist()
    with pytest.raises(DataError, match="--label-column is for .csv and .tsv and .txt and .parquet and .xlsx"):
        load_file(files["npy"], "kind")


def test_a_csv_without_header_numbers_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "bare.csv"
    path.write_bytes(b"\xef\xbb\xbf1,2.5,-3\r\n4,5,6e1\r\n")
    with pytest.warns(TableNote, match="no header"):
        data = load_file(path)
    assert data.X.to_numpy().tolist() == [[1, 2.5, -3], [4, 5, 60]]
    assert data.X.columns.tolist() == [0, 1, 2]
    assert data.feature_names is None
    labelled = tmp_path / "labelled.csv"
    labelled.write_text("1,7,0\n2,8,1\n")
    with pytest.warns(TableNote, match="no header"):
        labels = load_file(labelled, "2").labels
    assert labels.tolist() == ["0", "1"]


def test_the_header_that_pandas_writes_for_nameless_columns_is_no_sample(tmp_path: Path) -> None:
    pd.DataFrame(X).to_csv(tmp_path / "nameless.csv", index=False)
    data = load_file(tmp_path / "nameless.csv")
    np.testing.assert_array_equal(data.X, X)
    assert data.feature_names == ("0", "1", "2")
    (tmp_path / "one.csv").write_text("0\n1\n")
    with pytest.warns(TableNote, match="no header"):
        assert load_file(tmp_path / "one.csv").X.to_numpy().tolist() == [[0], [1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no samples"),
        ("\n", "holds no samples"),
        ("a,b\n", "holds no samples"),
        ("a,b\n1,2\n3,4,5\n", "not a table with 2 columns in every row"),
        ("a,b\n1,2,3\n4,5,6\n", "not a table with 2 columns in every row"),
        ("a,a\n1,2\n", "two columns are named 'a'"),
    ],
)
def test_a_bad_csv_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load_file(path)


def test_how_many_there_are_is_known_where_the_file_says_so(files: dict[str, Path], tmp_path: Path) -> None:
    assert {kind: count_rows(path) for kind, path in files.items()} == {
        "npy": 23,
        "npz": None,
        "csv": None,
        "parquet": 23,
    }
    assert count_rows(Path("-")) is None
    np.save(tmp_path / "single.npy", 3.0)
    assert count_rows(tmp_path / "single.npy") is None
    (tmp_path / "bad.parquet").write_text("no")
    with pytest.raises(DataError, match="not a readable parquet file"):
        count_rows(tmp_path / "bad.parquet")


def test_chunks_of_an_array_file_share_one_buffer(files: dict[str, Path]) -> None:
    parts = [part.X for part in chunks(files["npy"], 10)]
    assert [len(part) for part in parts] == [10, 10, 3]
    assert all(np.shares_memory(part, parts[0]) for part in parts)


def test_rows_of_errors_count_across_chunks(tmp_path: Path) -> None:
    path = tmp_path / "late.csv"
    path.write_text("a\n" + "1\n" * 40 + "1,2\n")
    with pytest.raises(DataError, match="not a table with 1 columns"):
        list(chunks(path, 7))
    np.save(tmp_path / "late.npy", np.vstack([np.ones((40, 2)), [[1, np.inf]]]))
    with pytest.raises(DataError, match="row 40, column 1 is inf"):
        list(chunks(tmp_path / "late.npy", 7))


def test_a_csv_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes.csv").write_bytes(b"a,b\n1,\x00\xe9\n")
    with pytest.raises(DataError, match="holds bytes that are no text"):
        load_file(tmp_path / "bytes.csv")


class Explosive:
    """What a pickle could do: reaching this at all is the failure."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('code ran from a data file')",))


@pytest.mark.parametrize("name", ["objects.npy", "objects.npz", "pickle.npy", "pickle.npz"])
def test_pickles_are_never_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    objects = np.array([Explosive()], dtype=object)
    if name.startswith("pickle"):
        path.write_bytes(pickle.dumps(Explosive()))
    elif name.endswith("npy"):
        np.save(path, objects, allow_pickle=True)
    else:
        np.savez(path, X=objects)
    with pytest.raises(DataError, match="never read: save plain numbers"):
        load_file(path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array(3.0), "got an array of shape \\(\\)|single value"),
        (np.zeros(3), r"got an array of shape \(3,\)"),
        (np.zeros((2, 2, 2, 2, 2)), "got an array of shape"),
        (np.zeros((0, 3)), "holds no samples"),
        (np.zeros((3, 0)), "holds no samples"),
        (np.array([["a"]]), "needs real numbers"),
        (np.array([[1j]]), "needs real numbers"),
        (np.array([[1.0], [np.inf]]), "row 1, column 0 is inf"),
        (np.array([[1.0], [-np.inf]]), "row 1, column 0 is -inf"),
        (np.array([[[1.0, np.nan]]]), "row 0, column 0, 1 is nan"),
    ],
)
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_arrays_that_are_no_samples_are_refused(tmp_path: Path, kind: str, array: np.ndarray, message: str) -> None:
    path = tmp_path / f"bad.{kind}"
    np.save(path, array) if kind == "npy" else np.savez(path, X=array)
    with pytest.raises(DataError, match=message):
        load_file(path)


@pytest.mark.parametrize("kind", ["npy", "npz", "parquet"])
def test_damaged_files_are_refused(files: dict[str, Path], kind: str) -> None:
    blob = files[kind].read_bytes()
    for length in (0, 5, len(blob) // 2, len(blob) - 1):
        files[kind].write_bytes(blob[:length])
        with pytest.raises(DataError, match=str(files[kind])):
            load_file(files[kind])


def test_npz_needs_x_and_matching_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "named.npz", data=X)
    with pytest.raises(DataError, match="needs an array named X .* found: data"):
        load_file(tmp_path / "named.npz")
    np.savez(tmp_path / "short.npz", X=X, y=LABELS[:5])
    with pytest.raises(DataError, match="23 samples in X but 5 labels in y"):
        load_file(tmp_path / "short.npz")


def test_parquet_has_gaps_and_text(tmp_path: Path) -> None:
    pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": ["x", "y"]}).to_parquet(tmp_path / "mixed.parquet")
    table = load_file(tmp_path / "mixed.parquet").X
    assert table["a"].isna().tolist() == [False, True]
    assert table["b"].tolist() == ["x", "y"]
    pd.DataFrame({"a": np.float32([1, 2])}).to_parquet(tmp_path / "single.parquet")
    assert load_file(tmp_path / "single.parquet").to_array().dtype == np.float32


def test_unknown_and_missing_paths(tmp_path: Path) -> None:
    (tmp_path / "x.ods").write_bytes(b"")
    with pytest.raises(
        DataError,
        match="give .csv, .tsv, .txt, .npy, .*.zarr or an image file or a folder of images",
    ):
        load_file(tmp_path / "x.ods")
    for name in ("none.npy", "none.csv"):
        with pytest.raises(DataError, match="does not exist"):
            load_file(tmp_path / name)


@pytest.mark.parametrize("kind", ["csv", "npy"])
def test_standard_input(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(files[kind].read_bytes()))
    monkeypatch.setattr(sys, "stdin", stream)
    np.testing.assert_array_equal(np.concatenate([part.X for part in kept(chunks(Path("-"), 5))]), X)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with pytest.raises(DataError, match="standard input: holds no samples"):
        list(chunks(Path("-"), 5))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("label\n3\n4.0\n", ["3", "4"]),
        ("3\n4\n", ["3", "4"]),
        ("cat\ndog\n", ["cat", "dog"]),
        ("kind\n0\n1\n", ["0", "1"]),
    ],
)
def test_labels_from_csv(tmp_path: Path, content: str, expected: list[str]) -> None:
    (tmp_path / "labels.csv").write_text(content)
    assert load_labels(tmp_path / "labels.csv").tolist() == expected


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([0, 1], np.uint8), ["0", "1"]),
        (np.array([True, False]), ["True", "False"]),
        (np.array([2.0, 3.0]), ["2", "3"]),
        (np.array(["a", " b "]), ["a", "b"]),
    ],
)
def test_labels_from_npy(tmp_path: Path, array: np.ndarray, expected: list[str]) -> None:
    np.save(tmp_path / "labels.npy", array)
    assert load_labels(tmp_path / "labels.npy").tolist() == expected


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("l.npy", np.array([0.5, 1]), "label of row 0 is 0.5"),
        ("l.npy", np.array([np.nan]), "label of row 0 is nan"),
        ("l.npy", np.zeros((2, 2)), "labels must be one column"),
        ("l.npy", np.array(["a", ""]), "row 1 has no label"),
        ("l.csv", "a,b\n", "exactly one label a row"),
        ("l.csv", "", "exactly one label a row"),
        ("l.json", "[]", "labels come as .npy"),
    ],
)
def test_bad_labels_are_refused(tmp_path: Path, name: str, array: np.ndarray | str, message: str) -> None:
    path = tmp_path / name
    path.write_text(array) if isinstance(array, str) else np.save(path, array)
    with pytest.raises(DataError, match=message):
        load_labels(path)


def save_images(folder: Path, names: list[str], mode: str = "L", size: tuple[int, int] = (9, 8)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        Image.new(mode, size, color=i).save(folder / name)


def test_a_folder_of_images_is_read_in_order(tmp_path: Path) -> None:
    save_images(tmp_path / "flat", ["b.png", "a.png", "c.bmp"])
    (tmp_path / "flat" / "notes.txt").write_text("not an image")
    with pytest.warns(ImageNote, match=r"left out notes.txt \(no kind of image that can be read\)"):
        data = load_file(tmp_path / "flat")
    assert data.X.shape == (3, 8, 9)
    assert data.X.dtype == np.uint8
    assert data.X[:, 0, 0].tolist() == [1, 0, 2]
    assert data.row_names == ("a.png", "b.png", "c.bmp")
    assert data.labels is None
    (tmp_path / "flat" / "notes.txt").unlink()
    assert [len(part) for part in chunks(tmp_path / "flat", 2)] == [2, 1]


def test_subfolders_are_classes(tmp_path: Path) -> None:
    save_images(tmp_path / "good", ["1.png", "2.png"], "RGB")
    save_images(tmp_path / "bad", ["3.png"], "P")
    data = load_file(tmp_path)
    assert data.X.shape == (3, 8, 9, 3)
    assert data.labels.tolist() == ["bad", "good", "good"]
    assert data.row_names == ("bad/3.png", "good/1.png", "good/2.png")


def test_image_folders_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        load_file(tmp_path / "empty")
    save_images(tmp_path / "sizes", ["a.png"])
    save_images(tmp_path / "sizes", ["b.png"], size=(9, 9))
    with pytest.raises(DataError, match=r"2 sizes .*: a.png is 8x9, b.png is 9x9; bring them to one with --resize"):
        load_file(tmp_path / "sizes")
    save_images(tmp_path / "mixed", ["a.png"])
    save_images(tmp_path / "mixed" / "sub", ["a.png"])
    with pytest.raises(DataError, match=r"both directly in it \(a.png\) and in subfolders"):
        load_file(tmp_path / "mixed")
    save_images(tmp_path / "broken", ["a.png", "b.png"])
    blob = (tmp_path / "broken" / "b.png").read_bytes()
    for content in (b"", b"text", blob[: len(blob) // 2]):
        (tmp_path / "broken" / "b.png").write_bytes(content)
        with pytest.raises(DataError, match=r"b.png cannot be read as an image"):
            load_file(tmp_path / "broken")
