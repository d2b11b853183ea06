"""``--group-column`` and ``--time-column``: no figure rests on rows of a group that was trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers import fails, run
from odd_rows import ok
from vae_anomaly import VAEDetector
from vae_anomaly.cli import kept_table
from vae_anomaly.fitting.groups import Groups

QUICK = ("--epochs", 2, "--no-report")
pytestmark = pytest.mark.usefixtures("own_folder")


def make_frame(n: int = 160) -> pd.DataFrame:
    """Rows of twenty machines, each with its name and its day; every tenth is labelled an anomaly."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(n, 3)), columns=list("abc"))
    frame["machine"] = [f"m{i // 8}" for i in range(n)]
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.permutation(n), unit="D")
    frame["day"] = days.strftime("%d.%m.%Y")
    return frame.assign(label=(np.arange(n) % 10 == 0).astype(int))


def parts_of(model: Path, frame: pd.DataFrame) -> np.ndarray:
    """Of each row the part that it was in: 0 trained, 1 stopped the training, 2 set the threshold, 3 none."""
    fitted = VAEDetector.load(model).model_
    assert fitted.fitted_on is not None
    return fitted.fitted_on.overlap([fitted.rows(frame.drop(columns="label"))]).parts


def test_groups_stay_whole_in_all_parts_and_are_counted_and_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = make_frame()
    frame.to_csv("all.csv", index=False)
    fit = (
        "fit",
        "--data",
        "all.csv",
        "--label-column",
        "label",
        "--group-column",
        "machine",
        "--id-column",
        "c",
        *QUICK,
    )
    summary = json.loads(ok(*fit, "--json"))
    parts, normal = parts_of(Path("model.vae"), frame), frame["label"] == 0
    assert (parts[~normal] == 3).all()
    sides = [set(frame["machine"][normal & (parts == part)]) for part in range(4)]
    assert sum(map(len, sides)) == frame["machine"].nunique() == 20
    assert list(summary["model"]["n_groups"].values()) == [len(side) for side in sides[:3]] == [12, 2, 2]
    scores = pd.read_csv("model.scores.csv")
    assert list(scores.columns[:3]) == ["row", "c", "machine"]
    assert (scores["machine"] == frame["machine"][scores["row"]].to_numpy()).all()
    assert sorted(scores["row"]) == sorted(np.flatnonzero(parts == 3))
    Path("first.vae").write_bytes(Path("model.vae").read_bytes())
    monkeypatch.setattr(kept_table, "KEPT_BYTES", 100)  # a table that is not kept beside its codes
    assert "whole groups: 12 trained it, 2 stopped the training, 2 set the threshold" in ok(*fit)
    assert (parts_of(Path("model.vae"), frame) == parts).all()
    first, again = (
        VAEDetector.load(name).score_samples(frame.drop(columns="label")) for name in ("first.vae", "model.vae")
    )
    assert (first == again).all()


def test_the_last_in_time_are_tested_and_set_the_threshold() -> None:
    frame = make_frame()
    frame.to_csv("all.csv", index=False)
    text = ok("fit", "--data", "all.csv", "--label-column", "label", "--time-column", "day", *QUICK)
    assert "in order of time: the first trained it, the last set the threshold" in text
    assert VAEDetector.load("model.vae").time_ordered
    normal = frame["label"] == 0
    day, parts = pd.to_datetime(frame["day"], format="%d.%m.%Y")[normal], parts_of(Path("model.vae"), frame[normal])
    for part in range(3):
        assert day[parts == part].max() < day[parts > part].min()
    assert np.bincount(parts).tolist() == [91, 12, 12, 29]
    by_flag = ok("fit", "--data", "all.csv", "--label-column", "label", "--time-ordered", *QUICK)
    assert "in order of time" in by_flag
    assert (np.diff(parts_of(Path("model.vae"), frame[normal])) >= 0).all()


def test_find_keeps_groups_in_one_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    folds: list[np.ndarray] = []
    whole = Groups.folds
    monkeypatch.setattr(Groups, "folds", lambda *given: folds.append(whole(*given)) or folds[0])
    make_frame().drop(columns=["label", "day"]).to_csv("t.csv", index=False)
    rows = ok("find", "t.csv", "--group-column", "machine", "-n", 1, *QUICK).splitlines()
    assert any(line.split()[:3] == ["row", "machine", "score"] for line in rows)
    table = pd.read_csv("t.csv.found.csv").sort_values("row")
    assert (pd.Series(folds[0]).groupby(table["machine"].to_numpy()).nunique() == 1).all()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (
            ("--data", "t.csv", "--group-column", "Machine"),
            1,
            "no column 'Machine' for --group-column; its columns are",
        ),
        (("--data", "t.csv", "--time-column", "when"), 1, "no column 'when' for --time-column; its columns are"),
        (("--data", "t.csv", "--time-column", "machine"), 1, "column 'machine' holds 'm0' and is to give the order in"),
        (
            ("--data", "t.csv", "--group-column", "site"),
            1,
            "row 3, column 'site' is empty: fill it in, or leave the row",
        ),
        (("--data", "t.csv", "--group-column", "half"), 1, "groups has 2 different value(s) in 160 rows"),
        (("--data", "X.npy", "--group-column", "a"), 1, "no column 'a' for --group-column; it has no columns"),
        (("--normal", "0", "--group-column", "a"), 2, "--group-column and --time-column go with --data"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_message(options: tuple[str, ...], code: int, message: str) -> None:
    frame = make_frame().drop(columns="label").assign(half=["x", "y"] * 80, site="s")
    frame.loc[3, "site"] = None
    frame.to_csv("t.csv", index=False)
    np.save("X.npy", np.ones((9, 2)))
    assert message in fails(code, "fit", *options, *QUICK)


def test_inspect_says_how_rows_were_divided() -> None:
    make_frame().drop(columns=["label", "day"]).to_csv("t.csv", index=False)
    ok("fit", "--data", "t.csv", "--group-column", "machine", *QUICK)
    text = run("inspect", "model.vae").stdout
    assert (
        "fitted on  128 rows trained it, 16 stopped the training, 16 set the threshold; of 16, 2 and 2 groups" in text
    )
