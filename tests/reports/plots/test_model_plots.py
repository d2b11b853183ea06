"""Training histories and terms of the ELBO are drawn as they are."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from plot_cases import LABELS, SCORES, history, labelled, line
from vae_anomaly import reports
from vae_anomaly.errors import DataError


def test_history_marks_the_epoch_with_the_best_validation_elbo() -> None:
    records = history()
    top, middle, bottom = reports.plot_history(records).axes
    for panel, key in ((top, "reconstruction"), (middle, "kl")):
        np.testing.assert_array_equal(line(panel, "training")[1], [record[key] for record in records])
        np.testing.assert_array_equal(line(panel, "validation")[1], [record[f"validation_{key}"] for record in records])
        assert np.ravel(line(panel, "best epoch, 8")).tolist() == [8, records[7][f"validation_{key}"]]
    np.testing.assert_array_equal(bottom.lines[0].get_ydata(), [record["learning_rate"] for record in records])
    assert reports.to_svg(reports.plot_history(records[:1]))
    with pytest.raises(DataError, match="no epochs"):
        reports.plot_history([])
    with pytest.raises(DataError, match="give one made by add_subplot"):
        reports.plot_history(records, Figure().add_axes((0, 0, 1, 1)))


def test_terms_are_points_beside_the_line_of_the_threshold() -> None:
    reconstruction, kl = -SCORES, SCORES / 9
    (ax,) = reports.plot_terms(reconstruction, kl, LABELS, 320.0).axes
    for start, label in (("normal (120)", 0), ("anomalous (60)", 1)):
        x, y = line(ax, start)
        np.testing.assert_allclose(x, kl[label == LABELS])
        np.testing.assert_allclose(y, reconstruction[label == LABELS])
        assert labelled(ax, start).get_rasterized()
    x, y = line(ax, "threshold")
    np.testing.assert_allclose(x - y, 320)
    assert len(x) > 100


def test_terms_far_from_the_normals_get_a_curved_axis_and_the_line_with_it() -> None:
    rng = np.random.default_rng(0)
    kl, reconstruction = rng.normal(9, 1, size=400), -rng.normal(9, 1, size=400)
    reconstruction[200:] -= 1e4
    (ax,) = reports.plot_terms(reconstruction, kl, np.arange(400) >= 200, 30.0).axes
    assert ax.get_yscale() == "function"
    np.testing.assert_allclose(np.subtract(*line(ax, "threshold")), 30)


def test_of_many_samples_five_thousand_are_drawn_and_rare_anomalies_all() -> None:
    n = 20_000
    x = np.random.default_rng(0).normal(size=n)
    for rare, expected in ((30, (4970, 30)), (9000, (2500, 2500))):
        (ax,) = reports.plot_terms(x, x, np.arange(n) < rare).axes
        drawn = [len(line(ax, start)[0]) for start in ("normal", "anomalous")]
        assert tuple(drawn) == expected
        assert f"normal ({expected[0]:,} of {n - rare:,})" in ax.get_legend_handles_labels()[1]
        assert len(reports.to_svg(ax.figure)) < 60_000  # type: ignore[arg-type]
