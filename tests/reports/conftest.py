"""Folders of reports, written once for all tests of the page."""

from __future__ import annotations

import pytest

from reporting import Folders, make_report
from vae_anomaly.reports import write_report


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Reports on images and on a table, with and without labels."""
    made = {}
    for kind in ("images", "tables"):
        for labelled in (True, False):
            folder = tmp_path_factory.mktemp(kind) / "report"
            write_report(make_report(kind, labelled=labelled), folder)
            made[kind, labelled] = folder
    return made
