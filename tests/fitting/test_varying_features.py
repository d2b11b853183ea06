"""Training without features that never vary: the ELBO of the whole model, and nothing else in what is fitted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from helpers import images, table
from vae_anomaly import VAEDetector
from vae_anomaly.fitting import varying_features
from vae_anomaly.fitting.preprocessing import standardize
from vae_anomaly.fitting.subject import subject_of
from vae_anomaly.fitting.varying_features import VaryingScaling, complete, varying_part
from vae_anomaly.model.elbo import training_terms
from vae_anomaly.model.likelihoods.base import Likelihood
from vae_anomaly.model.likelihoods.bernoulli import Bernoulli
from vae_anomaly.model.likelihoods.correlated_gaussian import CorrelatedGaussian
from vae_anomaly.model.likelihoods.gaussian import Gaussian
from vae_anomaly.model.scaling import Scaling
from vae_anomaly.model.vae import VAE, reset_parameters
from vae_anomaly.registry import ARCHITECTURES, PREPROCESSING
from vae_anomaly.storage.rows import RowsInMemory, RowsOnDisk

SHAPE = (8, 8)


def framed(n: int, seed: int = 0) -> np.ndarray:
    """Flat images of which 36 of 64 pixels vary; the others are 3."""
    inner = np.random.default_rng(seed).integers(0, 256, size=(n, 6, 6)).astype(np.uint8)
    return np.pad(inner, ((0, 0), (1, 1), (1, 1)), constant_values=3).reshape(n, -1)


def untrained(
    rows: RowsInMemory | RowsOnDisk,
    scaling: Scaling | None = None,
    architecture: str = "mlp",
    likelihood: Likelihood | None = None,
) -> VAE:
    with torch.device("meta"):
        encoder, decoder = ARCHITECTURES[architecture]((*SHAPE, 1), 3)
    vae = VAE(
        encoder.to_empty(device="cpu"),
        decoder.to_empty(device="cpu"),
        likelihood or CorrelatedGaussian((*SHAPE, 1)),
        scaling or standardize(rows),
    )
    reset_parameters(vae, torch.Generator().manual_seed(0))
    return vae.double()


@pytest.mark.parametrize("preprocessing", ["standardize", "by_column", "standardize_globally", "unit_range", "none"])
@pytest.mark.parametrize("likelihood", [Gaussian, lambda: CorrelatedGaussian((*SHAPE, 1))])
@pytest.mark.parametrize("as_type", [np.uint8, lambda X: np.exp(X / 20)])
def test_what_is_trained_is_the_elbo_of_the_whole_model(
    preprocessing: str, likelihood: Callable[[], Likelihood], as_type: Callable[[np.ndarray], np.ndarray]
) -> None:
    rows = RowsInMemory(as_type(framed(200)))
    vae = untrained(rows, PREPROCESSING[preprocessing](rows), likelihood=likelihood())
    part = varying_part(vae, rows)
    raw, generator = torch.from_numpy(rows[:]).double(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in part.parameters():  # as if it were trained
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
        x, noise = part.scaling(raw), torch.randn(2, 1, 3, generator=generator)
        decoded = part.decode(part.encode(x).mu)
        learnt = part.likelihood.learn(x, decoded, 0.5)
        complete(vae, part, rows)
        assert x.shape == (200, 36)
        whole = vae.scaling(raw)
        assert torch.equal(x, whole[:, part.scaling.get_buffer("places")])
        for ours, theirs in zip(training_terms(part, x, noise), training_terms(vae, whole, noise), strict=True):
            torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(learnt, vae.likelihood.training_log_prob(whole, vae.decode(vae.encode(whole).mu)))
        constant = np.setdiff1d(np.arange(64), part.scaling.get_buffer("places").numpy())
        assert torch.equal(vae.decode(vae.encode(whole).mu)[:, constant], whole[:, constant])
        expected = likelihood().double()
        expected.learn(whole, vae.decode(vae.encode(whole).mu), 0.5)
        torch.testing.assert_close(expected.get_buffer("variance"), vae.likelihood.get_buffer("variance"))


def test_a_feature_that_varies_in_a_single_row_varies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X = framed(300)
    X[201, 0] = 4
    X.tofile(tmp_path / "rows")
    monkeypatch.setattr("vae_anomaly.storage.rows.SAMPLE_ROWS", 10)
    with open(tmp_path / "rows", "rb") as file:
        for rows in (RowsInMemory(X), RowsOnDisk(file, 0, X.shape, X.dtype, "rows")):
            part = varying_part(untrained(rows), rows)
            assert part.scaling.get_buffer("places").tolist() == np.flatnonzero((X[0] != X).any(axis=0)).tolist()
            assert part.scaling.get_buffer("places")[0] == 0


@pytest.mark.parametrize(
    ("n_constant", "change", "given"),
    [
        (6, 0, {}),  # fewer than a tenth
        (64, 0, {}),
        (20, 0, {"architecture": "article"}),
        (20, 0, {"architecture": "conv"}),
        (20, 0, {"likelihood": Bernoulli()}),
        (7, 1, {}),  # fewer than a tenth, which a sample does not show
    ],
)
def test_all_else_is_trained_as_it_is(
    monkeypatch: pytest.MonkeyPatch, n_constant: int, change: int, given: dict[str, Any]
) -> None:
    X = np.random.default_rng(0).integers(0, 256, size=(100, 64)).astype(np.uint8)
    X[:, :n_constant] = 0
    X[55, 0] += change
    monkeypatch.setattr("vae_anomaly.storage.rows.SAMPLE_ROWS", 10)
    rows = RowsInMemory(X)
    vae = untrained(rows, **given)
    assert varying_part(vae, rows) is vae
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    complete(vae, vae, rows)
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())


def test_a_fit_trains_the_part_and_scores_with_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.pad(images(400), ((0, 0), (2, 2), (2, 2)))
    parts = []

    def part_of(*args: Any) -> Any:
        parts.append(subject_of(*args).vae)
        return subject_of(*args)

    monkeypatch.setattr("vae_anomaly.fitting.fit.subject_of", part_of)
    detector = VAEDetector(epochs=8, architecture="mlp").fit(X)
    assert isinstance(parts[0].scaling, VaryingScaling)
    assert detector.vae_.encoder.get_parameter("hidden.0.weight").shape[1] == X[0].size
    frame = np.ones(X.shape[1:], bool)
    frame[2:-2, 2:-2] = False
    normal = np.pad(images(50, seed=1), ((0, 0), (2, 2), (2, 2)))
    np.testing.assert_array_equal(detector.reconstruct(normal)[:, frame], 0)
    odd = normal.copy()
    odd[:, 0] = 255  # the frame's upper edge, where no training image has anything
    assert (detector.score_samples(odd) < detector.score_samples(normal)).all()
    assert (detector.predict(odd) == -1).mean() > 0.9
    for score in ("combined", "latent_neighbours", "activation_path"):  # of codes and hidden units, without residuals
        of_score = VAEDetector.from_model(detector.model_.using(score))
        assert np.median(of_score.score_samples(odd)) < of_score.score_samples(normal).min()


def test_columns_that_never_vary_in_a_table_change_no_other_column(monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.hstack([table(300), np.full((300, 8), 7.0)])
    detector = VAEDetector(epochs=8).fit(X)
    np.testing.assert_allclose(detector.reconstruct(X)[:, -8:], 7.0)
    odd = X[:20].copy()
    odd[:, -1] += 10
    assert (detector.score_samples(odd) < detector.score_samples(X[:20])).all()
    monkeypatch.setattr(varying_features, "MOST_VARYING", 0.0)
    whole = VAEDetector(epochs=8).fit(X)
    correlation = np.corrcoef(detector.score_samples(X), whole.score_samples(X))[0, 1]
    assert correlation > 0.9


def test_tables_of_several_kinds_are_trained_whole() -> None:
    X = pd.DataFrame({"kind": list("ab") * 100, "number": np.arange(200.0), "same": np.ones(200)})
    assert VAEDetector(epochs=2).fit(X).history_
