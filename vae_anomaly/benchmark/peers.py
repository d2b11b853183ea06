"""Other people's detectors behind one interface, to compare with: scikit-learn's, and PyOD's where it is installed.

A peer has ``fit(X)`` and ``score_samples(X)``, higher is more normal, on flat rows that `scaled_rows` scales the same
way for all of them. Settings are the defaults of their authors, unless a peer's docstring says otherwise. One that
scores its training rows otherwise than new ones, as its authors mean it, has ``training_scores_``; one that has a
threshold of its own has ``offset_``, and a row of a lower score is an anomaly; one whose score is a sum over features
has ``error_of_features(X)``.

References
----------
PyOD: A Python Toolbox for Scalable Outlier Detection (Zhao, Nasrullah & Li, 2019), https://arxiv.org/abs/1901.01588
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import io
import math
import os
import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.svm import OneClassSVM

from vae_anomaly.fitting.samples import rows_to_fit
from vae_anomaly.registry import PREPROCESSING
from vae_anomaly.storage.rows import RowsInMemory
from vae_anomaly.tables.encoding import codes_of_samples

if TYPE_CHECKING:
    import pandas as pd

SVM_ROWS = 10_000


class Detector(Protocol):
    """What a benchmark asks of a detector."""

    def fit(self, X: np.ndarray) -> object:
        """Learn from normal rows ``(N, D)``."""

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        """Scores ``(N,)``: higher is more normal."""


@dataclass(frozen=True)
class Peer:
    """A detector to compare with.

    Parameters
    ----------
    build
        Makes an unfitted detector from a seed.
    deterministic_up_to
        Up to this number of training rows the seed changes nothing, so one run is enough for all seeds.
    requires
        The optional package that it comes from, or None.
    transductive
        Whether a row's score depends on the rows that it is scored with.
    has_maps
        Whether it has ``error_of_features(X)``, of which a map of an image's pixels can be made.
    """

    build: Callable[[int], Detector]
    deterministic_up_to: float = math.inf
    requires: str | None = None
    transductive: bool = False
    has_maps: bool = False

    @property
    def available(self) -> bool:
        """Whether its package is installed."""
        return self.requires is None or importlib.util.find_spec(self.requires) is not None


def scaled_rows(X_train: np.ndarray | pd.DataFrame) -> Callable[[np.ndarray | pd.DataFrame], np.ndarray]:
    """A function that scales samples of the kind of the training samples, to flat float32 rows.

    Images go to [0, 1], one range for all pixels. Rows are standardised by the training rows' mean and standard
    deviation; a constant feature is only centred. `VAEDetector` applies the same by itself, from
    `vae_anomaly.registry.PREPROCESSING`. A category of a table has a column for each level, a gap in a number is its
    column's mean.
    """
    if isinstance(X_train, np.ndarray) and X_train.dtype != object:
        training = RowsInMemory(X_train)
    else:
        training = rows_to_fit(X_train, {"columns": None, "missing": "ignore"})
    columns, names = training.columns, training.feature_names
    scaling = PREPROCESSING["unit_range" if X_train.ndim > 2 else "standardize"](training)

    def rows(X: np.ndarray | pd.DataFrame) -> np.ndarray:
        values = np.asarray(X) if columns is None else codes_of_samples(X, columns, names, "X", 0, gaps=True)
        flat = torch.from_numpy(values.reshape(len(X), -1).astype(np.float64))
        scaled: np.ndarray = scaling(flat).float().numpy()
        scaled[np.isnan(scaled)] = 0.0
        return scaled

    return rows


class PrincipalComponents:
    """Squared reconstruction error of principal components.

    Parameters
    ----------
    n_components
        How many, at most as many as rows or features; None: as many as explain 95 % of the variance.
    """

    def __init__(self, n_components: int | None = None) -> None:
        self.n_components = n_components

    def fit(self, X: np.ndarray) -> Self:
        """Learn the components."""
        if self.n_components is None:
            self.pca_ = PCA(0.95)
        else:  # for so few scikit-learn would choose a faster solver, which draws random numbers
            self.pca_ = PCA(min(self.n_components, *X.shape), svd_solver="full")
        self.pca_.fit(X)
        return self

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        """Negative error."""
        error: np.ndarray = self.error_of_features(X).sum(axis=1)
        return -error

    def error_of_features(self, X: np.ndarray) -> np.ndarray:
        """Squared error of each feature, ``(N, D)`` float64."""
        residual = X - self.pca_.inverse_transform(self.pca_.transform(X))
        error: np.ndarray = np.square(residual, dtype=np.float64)
        return error


class Neighbours:
    """Mean Euclidean distance to the ``k`` nearest training rows."""

    def __init__(self, k: int) -> None:
        self.k = k

    def fit(self, X: np.ndarray) -> Self:
        """Remember the rows."""
        self.rows_, self.neighbours_ = X, NearestNeighbors(n_neighbors=self.k).fit(X)
        return self

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        """Negative distance."""
        distance: np.ndarray = self.neighbours_.kneighbors(X)[0].mean(axis=1, dtype=np.float64)
        return -distance

    def error_of_features(self, X: np.ndarray) -> np.ndarray:
        """Mean squared difference of each feature from those of the neighbours, ``(N, D)`` float64."""
        error = np.zeros(X.shape)
        for places in self.neighbours_.kneighbors(X)[1].T:
            error += np.square(X - self.rows_[places], dtype=np.float64) / self.k
        return error

    @property
    def training_scores_(self) -> np.ndarray:
        """Scores of the training rows, none of which is its own neighbour."""
        distance: np.ndarray = self.neighbours_.kneighbors()[0].mean(axis=1, dtype=np.float64)
        return -distance


class LocalOutliers(LocalOutlierFactor):  # type: ignore[misc]
    """scikit-learn's LocalOutlierFactor, for new rows and for its training rows."""

    @property
    def training_scores_(self) -> np.ndarray:
        """What ``fit_predict`` judges the training rows by: none is its own neighbour."""
        scores: np.ndarray = self.negative_outlier_factor_
        return scores


