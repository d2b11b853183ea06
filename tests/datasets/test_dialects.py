"""Text tables as people have them: dialects, headers, types and labels, each from a small file."""

from __future__ import annotations

import bz2
import gzip
import math
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vae_anomaly.datasets import Dataset, chunks, load_file
from vae_anomaly.datasets.formats import csv
from vae_anomaly.datasets.reading import Reading, TableNote
from vae_anomaly.errors import ColumnsError, DataError


def read(path: Path, content: str | bytes, label: str | None = None, **said: object) -> tuple[Dataset, str]:
    """What is read of a file, and the notes on it."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load_file(path, label, Reading(**said))
    assert all(issubclass(warning.category, TableNote) for warning in caught)
    assert len(caught) <= 1
    return data, "".join(str(warning.message) for warning in caught)


@pytest.mark.parametrize(
    ("name", "content", "note"),
    [
        ("a.csv", "a,b\n1.5,2\n3.5,4\n", ""),
        ("a.CSV", "a,b\n1.5,2\n3.5,4\n", ""),
        ("a.csv", "a;b\n1,5;2\n3,5;4\n", "semicolons between cells, decimal commas"),
        ("a.tsv", "a\tb\n1.5\t2\n3.5\t4\n", "tabs"),
        ("a.txt", "a|b\n1.5|2\n3.5|4\n", "bars"),
        ("a.csv", "a,b\n1.5,2\n3.5,4\n".encode("utf-8-sig"), ""),
        ("a.csv", "a,b\n1.5,2\n3.5,4\n".encode("utf-16"), "encoding utf-16"),
        ("a.csv", '"a","b"\n"1.5","2"\n"3.5","4"\n', ""),
        ("a.csv", "Title\n# comment\n\na,b\n1.5,2\n3.5,4\n", "the first 3 lines skipped"),
        ("a.csv", "a,b,\n1.5,2,\n3.5,4,\n", "'Unnamed: 2' left out"),
        ("a.csv", ",a,b\n0,1.5,2\n1,3.5,4\n", "'Unnamed: 0' left out"),
        ("a.csv", "a,b\n1,1.5,2\n2,3.5,4\n", "'Unnamed: 0' left out"),
        ("a.csv", 'a,b\n$1.50,2 %\n"$3.50",4%\n', "$ in column 'a' removed, % in column 'b' removed"),
        ("a.csv", "a;b\n1,50 €;2,0 %\n3,50 €;4,0 %\n", "decimal commas, € in column 'a' removed"),
        ("a.csv.gz", gzip.compress(b"a,b\n1.5,2\n3.5,4\n", mtime=0), ""),
    ],
)
def test_one_table_in_many_dialects(tmp_path: Path, name: str, content: str | bytes, note: str) -> None:
    data, said = read(tmp_path / name, content)
    assert data.X.columns.tolist() == ["a", "b"]
    assert data.X.to_numpy().tolist() == [[1.5, 2], [3.5, 4]]
    assert note in said
    assert bool(note) == bool(said)


TABLES = {
    "euros": "a;b\n1.500,25 €;x\n900,50 €;y\n",
    "percent": "a;b\n12,5 %;x\n13 %;y\n",
    "dollars": 'a,b\n"$1,500.25",x\n$900.50,y\n',
    "two marks": "a;b;c\n1.500,25 €;x;1.5\n900,50 €;y;2.25\n",
    "two marks, commas first": "a;b;c\n1,5;x;12.25 $\n2,5;y;1,900.50 $\n",
    "groups of spaces": "a;b\n1 500,25;x\n900,50;y\n",
    "words for gaps": "a;b\n1.500,25 €;x\n?;y\n-;z\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_a_model_reads_numbers_as_its_fit_did(tmp_path: Path, name: str) -> None:
    fitted, _ = read(tmp_path / "a.csv", TABLES[name])
    kinds = {str(column): "number" for column in fitted.X.select_dtypes("number")}
    assert "a" in kinds
    scored, _ = read(tmp_path / "a.csv", TABLES[name], columns=kinds | {"b": "category"})
    pd.testing.assert_frame_equal(scored.X, fitted.X, check_dtype=False, rtol=0, atol=0)


def test_what_is_said_is_taken(tmp_path: Path) -> None:
    data, note = read(
        tmp_path / "a.csv", "x\n1,5;2\n", sep=";", decimal=",", encoding="utf-8", header=False, skip_rows=1
    )
    assert data.X.to_numpy().tolist() == [[1.5, 2]]
    assert not note
    with pytest.raises(DataError, match="Python knows no such encoding"):
        read(tmp_path / "a.csv", "a\n1\n", encoding="klingon")


@pytest.mark.parametrize(
    ("first", "is_data"),
    [("1,,3", True), ("NA,2,3", True), ("1,2,3", True), ("a,b,c", False), ("0,1,2", False), ("x,2019,2020", False)],
)
def test_a_gap_or_a_number_in_the_first_line_is_data(tmp_path: Path, first: str, is_data: bool) -> None:
    body = "u,5,6\nv,8,9\n" if first.startswith("x") else "4,5,6\n7,8,9\n"
    assert len(read(tmp_path / "a.csv", f"{first}\n{body}")[0]) == 2 + is_data


def test_the_names_of_a_model_decide_on_a_header(tmp_path: Path) -> None:
    years = dict.fromkeys(("2019", "2020"), "number")
    assert len(read(tmp_path / "a.csv", "2019,2020\n1,2\n")[0]) == 2
    data, _ = read(tmp_path / "a.csv", "2019,2020\n1,2\n", columns=years)
    assert data.X.to_numpy().tolist() == [[1, 2]]


@pytest.mark.parametrize("gaps", ["refuse", "as-gaps"])
def test_a_header_with_few_of_a_models_names_is_one(tmp_path: Path, gaps: str) -> None:
    known = {"key": "identifier", "size": "number", "2019": "number", "2020": "number", "2021": "number"}
    for first, n_missing in (("size,key", 3), ("2021,2019", 2), ("size,x,y,z", 3)):
        n = first.count(",")
        data, note = read(tmp_path / "a.csv", f"{first}\n1{',2' * n}\n", columns=known, missing_columns=gaps)
        assert data.X.columns.tolist()[: n + 1] == first.split(",")
        assert len(data.X) == 1
        assert data.X.shape[1] == n + 1 + (n_missing if gaps == "as-gaps" else 0)
        assert ("which count as gaps" in note) == (gaps == "as-gaps")
    for content, said in (("p,q\n1,2\n", "'p', 'q'"), ("1,2\n3,4\n", "'0', '1'")):
        if gaps == "as-gaps":
            with pytest.raises(DataError, match=f"has none of the model's columns, 'size', .*; its own are {said}"):
                read(tmp_path / "a.csv", content, columns=known, missing_columns=gaps)
        else:
            assert len(read(tmp_path / "a.csv", content, columns=known)[0].X) == content.count("\n") - ("p" in content)


def test_a_table_without_header_has_text_labels(tmp_path: Path) -> None:
    data, note = read(tmp_path / "iris.csv", "5.1,3.5,setosa\n4.9,3.0,setosa\n7,3.2,virginica\n", "2")
    assert data.labels.tolist() == ["setosa", "setosa", "virginica"]
    assert data.X.columns.tolist() == [0, 1]
    assert "no header (columns are named 0 to 2)" in note


def test_labels_are_text_to_the_end(tmp_path: Path) -> None:
    cells = ["None", "NA", "null", "01", "True", "1.0", "-1"]
    data, _ = read(tmp_path / "a.csv", "x,k\n" + "".join(f"{i},{cell}\n" for i, cell in enumerate(cells)), "k")
    assert data.labels.tolist() == ["None", "NA", "null", "01", "True", "1", "-1"]
    with pytest.raises(DataError, match="row 1 has no label"):
        read(tmp_path / "a.csv", "x,k\n1,a\n2,\n", "k")


def test_types_are_decided_on_all_rows(tmp_path: Path) -> None:
    text = "a,b,c\n" + "1,01,2\n" * 70_000 + "x,7,2\n"
    data, _ = read(tmp_path / "a.csv", text)
    assert data.X["a"].iloc[[0, -1]].tolist() == ["1", "x"]
    assert data.X["b"].iloc[[0, -1]].tolist() == ["01", "7"]
    assert data.X["c"].dtype == "int64"
    parts = list(chunks(tmp_path / "a.csv", 30_000))
    pd.testing.assert_frame_equal(pd.concat([part.X for part in parts], ignore_index=True), data.X)


def test_truth_values_and_marks_of_gaps(tmp_path: Path) -> None:
    data, note = read(tmp_path / "a.csv", "a,b\nTRUE,1\nfalse,?\n,3\n")
    assert data.X["a"].iloc[:2].tolist() == ["TRUE", "false"]
    assert math.isnan(data.X["b"][1])
    assert "? in column 'b' as missing" in note


def test_a_bomb_and_damage_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="more than 200 times"):
        read(tmp_path / "a.csv.bz2", bz2.compress(b"a,b\n" + b"1,1\n" * 20_000_000))
    with pytest.raises(DataError, match="cannot be decompressed"):
        read(tmp_path / "a.csv.gz", gzip.compress(b"a,b\n1,2\n", mtime=0)[:-6])


def test_all_columns_of_no_use_are_listed_and_unused_ones_do_no_harm(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": [1.0], "l": [[1]], "m": [[2]]}, index=pd.date_range("2020", periods=1, name="time"))
    frame.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ColumnsError, match="\n- l: list.*\n- m: list"):
        load_file(tmp_path / "a.parquet")
    data = load_file(tmp_path / "a.parquet", None, Reading(columns={"x": "number"}))
    assert data.X.columns.tolist() == ["x"]


def large_table(n: int = 300) -> pd.DataFrame:
    """Columns whose kind shows late, beside labels that would be other values as numbers."""
    rng = np.random.default_rng(0)
    late = [*range(n - 40), *["x"] * 40]
    return pd.DataFrame(
        {
            "number": rng.normal(size=n).round(3),
            "whole": rng.integers(0, 9, n),
            "gaps": np.where(np.arange(n) % 7 == 0, np.nan, rng.normal(size=n).round(2)),
            "all gaps first": [None] * 100 + [2.5] * (n - 100),
            "late text": late,
            "truth": rng.choice([True, False], n),
            "code": [f"{i:04}" for i in rng.permutation(n)],
            "text, quoted": rng.choice(['a;b"', "c,d|\t", "e"], n),
            "class": rng.choice(["01", "None", "True"], n),
        }
    )


LARGE = {
    "plain.csv": {},
    "semicolons.csv": {"sep": ";", "decimal": ","},
    "tabs.tsv": {"sep": "\t"},
    "utf16.csv": {"encoding": "utf-16"},
    "index.csv": {"index": True},
    "compressed.csv.gz": {},
    "bare.csv": {"header": False},
}


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("first_row", [0, 131])
def test_a_table_too_large_to_hold_is_read_twice_as_it_would_be_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, first_row: int
) -> None:
    path, label = tmp_path / name, "8" if name == "bare.csv" else "class"
    large_table().to_csv(path, **{"index": False} | LARGE[name])
    monkeypatch.setattr(csv, "INFERRED_ROWS", 64)

    def parts() -> tuple[list[Dataset], set[str]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = list(chunks(path, 50, label, first_row))
        return found, {str(warning.message) for warning in caught}

    once, said_once = parts()
    monkeypatch.setattr(csv, "WHOLE_BYTES", 0)
    twice, said_twice = parts()
    assert said_twice == said_once
    for parts_read in (once, twice):
        assert np.concatenate([part.row_numbers for part in parts_read]).tolist() == list(range(first_row, 300))
        labels = np.concatenate([part.labels for part in parts_read]).tolist()
        assert labels == large_table()["class"][first_row:].tolist()
        assert max(map(len, parts_read)) <= 50
    held, read_again = (pd.concat([part.X for part in read], ignore_index=True) for read in (once, twice))
    pd.testing.assert_frame_equal(held, read_again)
    for part in twice:  # decided on the whole table, and not on the chunk
        assert (part.X.dtypes == held.dtypes).all()


def test_a_folder_of_parquet_is_one_table(tmp_path: Path) -> None:
    for i in range(2):
        pd.DataFrame({"x": [i, i]}).to_parquet(tmp_path / f"{i}.parquet")
    data = load_file(tmp_path)
    assert data.X["x"].tolist() == [0, 0, 1, 1]
    assert data.row_numbers.tolist() == [0, 1, 2, 3]
    assert [part.X["x"].tolist() for part in chunks(tmp_path, 5, None, 3)] == [[1]]


cells = st.floats(allow_nan=False, allow_infinity=False, width=32) | st.none()
words = st.text(st.characters(codec="latin-1", categories=["L"]), min_size=1, max_size=8).filter(
    lambda word: word.lower() not in {"na", "nan", "null", "none", "inf", "infinity", "true", "false"}
)


@given(
    rows=st.lists(st.tuples(cells, words), min_size=2, max_size=6),
    sep=st.sampled_from(",;\t|"),
    decimal=st.sampled_from(".,"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_in_any_dialect_comes_back(
    tmp_path: Path, rows: list[tuple[float | None, str]], sep: str, decimal: str, encoding: str
) -> None:
    frame = pd.DataFrame(rows, columns=["number", "word"]).astype({"number": "float64", "word": "str"})
    frame.to_csv(tmp_path / "t.csv", sep=sep, decimal=decimal, encoding=encoding, index=False)
    data, _ = read(tmp_path / "t.csv", (tmp_path / "t.csv").read_bytes(), sep=sep, decimal=decimal, encoding=encoding)
    pd.testing.assert_series_equal(data.X["word"], frame["word"], check_dtype=False)
    pd.testing.assert_series_equal(data.X["number"], frame["number"], check_dtype=False, rtol=0, atol=0)
