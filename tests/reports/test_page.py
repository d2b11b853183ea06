"""The report's folder and page: what stands there, and what a real browser makes of it."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vae_anomaly.calibration.methods import calibrate, promised_alarms
from vae_anomaly.errors import DataError
from vae_anomaly.evaluation.metrics import evaluate
from vae_anomaly.reports import (
    PAGE,
    Beliefs,
    Evidence,
    Report,
    check_report_folder,
    gallery_rows,
    write_report,
)
from vae_anomaly.reports.page.glossary import GLOSSARY

HOSTILE = '<script>alert("1")</script>'
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def make_report(
    kind: str = "images",
    *,
    labelled: bool = True,
    n: int = 400,
    seed: int = 0,
    image_shape: tuple[int, ...] = (6, 5, 1),
) -> Report:
    """A report of made-up numbers with hostile names."""
    rng = np.random.default_rng(seed)
    anomalous = rng.random(n) < 0.4
    kl, reconstruction = rng.gamma(9, 2, size=n), rng.normal(-100, 3, size=n) - 12 * anomalous
    score = kl - reconstruction
    held_kl, held_reconstruction = rng.gamma(9, 2, size=150), rng.normal(-100, 3, size=150)
    held_out = {"anomaly_score": held_kl - held_reconstruction, "reconstruction": held_reconstruction, "kl": held_kl}
    calibration = calibrate("conformal", held_out["anomaly_score"], rate=0.05)
    labels = np.where(anomalous, np.where(rng.random(n) < 0.5, HOSTILE, "b&b\u202e"), "normal\x1b[31m")
    shape = image_shape if kind == "images" else None
    n_features = math.prod(shape) if shape else 4
    evaluation = None
    if labelled:
        evaluation = evaluate(
            score,
            anomalous.astype(int),
            labels,
            threshold=calibration.threshold,
            calibration_scores=held_out["anomaly_score"],
        )
    gallery = gallery_rows(score, calibration.threshold, anomalous if labelled else None)
    rows = np.unique(np.concatenate(list(gallery.values())))
    codes = rng.normal(size=(n, 7)) * np.arange(7)
    return Report(
        title=f"data {HOSTILE}",
        provenance={"data": HOSTILE, "command": "vae-anomaly report 'a b'"},
        date="2026-01-02 03:04:05+0000",
        score="elbo",
        anomaly_score=score,
        p_value=rng.random(n),
        reconstruction=reconstruction,
        kl=kl,
        calibration=calibration,
        held_out=held_out,
        history=[
            {
                "epoch": epoch,
                "learning_rate": 1e-3,
                "reconstruction": -200.0 + epoch,
                "kl": 10.0 + epoch,
                "validation_reconstruction": -201.0 + epoch,
                "validation_kl": 10.0 + epoch,
            }
            for epoch in range(1, 9)
        ],
        codes=codes,
        code_rows=np.arange(n),
        gallery=gallery,
        evidence=Evidence(
            rows=rows,
            observed=rng.random((len(rows), n_features)),
            expected=rng.random((len(rows), n_features)),
            spread=rng.random((len(rows), n_features)),
            excess=rng.normal(size=(len(rows), n_features)),
        ),
        beliefs=Beliefs(
            samples=rng.random((24, n_features)),
            traversal=rng.random((3, 9, n_features)),
            steps=np.linspace(-2, 2, 9),
            traversed=np.array([6, 5, 4]),
            interpolation=rng.random((9, n_features)),
        ),
        anomalous=anomalous if labelled else None,
        labels=labels if labelled else None,
        names=tuple(f"{i}<img src=x onerror=alert(1)>.png" for i in range(n)),
        evaluation=evaluation,
        promised=promised_alarms(calibration, int((~anomalous).sum())) if labelled else None,
        feature_names=None if shape else (HOSTILE, "$x_1$", "long " * 30, "b"),
        image_shape=shape,
        limits=(0.0, 1.0) if shape else None,
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], Path]:
    made = {}
    for kind in ("images", "tables"):
        for labelled in (True, False):
            folder = tmp_path_factory.mktemp(kind) / "report"
            write_report(make_report(kind, labelled=labelled), folder)
            made[kind, labelled] = folder
    return made


def test_the_folder_holds_page_numbers_scores_and_figures(folders: dict[tuple[str, bool], Path]) -> None:
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


def test_the_same_report_is_the_same_page_but_for_its_date(
    folders: dict[tuple[str, bool], Path], tmp_path: Path
) -> None:
    report, first = make_report(), folders["images", True]
    write_report(replace(report, date="later"), tmp_path / "again")
    for path in first.rglob("*"):
        if path.is_file():
            again = (tmp_path / "again" / path.relative_to(first)).read_bytes()
            assert again.replace(b"later", report.date.encode()) == path.read_bytes()


@pytest.mark.parametrize("kind", ["images", "tables"])
@pytest.mark.parametrize("labelled", [True, False])
def test_hostile_names_are_text(folders: dict[tuple[str, bool], Path], kind: str, labelled: bool) -> None:
    page = (folders[kind, labelled] / PAGE).read_text(encoding="utf-8")
    assert "alert(" in page
    assert HOSTILE not in page
    assert "<img src=x" not in page
    assert "\u202e" not in page
    assert "\x1b" not in page
    assert page.count("<script") == 2
    assert not re.search(r'(src|href|srcset)="(?!data:|#)', page)
    assert not re.search(r'\s(style|on\w+)="', page)


def test_every_number_has_a_definition(folders: dict[tuple[str, bool], Path]) -> None:
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
        with pytest.raises(DataError, match="exists and is no report"):
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Any, folders: dict[tuple[str, bool], Path]) -> Iterator[Any]:
    """A function that opens a report and fails the test on any console message or network request."""
    contexts, noise = [], []

    def open_(kind: str = "images", labelled: bool = True, **options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        path = (folders[kind, labelled] / PAGE).as_uri()
        page.on("console", lambda message: noise.append(message.text))
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.on(
            "request", lambda request: noise.append(request.url) if request.url[:5] not in ("data:", "file:") else None
        )
        page.goto(path)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert noise == []


def number(page: Any, name: str) -> float:
    text = page.locator(f'[data-live="{name}"]').first.inner_text()
    return float(text.removesuffix(" %").replace(",", ""))


@pytest.mark.parametrize("kind", ["images", "tables"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_slider_says_what_numpy_says(open_page: Any, kind: str, width: int) -> None:
    report, page = make_report(kind), open_page(kind, viewport={"width": width, "height": 800})
    assert report.anomalous is not None
    slider = page.locator("#slider")
    thresholds = page.evaluate("JSON.parse(document.getElementById('data').textContent).stops.threshold")
    last = len(thresholds) - 1
    marks = []
    for stop in sorted({0, last // 3, int(slider.input_value()), 2 * last // 3, last}):
        slider.fill(str(stop))
        flagged = report.anomaly_score > thresholds[stop]
        assert number(page, "threshold") == pytest.approx(thresholds[stop], abs=0.006)
        assert number(page, "flagged") == flagged.sum()
        assert number(page, "true_positives") == (flagged & report.anomalous).sum()
        assert number(page, "false_negatives") == (~flagged & report.anomalous).sum()
        assert number(page, "false_positives") == (flagged & ~report.anomalous).sum()
        assert number(page, "true_negatives") == (~flagged & ~report.anomalous).sum()
        assert number(page, "detection_rate") == pytest.approx(100 * flagged[report.anomalous].mean(), abs=0.051)
        above = (report.held_out["anomaly_score"] > thresholds[stop]).sum()
        assert number(page, "cost") == pytest.approx(1000 * (above + 1) / 151, abs=0.051)
        point = page.locator("#roc-mark")
        marks.append((float(point.get_attribute("cx")), -float(point.get_attribute("cy"))))
        assert f"{flagged.sum():,} flagged" in slider.get_attribute("aria-valuetext")
    assert marks == sorted(marks, reverse=True)
    assert marks[0][0] > marks[-1][0]
    page.locator("#reset").click()
    assert number(page, "flagged") == report.flagged.sum()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_table_sorts_and_filters(open_page: Any) -> None:
    report, page = make_report(), open_page()
    assert report.anomalous is not None
    assert report.labels is not None

    def column(i: int) -> list[str]:
        return page.locator(f"#samples tbody tr > :nth-child({i})").all_inner_texts()

    order = np.argsort(-report.anomaly_score)
    assert column(1) == [str(i) for i in order[:50]]
    page.get_by_role("button", name="sort by KL").click()
    assert column(1) == [str(i) for i in np.argsort(-report.kl, kind="stable")[:50]]
    page.get_by_role("button", name="sort by KL").click()
    assert column(7) == [f"{value:,.2f}" for value in np.sort(report.kl)[:50]]
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("KL")
    page.locator("#show").select_option("missed")
    missed = report.anomalous & ~report.flagged
    assert page.locator("#matches").inner_text() == f"{missed.sum()} of 400 samples"
    assert set(column(4)) == {"missed"}
    page.locator("#slider").fill("0")
    assert page.locator("#matches").inner_text() == "0 of 400 samples"
    page.locator("#reset").click()
    page.locator("#show").select_option("")
    page.locator("#find").fill(HOSTILE)
    assert page.locator("#matches").inner_text() == f"{(report.labels == HOSTILE).sum()} of 400 samples"
    assert set(column(2)) == {HOSTILE}
    page.locator("#find").fill("17")
    assert {"17", "117", "217"} <= set(column(1)) == {str(i) for i in range(400) if "17" in str(i)}
    page.locator("#find").fill("")
    page.locator("#next").click()
    assert page.locator("#page").inner_text() == "page 2 of 8"


def test_the_gallery_zooms_and_definitions_open(open_page: Any) -> None:
    report, page = make_report(), open_page()
    page.locator(".zoom").first.click()
    dialog = page.locator("#zoomed")
    assert dialog.is_visible()
    assert f"Sample {report.gallery['most anomalous'][0]}" in dialog.inner_text()
    assert dialog.locator("img").count() == 3
    page.keyboard.press("Escape")
    assert dialog.is_hidden()
    page.get_by_role("button", name="ROC-AUC").first.click()
    assert page.locator("#def-roc_auc").is_visible()
    assert GLOSSARY["roc_auc"][1] in page.locator("#def-roc_auc").inner_text()


def test_the_keyboard_is_enough(open_page: Any) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.locator("#slider").focus()
    before = number(page, "flagged")
    for _ in range(20):
        page.keyboard.press("ArrowLeft")
    assert number(page, "flagged") > before


def test_without_scripts_the_page_still_reads(open_page: Any) -> None:
    report, page = make_report(), open_page(java_script_enabled=False)
    assert page.locator("#samples tbody tr").count() == 50
    assert page.locator("#slider").is_hidden()
    assert page.locator(".zoom").first.is_hidden()
    assert number(page, "flagged") == report.flagged.sum()
    assert page.locator("noscript").first.is_visible()


@pytest.mark.parametrize("kind", ["images", "tables"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nobody_is_shut_out(open_page: Any, kind: str, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = open_page(kind, color_scheme=scheme, viewport={"width": width, "height": 800})
    violations = axe.Axe().run(page).response["violations"]
    assert [(found["id"], found["nodes"][0]["html"]) for found in violations] == []


def test_nothing_moves_while_the_page_loads(open_page: Any) -> None:
    page = open_page()
    page.wait_for_timeout(300)
    shift = page.evaluate(
        "new Promise(done => new PerformanceObserver(l => done(l.getEntries().reduce((sum, e) => sum + e.value, 0)))"
        ".observe({type: 'layout-shift', buffered: true}) || setTimeout(() => done(0), 300))"
    )
    assert shift < 0.1
