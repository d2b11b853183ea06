"""What an addition costs: a likelihood is one new file, a prior two; nothing else has to know."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vae_anomaly import VAEDetector
from vae_anomaly.model.validity import check_values
from vae_anomaly.registry import LIKELIHOODS, PRIOR_FITS, PRIORS, Registry

LAPLACE = '''
"""Heavier tails."""
import math
import torch
from vae_anomaly.model.likelihoods.base import Likelihood
from vae_anomaly.registry import LIKELIHOODS

@LIKELIHOODS.register("laplace")
class Laplace(Likelihood):
    """Independent Laplace noise of scale one."""

    def log_prob_of_features(self, x, decoded):
        return -(x - decoded).abs() - math.log(2)

    def variance_of_features(self, x, decoded):
        return torch.full_like(decoded, 2, dtype=torch.float64)

    def entropy_of_features(self, x, decoded):
        return torch.full_like(decoded, 1 + math.log(2))
'''

SCALED_NORMAL = '''
"""A normal with a standard deviation for each latent."""
import math
from vae_anomaly.model.priors.base import DensityPrior
from vae_anomaly.registry import PRIORS

@PRIORS.register("scaled_normal")
class ScaledNormal(DensityPrior):
    """Independent normals of the latent means' own spreads."""

    shapes = {"spread": ("latent_dim",)}
    positive_buffers = frozenset({"spread"})

    def __init__(self, spread):
        super().__init__()
        self.register_buffer("spread", spread)

    def log_prob(self, z):
        return -0.5 * ((z / self.spread).square() + math.log(2 * math.pi) + 2 * self.spread.log()).sum(dim=-1)

    def kl(self, posterior):
        return self.kl_of_latents(posterior).sum(dim=-1)

    def kl_of_latents(self, posterior):
        variance = self.spread.square()
        ratio = (posterior.mu.square() + posterior.sigma.square()) / variance
        return 0.5 * (ratio - 1 - posterior.log_var + variance.log())

    def sample(self, noise, uniform):
        return noise * self.spread
'''

SCALED_NORMAL_FIT = '''
"""The spreads of the latent means."""
import torch
from vae_anomaly.fitting.prior_fit import PriorFit
from vae_anomaly.registry import PRIOR_FITS, PRIORS

@PRIOR_FITS.register("scaled_normal")
class ScaledNormalFit(PriorFit):
    """The root mean square of latent means."""

    def before_likelihood(self, vae, rows):
        with torch.no_grad():
            mu = vae.encode(rows.scaled_sample(rows.training, 1000)).mu
        vae.prior = PRIORS["scaled_normal"](mu.square().mean(dim=0).sqrt())
'''

AddFile = Callable[[Registry, str, str], None]


@pytest.fixture
def add_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AddFile:
    """A function that puts a new file into a registry's package, until the test ends."""

    def add(registry: Registry, name: str, source: str) -> None:
        folder = tmp_path / registry.package
        folder.mkdir()
        (folder / f"{name}.py").write_text(source)
        package = importlib.import_module(registry.package)
        path = [*package.__path__, str(folder)]
        monkeypatch.setattr(package, "__path__", path)
        monkeypatch.setattr(package.__spec__, "submodule_search_locations", path)
        monkeypatch.delattr(registry, "_written")  # what was read of the package before
        monkeypatch.setattr(registry, "_added", dict(registry._added))
        monkeypatch.setattr(registry, "_objects", dict(registry._objects))
        # so that it is forgotten afterwards
        monkeypatch.setitem(sys.modules, f"{registry.package}.{name}", None)
        monkeypatch.delitem(sys.modules, f"{registry.package}.{name}")

    return add


def check_that_all_of_it_works(detector: VAEDetector, X: np.ndarray, path: Path) -> None:
    """Scores, evidence, samples and a file."""
    scores, terms, evidence = detector.score_samples(X), detector.elbo_terms(X), detector.explain(X)
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(evidence.reconstruction.sum(axis=1), terms.reconstruction, rtol=1e-9)
    np.testing.assert_allclose(evidence.kl.sum(axis=1), terms.kl, rtol=1e-9, atol=1e-9)
    assert np.isfinite(detector.sample(5)).all()
    check_values(detector.vae_)
    detector.save(path)
    np.testing.assert_array_equal(VAEDetector.load(path).score_samples(X), scores)


def test_a_likelihood_is_one_file(add_file: AddFile, make_table: Callable[..., np.ndarray], tmp_path: Path) -> None:
    X = make_table()
    with pytest.raises(ValueError, match="likelihood must be one of"):
        VAEDetector(likelihood="laplace").fit(X)
    add_file(LIKELIHOODS, "laplace", LAPLACE)
    assert LIKELIHOODS.entry("laplace").help == "Independent Laplace noise of scale one."
    assert "vae_anomaly.model.likelihoods.laplace" not in sys.modules
    detector = VAEDetector(likelihood="laplace", epochs=3).fit(X)
    assert (detector.likelihood_, detector.prior_) == ("laplace", "normal")
    check_that_all_of_it_works(detector, X[:9], tmp_path / "model.vae")
    mixture = VAEDetector(likelihood="laplace", prior="mixture", epochs=1).fit(X)
    check_that_all_of_it_works(mixture, X[:9], tmp_path / "mixture.vae")
    with pytest.raises(ValueError, match="needs a Gaussian likelihood"):
        VAEDetector(likelihood="laplace", prior="exemplars").fit(X)


def test_a_prior_is_two_files(add_file: AddFile, make_table: Callable[..., np.ndarray], tmp_path: Path) -> None:
    X = make_table()
    with pytest.raises(ValueError, match="prior must be one of"):
        VAEDetector(prior="scaled_normal").fit(X)
    add_file(PRIORS, "scaled_normal", SCALED_NORMAL)
    add_file(PRIOR_FITS, "scaled_normal_fit", SCALED_NORMAL_FIT)
    detector = VAEDetector(prior="scaled_normal", epochs=3).fit(X)
    assert detector.prior_ == "scaled_normal"
    assert set(detector.vae_.prior.state_dict()) == {"spread"}
    check_that_all_of_it_works(detector, X[:9], tmp_path / "model.vae")


def test_every_prior_can_be_fitted() -> None:
    by_likelihood = (LIKELIHOODS.entry(name).facts.get("prior_fits", {}).values() for name in LIKELIHOODS)
    assert set(PRIOR_FITS) == set(PRIORS).union(*by_likelihood)
    assert all(PRIOR_FITS.entry(name).help for name in PRIOR_FITS)
