"""``vae-anomaly find``: the odd rows, why they are odd, and all rows with their own values."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers import Make, fails
from odd_rows import ODD, make_frame, ok

pytestmark = pytest.mark.usefixtures("own_folder")


def test_the_odd_row_is_found_and_the_reason_given() -> None:
    frame = make_frame().assign(row=range(1000, 1120))
    frame.to_csv("t.csv", index=False)
    text = ok("find", "t.csv", "--epochs", 40, "-n", 3)
    header, *rows = text[text.index("row  ") :].splitlines()[:4]
    assert header.split() == ["row", "key", "row", "score", "p-value", "because"]  # the file's own row counts too
    (odd,) = (row for row in rows if row.split()[:3] == [str(ODD), frame["key"][ODD], str(1000 + ODD)])
    assert "kind hat, expected shoe (" in odd or "size 40.0" in odd
    table = pd.read_csv("t.csv.found.csv")
    assert table["anomaly_score"].is_monotonic_decreasing
    assert sorted(table["row"]) == list(range(len(frame)))
    assert table["because"].notna().all()
    for name in frame.columns.drop(["row", "sold"]):
        pd.testing.assert_series_equal(table[name], frame[name][table["row"]].reset_index(drop=True), check_dtype=False)
    assert (table["row (in the data)"] == table["row"] + 1000).all()
    numbers = json.loads(Path("t.csv.found.report/report.json").read_text())
    assert ODD in numbers["gallery"]["most anomalous"][:3]
    scores = pd.read_csv("t.csv.found.report/scores.csv")
    assert scores["anomaly_score"].sort_values(ascending=False).tolist() == table["anomaly_score"].tolist()
    assert numbers["n_flagged"] == table["decision"].sum()


def test_the_same_command_gives_the_same_bits_and_a_share_is_flagged() -> None:
    make_frame().to_csv("t.csv", index=False)
    arguments = ["find", "t.csv", "--epochs", 2, "--contamination", 0.1, "--no-report"]
    ok(*arguments)
    first = Path("t.csv.found.csv").read_bytes()
    ok(*arguments)
    assert Path("t.csv.found.csv").read_bytes() == first
    assert pd.read_csv("t.csv.found.csv")["decision"].sum() == 12


def test_one_model_of_clean_rows_scores_others() -> None:
    frame = make_frame()
    frame.drop(index=ODD).to_csv("clean.csv", index=False)
    new = frame.iloc[ODD - 3 : ODD + 3]
    new[frame.columns[::-1]].assign(label="?").to_csv("new.csv", index=False)
    text = ok("find", "--train", "clean.csv", "new.csv", "--epochs", 30, "--label-column", "label", "--output", "o.csv")
    assert "one fitted on clean.csv" in text
    table = pd.read_csv("o.csv")
    assert table["row"].iloc[0] == 3
    assert (table["label"] == "?").all()
    assert Path("o.report/report.html").exists()


def test_arrays_have_odd_rows_too(make_table: Make) -> None:
    X = make_table(100)
    X[13, 2] += 50
    np.save("X.npy", X)
    ok("find", "X.npy", "--epochs", 2, "--no-report", "--output", "X.found.csv")
    table = pd.read_csv("X.found.csv")
    assert table["row"].iloc[0] == 13
    assert table["because"].iloc[0].startswith("feature 2 ")
    np.testing.assert_array_equal(table[[str(i) for i in range(6)]], X[table["row"]])


def test_each_file_has_results_of_its_own() -> None:
    names = ["t.2024.csv", "t.2025.csv.gz", ".t.csv", "t.csv", "t.xlsx", "t", "new/t.csv"]
    for name in names:
        Path(name).parent.mkdir(exist_ok=True)
        if name == "t":
            Path(name).mkdir()
            make_frame(40).to_parquet("t/a.parquet")
        else:
            (make_frame(40).to_excel if name.endswith("xlsx") else make_frame(40).to_csv)(name, index=False)
        before = set(Path().rglob("*"))
        ok("find", name, "--epochs", 1)
        own = {Path(f"{name}.found.csv"), Path(f"{name}.found.report")}
        assert {path for path in set(Path().rglob("*")) - before if ".report/" not in str(path)} == own


def test_where_nothing_can_be_written_beside_the_data_another_place_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(path: Path, *args: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    make_frame().to_csv("t.csv", index=False)
    monkeypatch.setattr(Path, "open", refuse)
    message = "Error: t.csv.found.csv: Permission denied: name another place with --output"
    assert fails(1, "find", "t.csv") == message
    assert fails(1, "find", "t.csv", "--output", "o.csv") == "Error: o.csv: Permission denied"


def test_nothing_that_is_read_is_replaced() -> None:
    make_frame().to_csv("t.csv.found.csv", index=False)
    make_frame().to_csv("t.csv", index=False)
    before = Path("t.csv.found.csv").read_bytes()
    assert "would replace --train t.csv.found.csv" in fails(2, "find", "t.csv", "--train", "t.csv.found.csv")
    assert "would replace DATA t.csv" in fails(2, "find", "t.csv", "--output", "t.csv")
    assert "is neither .csv nor .parquet" in fails(2, "find", "t.csv", "--output", "t.json")
    assert Path("t.csv.found.csv").read_bytes() == before
