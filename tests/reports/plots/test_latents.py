"""Axes of the latent space are the normals' principal components; units are ranked by their variance."""

from __future__ import annotations

import numpy as np
import pytest

from plot_cases import MU, heights, labelled, line
from vae_anomaly import reports
from vae_anomaly.errors import DataError


@pytest.mark.parametrize("n_latents", [1, 2, 5])
def test_the_normals_define_the_axes_of_the_latent_space(n_latents: int) -> None:
    rng = np.random.default_rng(0)
    mu = rng.normal(size=(60, n_latents)) @ rng.normal(size=(n_latents, n_latents))
    anomalous = np.arange(60) >= 40
    mu[anomalous] *= 5
    (ax,) = reports.plot_latent_space(mu, anomalous).axes
    centred = mu[~anomalous] - mu[~anomalous].mean(axis=0)
    singular = np.linalg.svd(centred, compute_uv=False)
    x, y = line(ax, "normal (40)")
    np.testing.assert_allclose(np.linalg.norm(x), singular[0])
    np.testing.assert_allclose(np.linalg.norm(y), singular[1] if n_latents > 1 else 0)
    shares = singular**2 / (singular**2).sum()
    assert ax.get_xlabel() == f"first component ({shares[0]:.0%} of variance)"


@pytest.mark.parametrize("known", [None, np.array([True]), np.array([False])])
def test_one_sample_can_be_drawn(known: np.ndarray | None) -> None:
    assert reports.to_svg(reports.plot_latent_space(np.ones((1, 3)), known))
    assert reports.to_svg(reports.plot_terms(np.ones(1), np.ones(1), known, 0.0))


def test_samples_and_labels_must_agree() -> None:
    with pytest.raises(DataError, match="180 posterior means but 3 labels"):
        reports.plot_latent_space(MU, np.zeros(3))
    with pytest.raises(DataError, match="got 3, 2 and 3"):
        reports.plot_terms(np.ones(2), np.ones(3), np.zeros(3))
    with pytest.raises(DataError, match="finite"):
        reports.plot_latent_space(np.full((3, 2), np.nan))


def test_latent_units_are_ranked_and_split_at_one_hundredth() -> None:
    variances = np.array([0.0, 0.5, 0.02, 0.009, 2.0])
    (ax,) = reports.plot_latent_units(variances).axes
    np.testing.assert_allclose(heights(ax, "active (3)")[0], [2.0, 0.5, 0.02])
    np.testing.assert_allclose(heights(ax, "inactive (2)")[0][0], 0.009)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["4", "1", "2", "3", "0"]
    assert [labelled(ax, start).get_hatch() for start in ("active (3)", "inactive")] == [None, "////"]
    assert np.ravel(line(ax, "active above")[1]).tolist() == [0.01, 0.01]
    assert len(reports.to_svg(reports.plot_latent_units(np.geomspace(9, 1e-9, 500)))) < 60_000
    assert reports.to_svg(reports.plot_latent_units(np.zeros(3)))
    with pytest.raises(DataError, match="cannot be negative, got -1"):
        reports.plot_latent_units(np.array([-1.0]))
