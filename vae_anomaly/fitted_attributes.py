"""What a fitted `VAEDetector` has of its `FittedModel`: attributes, how it is written and read, what it generates."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Tags, check_array, check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from vae_anomaly.calibration.result import Calibration
from vae_anomaly.errors import DataError
from vae_anomaly.fitted_model import FittedModel
from vae_anomaly.fitting.density_ratio import note_on_common, weighed
from vae_anomaly.model.vae import VAE
from vae_anomaly.parameters import parameters_in
from vae_anomaly.registry import LIKELIHOODS, PRIORS
from vae_anomaly.scoring.worst_place import heat_maps, statistics_of
from vae_anomaly.tables.frames import as_frame, is_frame
from vae_anomaly.tables.words import decoded


class FittedAttributes:
    """Attributes with a trailing underscore, as scikit-learn has them; the docstring of `VAEDetector` explains each."""

    _fitted: FittedModel
    _training_scores: np.ndarray | None = None
    score_name: str
    missing: str
    random_state: int | np.random.RandomState | None
    _rows: Callable[[ArrayLike], np.ndarray]

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_fitted")

    @property
    def model_(self) -> FittedModel:
        """What was fitted, with the score in use."""
        check_is_fitted(self)
        return self._fitted if self.score_name == "auto" else self._fitted.using(self.score_name)

    @property
    def n_features_in_(self) -> int:
        """Features a sample."""
        return self._fitted.n_features

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Column names, where ``fit`` saw some."""
        if self._fitted.feature_names is None:
            raise AttributeError("the detector was fitted without feature names")
        return np.array(self._fitted.feature_names, dtype=object)

    @property
    def vae_(self) -> VAE:
        """The fitted module."""
        return self._fitted.vae

    @property
    def noise_(self) -> Tensor:
        """The latent draws of every score."""
        return self._fitted.noise

    @property
    def image_shape_(self) -> tuple[int, ...] | None:
        """Height, width, channels, if samples are images."""
        return self._fitted.image_shape

    @property
    def history_(self) -> list[Any]:
        """One record an epoch."""
        return self._fitted.history

    @property
    def metadata_(self) -> dict[str, Any]:
        """What is kept with the model."""
        return self._fitted.metadata

    @metadata_.setter
    def metadata_(self, metadata: dict[str, Any]) -> None:
        self._fitted.metadata = metadata

    @property
    def held_out_scores_(self) -> dict[str, np.ndarray]:
        """Each score of the held-out normals."""
        return self._fitted.held_out_scores

    @property
    def calibrations_(self) -> dict[str, Calibration]:
        """The threshold of each score."""
        return self._fitted.calibrations

    @property
    def _n_features_out(self) -> int:
        return self._fitted.latent_dim

    @property
    def calibration_(self) -> Calibration:
        """Threshold on the anomaly score, for the score in use."""
        return self.model_.calibration

    @property
    def calibration_scores_(self) -> np.ndarray:
        """``score_samples`` of the held-out normals, for the score in use."""
        return self.model_.calibration_scores

    @property
    def training_scores_(self) -> np.ndarray:
        """Scores of the training samples, each left out of its own."""
        if (scores := self._training_scores) is None:
            raise AttributeError(
                "the detector has no scores of its training samples as if they were new: the networks or the score in "
                "use know them, or there were too many"
            )
        return scores

    @property
    def architecture_(self) -> str:
        """The architecture that the fit used."""
        check_is_fitted(self)
        name: str = self._fitted.parameters["architecture"]
        return name

    @property
    def likelihood_(self) -> str:
        """The likelihood that the fit used."""
        check_is_fitted(self)
        return LIKELIHOODS.name_of(type(self.vae_.likelihood))

    @property
    def prior_(self) -> str:
        """The prior that the fit used."""
        check_is_fitted(self)
        return PRIORS.name_of(type(self.vae_.prior))

    @property
    def precision_(self) -> str:
        """The precision that the training used."""
        check_is_fitted(self)
        name: str = self._fitted.parameters.get("precision", "full")
        return name

    @property
    def offset_(self) -> float:
        """``score_samples`` below it means anomaly."""
        return -self.calibration_.threshold

    def set_calibration(self, calibration: Calibration) -> Self:
        """Use a given threshold for the score in use; `predict` follows it.

        Held-out normals that are weighted for a target stay so with a threshold for it, and no longer with another.

        Raises
        ------
        DataError
            If the threshold is for a target and they are not weighted.
        """
        model = self.model_
        if calibration.n_effective is None:
            model.held_out_weights[model.score] = None
        elif model.calibration_weights is None:
            raise DataError(
                "this threshold is for a target: calibrate with it, so that the held-out normals are weighted"
            )
        self.calibrations_[model.score] = calibration
        return self

    def calibrate(
        self,
        X: ArrayLike | None = None,
        y: ArrayLike | None = None,
        *,
        method: str | None = None,
        rate: float | None = None,
        target: ArrayLike | None = None,
        **options: Any,
    ) -> Self:
        """Set another threshold for the score in use, without training; `predict` follows it.

        Parameters
        ----------
        X : array-like, optional
            Samples that nothing was fitted on; their normals replace ``calibration_scores_``. Without normals among
            them, or without X, the held-out normals of the fit are used.
        y : array-like of shape (N,), optional
            +1 for the normals in X, -1 for the anomalies; None: all are normal.
        method : str, optional
            A key of `registry.CALIBRATION_METHODS`: "conformal", "quantile", "pot", "weighted" and "contamination" need
            normals alone; "youden", "f_beta", "cost", "fixed_tpr" and "fixed_fpr" some anomalies too. None: "weighted"
            where there is a target, now or before, and "conformal" otherwise.
        rate : float, optional
            The rate that the method takes; None: its default.
        target : array-like, optional
            Samples, hardly any of them anomalies, of the population that will be scored, where its normals come in
            other proportions than those in X: p-values and threshold are then for it. Needs X.
        **options
            What else the method takes: ``delta``, ``beta``, ``miss``, ``false_alarm``, ``prevalence``.

        Raises
        ------
        DataError
            If the method, its options or the data cannot be used, such as too few normals for the rate.
        """
        rows = None if X is None else self._rows(X)
        of_target = None if target is None else self._rows(target)
        for given in (rows, of_target):
            if given is not None and self.model_.fitted_on is not None:
                self.model_.fitted_on.warn_about(given)
        if rows is not None and of_target is not None:
            for note in note_on_common(self.model_, rows, of_target):
                warnings.warn(note, stacklevel=2)
        if of_target is not None:
            options["target"] = weighed(self.model_, rows, y, of_target)
        self.model_.calibrate(rows, y, method=method, rate=rate, **options)
        return self

    def heat_maps(self, X: ArrayLike) -> np.ndarray:
        """How odd each place of each image is, ``(N, H, W)`` float64, in nats; higher is more anomalous.

        A place has minus the logarithm of the probability that the worst place of a normal image is as bad, by a tail
        fitted to held-out normals (`vae_anomaly.scoring.worst_place`). The largest of an image is minus its score
        ``local``, whose threshold is therefore one for places.

        Raises
        ------
        ValueError
            If the model is not of images, or its file comes from a version that had no such maps.
        """
        rows = self._rows(X)
        statistics_of(self.vae_)
        return self.model_.by_block(rows, heat_maps)[0]

    def save(self, path: str | Path) -> None:
        """Write the fitted detector to one safetensors file, all or nothing; an existing file is replaced."""
        model = self.model_
        model.save(path)
        self._fitted.file_digest = model.file_digest

    @classmethod
    def load(cls, path: str | Path, *, device: str = "auto") -> Self:
        """Read what `save` wrote, onto a device; on the same one its scores are the same to the bit; no code can run.

        Raises
        ------
        ModelFileError
            If the file is not a model file, is damaged, or comes from a later version.
        OSError
            If it cannot be read.
        """
        return cls.from_model(FittedModel.load(path, device=device), device=device)

    @classmethod
    def from_model(cls, model: FittedModel, *, device: str = "auto") -> Self:
        """The detector whose fit gave a model, which is not copied."""
        detector = cls(**parameters_in(model.parameters | {"score": model.score}, device))
        detector._fitted = model
        return detector

    def reconstruct(self, X: ArrayLike) -> np.ndarray:
        """Expected samples given the posterior means, shaped as ``X`` and in its units, or as a DataFrame."""
        rows = self.model_.reconstruct(self._rows(X))
        return self._as_table(rows if self._fitted.columns is not None else rows.reshape(np.shape(X)))

    def inverse_transform(self, X: ArrayLike) -> np.ndarray:
        """Means of p(x|z) ``(N, ...)`` for latent codes ``(N, latent_dim)``, in the shape and units of the data.

        As from `reconstruct`, `sample` and `interpolate`, of a table with more than plain numbers they are a DataFrame:
        the likeliest levels, times, numbers.
        """
        return self._as_table(self.model_.inverse_transform(check_array(X, dtype=[np.float64, np.float32])))

    def sample(self, n_samples: int = 1, *, random_state: int | np.random.RandomState | None = None) -> np.ndarray:
        """What the model takes for normal: means of p(x|z) for latents drawn from the prior, ``(n_samples, ...)``.

        Without a ``random_state``, the detector's own is taken.
        """
        model, seed = self.model_, self.random_state if random_state is None else random_state
        return self._as_table(model.sample(n_samples, random_state=check_random_state(seed)))

    def interpolate(self, a: ArrayLike, b: ArrayLike, n_steps: int = 9) -> np.ndarray:
        """Samples ``(n_steps, ...)`` on the line from the posterior mean of one sample to another's, both included."""
        ends = np.stack([np.asarray(a), np.asarray(b)])
        return self._as_table(self.model_.interpolate(self._rows(ends), n_steps))

    def _as_table(self, values: np.ndarray) -> np.ndarray:
        """Codes ``(N, C)`` of a table with more than plain numbers as the DataFrame that they stand for."""
        columns = self._fitted.columns
        return values if columns is None else decoded(values, columns)  # type: ignore[return-value]  # a table for one

    def _indexed(self, values: np.ndarray, X: ArrayLike, name: str) -> np.ndarray:
        """Values ``(N,)``, as a Series with the index of a DataFrame if `set_output` asks for pandas."""
        if getattr(self, "_sklearn_output_config", {}).get("transform") != "pandas" or not is_frame(X):
            return values
        import pandas as pd

        return pd.Series(values, index=as_frame(X).index, name=name)  # type: ignore[return-value]  # as he asked for

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()  # type: ignore[misc]  # of scikit-learn's BaseEstimator
        tags.input_tags.three_d_array = True
        tags.input_tags.sparse = tags.input_tags.categorical = tags.input_tags.string = True
        tags.input_tags.allow_nan = self.missing != "refuse"
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
