"""`refits.py` counts what each score's threshold flags, and its page has all scores."""

from __future__ import annotations

from refits import clusters, false_alarms

from helpers import ROOT, TABLE_SCORES
from vae_anomaly.registry import SCORES


def test_each_score_has_what_its_threshold_promises_and_flags() -> None:
    rates = false_alarms(clusters, 30, 1)
    assert set(rates) == set(TABLE_SCORES)
    for score, fits in rates.items():
        ((promised, flagged, is_nearly),) = fits
        assert (promised, is_nearly) == (0.05, True), score  # of 30 rows, by folds
        assert 0 <= flagged < 1


def test_the_page_has_every_score() -> None:
    page = (ROOT / "docs" / "refits.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ") and "%" in line]
    assert {row[1].rstrip("*") for row in rows} == set(SCORES)
    for row in rows:
        promised, mean, error = (float(share.rstrip("%")) for share in row[2:5])
        if not row[1].endswith("*"):
            assert mean <= promised + 3 * error, row
