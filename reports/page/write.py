"""The folder of a report: one page, all numbers, every score and every figure."""

from __future__ import annotations

import json
from pathlib import Path

from vae_anomaly.reports.page.captioned_figure import report_figures
from vae_anomaly.reports.page.folder import FIGURES_FOLDER, FILES, NUMBERS, PAGE, SCORES, check_report_folder, digests
from vae_anomaly.reports.page.page import render_page
from vae_anomaly.reports.page.report import Report
from vae_anomaly.storage.atomic import atomic_folder
from vae_anomaly.storage.score_table import open_score_table


def write_report(report: Report, folder: Path) -> None:
    """Write ``report.html``, ``report.json``, ``scores.csv`` and ``figures/``; an earlier report there is replaced.

    Raises
    ------
    DataError
        If the folder holds anything but an earlier report, as that was written.
    OSError
        If it cannot be written; an earlier report is then left as it was.
    """
    with atomic_folder(folder, check_report_folder) as part:
        figures = report_figures(report)
        (part / FIGURES_FOLDER).mkdir()
        for name, captioned in figures.items():
            (part / FIGURES_FOLDER / f"{name}.svg").write_bytes(captioned.svg)
        with open_score_table(part / SCORES) as write:
            write(report.frame())
        (part / PAGE).write_text(render_page(report, figures), encoding="utf-8")
        numbers = report.numbers() | {FILES: digests(part)}
        (part / NUMBERS).write_text(json.dumps(numbers, indent=1), encoding="utf-8")
