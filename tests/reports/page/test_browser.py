"""The page in a real browser: slider, table, gallery, keyboard, and what readers with disabilities need."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from reporting import HOSTILE, Folders, make_report
from vae_anomaly.reports import PAGE
from vae_anomaly.reports.page.glossary import GLOSSARY

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


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
def open_page(browser: Any, folders: Folders) -> Iterator[Any]:
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
def test_the_slider_counts_what_numpy_counts(open_page: Any, kind: str, width: int) -> None:
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
def test_the_page_is_accessible(open_page: Any, kind: str, scheme: str, width: int) -> None:
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
