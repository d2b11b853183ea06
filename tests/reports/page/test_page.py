"""The folder of a report and its page: what they hold, and that names of the data are text there."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from reporting import HOSTILE, Folders, make_report
from vae_anomaly.errors import DataError
from vae_anomaly.reports import PAGE, check_report_folder, write_report
from vae_anomaly.reports.page.glossary import GLOSSARY


def test_the_folder_holds_page_numbers_scores_and_figures(folders: Folders) -> None:
    report, folder = make_report(), folders["images", True]
    names = {path.name for path in folder.iterdir()}
    assert names == {PAGE, "report.json", "scores.csv", "figures"}
    figures = {path.name for path in (folder / "figures").iterdir()}
    assert {"roc.svg", "precision_recall.svg", "scores.svg", "terms.svg", "history.svg", "per_class.svg"} <= figures
    assert {"p_values.svg", "latent_units.svg", "latent_space.svg", "samples.svg", "traversal.svg"} <= figures
    scores = pd.read_csv(folder / "scores.csv")
    np.testing.assert_array_equal(scores["anomaly_score"], report.anomaly_score)
    np.testing.assert_array_equal(scores["decision"], report.anomaly_score > report.calibration.threshold)
    np.testing.assert_array_equal(scores["label"], report.labels)
    numbers = json.loads((folder / "report.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert report.evaluation is not None
    assert numbers["test"]["roc_auc"]["value"] == report.evaluation.roc_auc.value
    assert numbers["threshold"]["threshold"] == report.calibration.threshold
    assert numbers["n_flagged"] == scores["decision"].sum()
    assert numbers["test"]["roc"]["x"][0] == 0


def test_the_same_report_is_the_same_page_but_for_its_date(folders: Folders, tmp_path: Path) -> None:
    report, first = make_report(), folders["images", True]
    write_report(replace(report, date="later"), tmp_path / "again")
    for path in first.rglob("*"):
        if path.is_file():
            again = (tmp_path / "again" / path.relative_to(first)).read_bytes()
            page = [hashlib.sha256((folder / PAGE).read_bytes()).hexdigest() for folder in (tmp_path / "again", first)]
            again = again.replace(b"later", report.date.encode()).replace(page[0].encode(), page[1].encode())
            assert again == path.read_bytes()


@pytest.mark.parametrize("kind", ["images", "tables"])
@pytest.mark.parametrize("labelled", [True, False])
def test_hostile_names_are_text(folders: Folders, kind: str, labelled: bool) -> None:
    page = (folders[kind, labelled] / PAGE).read_text(encoding="utf-8")
    assert "alert(" in page
    assert HOSTILE not in page
    assert "<img src=x" not in page
    assert "\u202e" not in page
    assert "\x1b" not in page
    assert page.count("<script") == 2
    assert not re.search(r'(src|href|srcset)="(?!data:|#)', page)
    assert not re.search(r'\s(style|on\w+)="', page)


def test_every_number_has_a_definition(folders: Folders) -> None:
    for folder in folders.values():
        page = (folder / PAGE).read_text(encoding="utf-8")
        wanted = set(re.findall(r'popovertarget="def-(\w+)"', page))
        assert wanted <= set(re.findall(r'<div popover id="def-(\w+)"', page)) == set(GLOSSARY)
        for fact in re.findall(r'<div class="fact">.*?</div>', page):
            assert "popovertarget" in fact


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    (tmp_path / "file").write_text("keep")
    (tmp_path / "empty").mkdir()
    check_report_folder(tmp_path / "empty")
    check_report_folder(tmp_path / "new")
    for name in ("mine", "file"):
        with pytest.raises(DataError, match="notes.txt in it is of no report|is a file, not a report"):
            write_report(make_report(n=40), tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "mine"]


def test_a_failed_report_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "report"
    write_report(make_report(n=40), folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def fails(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("vae_anomaly.reports.page.write.render_page", fails)
        with pytest.raises(OSError, match="No space left"):
            write_report(make_report(n=60), folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert list(tmp_path.iterdir()) == [folder]
    write_report(make_report(n=60), folder)
    assert len(pd.read_csv(folder / "scores.csv")) == 60
    assert list(tmp_path.iterdir()) == [folder]


def test_many_scores_still_make_a_page(tmp_path: Path) -> None:
    report = make_report(n=120_000)
    write_report(report, tmp_path / "report")
    page = tmp_path / "report" / PAGE
    assert page.stat().st_size < 5_000_000
    assert "10,000 of 120,000 samples" in page.read_text(encoding="utf-8")


def test_large_images_stay_a_small_page(tmp_path: Path) -> None:
    write_report(make_report(image_shape=(200, 200, 3)), tmp_path / "report")
    assert (tmp_path / "report" / PAGE).stat().st_size < 5_000_000


def added(folder: Path) -> str:
    (folder / "precious.txt").write_text("gold")
    return "precious.txt in it is of no report"


def added_folder(folder: Path) -> str:
    (folder / "sub").mkdir()
    return "sub in it is of no report"


def added_figure(folder: Path) -> str:
    (folder / "figures" / "mine.svg").write_text("<svg/>")
    return "figures/mine.svg in it is of no report"


def added_link(folder: Path) -> str:
    scores = folder / "scores.csv"
    scores.rename(folder.parent / "elsewhere.csv")
    scores.symlink_to("../elsewhere.csv")
    return "scores.csv in it was changed since"


def edited_scores(folder: Path) -> str:
    with (folder / "scores.csv").open("a") as file:
        file.write("my own row\n")
    return "scores.csv in it was changed since"


def edited_page(folder: Path) -> str:
    (folder / PAGE).write_text((folder / PAGE).read_text(encoding="utf-8") + "<!-- my notes -->", encoding="utf-8")
    return "report.html in it was changed since"


def drawn_over(folder: Path) -> str:
    figure = min((folder / "figures").iterdir())
    figure.write_text("<svg/>")
    return f"figures/{figure.name} in it was changed since"


def numbers_of_another_program(folder: Path) -> str:
    (folder / "report.json").write_text("{}")
    return "report.json in it is of no report"


@pytest.mark.parametrize(
    "change",
    [added, added_folder, added_figure, added_link, edited_scores, edited_page, drawn_over, numbers_of_another_program],
)
def test_a_report_with_something_of_the_users_is_left_alone(
    tmp_path: Path, folders: Folders, change: Callable[[Path], str]
) -> None:
    folder = tmp_path / "report"
    shutil.copytree(next(iter(folders.values())), folder)
    check_report_folder(folder)
    reason = change(folder)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match=reason):
        write_report(make_report(n=40), folder)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_what_is_put_into_a_report_while_the_next_is_drawn_stays(
    tmp_path: Path, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "report"
    shutil.copytree(next(iter(folders.values())), folder)

    def slow(*arguments: Any) -> str:
        added(folder)
        return ""

    monkeypatch.setattr("vae_anomaly.reports.page.write.render_page", slow)
    with pytest.raises(DataError, match=r"precious.txt in it is of no report"):
        write_report(make_report(n=40), folder)
    assert (folder / "precious.txt").read_text() == "gold"
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
