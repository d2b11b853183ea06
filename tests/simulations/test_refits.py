"""`refits.py` counts what each score's threshold flags, and its page has all scores."""

from __future__ import annotations

from refits import World, clusters, fits_of, line_of, shuffled

from helpers import ROOT, TABLE_SCORES
from vae_anomaly.registry import SCORES


def test_each_score_has_what_its_threshold_promises_and_flags() -> None:
    world = World("30 rows", 30, clusters, shuffled)
    found = fits_of(world, 2)
    assert set(found) == set(TABLE_SCORES)
    for score, fits in found.items():
        for fit in fits:
            assert (fit.promised, fit.is_nearly) == (0.05, True), score  # of 30 rows, by folds
            assert 0 <= fit.flagged < 1
            assert fit.found <= 1
        assert line_of(world, score, fits).startswith(f"| 30 rows | {score}* | 5.0% | ")


def test_the_page_has_every_score() -> None:
    page = (ROOT / "docs" / "refits.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ") and "%" in line]
    assert {row[1].rstrip("*") for row in rows} == set(SCORES)
    for row in rows:
        promised, mean, error = (float(share.rstrip("%")) for share in row[2:5])
        if not row[1].endswith("*"):
            assert mean <= promised + 3 * error, row