class SupportVectors:
    """scikit-learn's OneClassSVM, of at most 10,000 training rows, chosen by the seed: its fit is quadratic in them."""

    offset_ = 0.0

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def fit(self, X: np.ndarray) -> Self:
        """Fit to the chosen rows."""
        if len(X) > SVM_ROWS:
            X = X[np.sort(np.random.default_rng(self.seed).permutation(len(X))[:SVM_ROWS])]
        with temporary_seed(self.seed):  # it draws a number that only other kinds of SVM use
            self.svm_ = OneClassSVM().fit(X)
        return self

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        """Signed distance to the boundary."""
        scores: np.ndarray = self.svm_.decision_function(X)
        return scores


class PyOD:
    """A detector of PyOD. PyOD seeds and uses the global random generators; afterwards they are as they were before.

    Parameters
    ----------
    where
        Module below ``pyod.models`` and class, such as ``"vae.VAE"``.
    seed
        Seed of the global generators while it runs, and its ``random_state``, if it has one.
    **parameters
        Settings other than its authors' defaults.
    """

    def __init__(self, where: str, seed: int, **parameters: object) -> None:
        self.seed, self.parameters = seed, parameters
        module, name = where.split(".")
        with temporary_seed(seed):
            self.kind = getattr(importlib.import_module(f"pyod.models.{module}"), name)

    def fit(self, X: np.ndarray) -> Self:
        """Fit on rows; PyOD scores them too."""
        given = {"random_state": self.seed, "n_features": X.shape[1], "verbose": 0}
        known = {key: value for key, value in given.items() if key in inspect.signature(self.kind).parameters}
        with temporary_seed(self.seed):
            self.detector_ = self.kind(**known, **self.parameters).fit(X)
        return self

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        """Negative of PyOD's score."""
        with temporary_seed(self.seed):
            return -np.asarray(self.detector_.decision_function(X), dtype=np.float64)

    @property
    def training_scores_(self) -> np.ndarray:
        """Negative of the scores that PyOD has of the training rows."""
        return -np.asarray(self.detector_.decision_scores_, dtype=np.float64)

    @property
    def offset_(self) -> float:
        """Negative of PyOD's threshold: it takes a tenth of the training rows for anomalies."""
        return -float(self.detector_.threshold_)


@contextlib.contextmanager
def temporary_seed(seed: int) -> Iterator[None]:
    """Seed all global random generators; afterwards they, the environment and the streams are as they were."""
    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global one is to be restored
    hash_seed = os.environ.get("PYTHONHASHSEED")
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            contextlib.redirect_stdout(io.StringIO()),
            torch.random.fork_rng(),
        ):
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        os.environ.pop("PYTHONHASHSEED", None)
        if hash_seed is not None:
            os.environ["PYTHONHASHSEED"] = hash_seed


PEERS: dict[str, Peer] = {
    "pca": Peer(lambda seed: PrincipalComponents(), has_maps=True),
    "pca-30": Peer(lambda seed: PrincipalComponents(30), has_maps=True),
    "1-nn": Peer(lambda seed: Neighbours(1), has_maps=True),
    "5-nn": Peer(lambda seed: Neighbours(5), has_maps=True),
    "isolation_forest": Peer(lambda seed: IsolationForest(random_state=seed), deterministic_up_to=0),
    "one_class_svm": Peer(SupportVectors, deterministic_up_to=SVM_ROWS),
    "lof": Peer(lambda seed: LocalOutliers(novelty=True)),
    "pyod_vae": Peer(lambda seed: PyOD("vae.VAE", seed), deterministic_up_to=0, requires="pyod"),
    # its own scaling divides by a standard deviation that is zero for a constant pixel
    "pyod_vae_raw": Peer(
        lambda seed: PyOD("vae.VAE", seed, preprocessing=False), deterministic_up_to=0, requires="pyod"
    ),
    "pyod_autoencoder": Peer(
        lambda seed: PyOD("auto_encoder.AutoEncoder", seed), deterministic_up_to=0, requires="pyod"
    ),
    "pyod_deep_svdd": Peer(lambda seed: PyOD("deep_svdd.DeepSVDD", seed), deterministic_up_to=0, requires="pyod"),
    "pyod_knn": Peer(lambda seed: PyOD("knn.KNN", seed), requires="pyod"),
    # it ranks a row among the training rows and those that it is scored with
    "pyod_ecod": Peer(lambda seed: PyOD("ecod.ECOD", seed), requires="pyod", transductive=True),
}
