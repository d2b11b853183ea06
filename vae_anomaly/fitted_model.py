"""`FittedModel`: all that scoring needs of a fitted detector, its file, and nothing of scikit-learn, SciPy or pandas.

`VAEDetector` holds one; a program that only scores loads one, and starts in half the time.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from vae_anomaly.calibration import conformal
from vae_anomaly.calibration.result import Calibration
from vae_anomaly.errors import DataError, ModelFileError
from vae_anomaly.model.build import Choices, device_of
from vae_anomaly.model.elbo import elbo_terms
from vae_anomaly.model.scaling import Scaling
from vae_anomaly.model.vae import VAE
from vae_anomaly.parameters import parameters_in
from vae_anomaly.registry import LIKELIHOODS, PRIORS, SCORES
from vae_anomaly.scoring.normal_statistics import normals_from
from vae_anomaly.scoring.scores import by_block
from vae_anomaly.storage import model_file
from vae_anomaly.storage.model_schema import check_config
from vae_anomaly.storage.rows import TYPES, Rows, check_feature_names, check_samples, extremes


class ElboTerms(NamedTuple):
    """The two terms of each sample's ELBO, ``(N,)`` float64, in nats: ELBO = reconstruction - kl."""

    reconstruction: np.ndarray
    kl: np.ndarray


@dataclass(kw_only=True)
class FittedModel:
    """A trained VAE with what its scores and decisions rest on.

    Scores are as `VAEDetector` gives them: higher is more normal. But for `rows` and `flat`, methods take rows that one
    of the two has checked.

    Parameters
    ----------
    vae : VAE
        The module, in the precision and on the device that it scores with.
    noise : Tensor of shape (n_draws, 1, latent_dim)
        Latent draws of every score, float64.
    sample_shape : tuple of int
        ``(D,)``, ``(H, W)`` or ``(H, W, C)``.
    image_shape : tuple of int or None
        Height, width, channels, if samples are images.
    feature_names : tuple of str or None
        Column names, if the training data had some.
    held_out_scores : dict of str to ndarray of shape (n_calibration,)
        Each score of the held-out normals, float64.
    calibrations : dict of str to Calibration
        The threshold of each score.
    score : str
        The score in use, a key of `vae_anomaly.registry.SCORES`.
    parameters : dict
        Those of the detector that was fitted, as its file has them.
    history : list of dict
        One record an epoch.
    metadata : dict
        Anything JSON can hold.

    Raises
    ------
    ValueError
        If there is no such score.
    """

    vae: VAE
    noise: Tensor
    sample_shape: tuple[int, ...]
    image_shape: tuple[int, ...] | None
    feature_names: tuple[str, ...] | None
    held_out_scores: dict[str, np.ndarray]
    calibrations: dict[str, Calibration]
    score: str
    parameters: dict[str, Any]
    history: list[Any]
    metadata: dict[str, Any]

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise ValueError(f"score must be one of {', '.join(map(repr, SCORES))}, got {self.score!r}")

    def using(self, score: str) -> Self:
        """The same model, nothing copied, with this score in use."""
        return replace(self, score=score)

    @property
    def n_features(self) -> int:
        """Features a sample; height x width x channels for images."""
        return math.prod(self.sample_shape)

    @property
    def calibration(self) -> Calibration:
        """Threshold on the anomaly score (the negative score), for the score in use."""
        return self.calibrations[self.score]

    @property
    def calibration_scores(self) -> np.ndarray:
        """The score in use of the held-out normals, ``(n_calibration,)``."""
        return self.held_out_scores[self.score]

    def rows(self, X: np.ndarray, feature_names: Sequence[str] | None = None) -> np.ndarray:
        """Samples checked and as rows, for the other methods.

        Parameters
        ----------
        X : ndarray of shape (N, D), (N, H, W) or (N, H, W, C)
            Real numbers. float64, float32 and uint8 stay what they are, others become float64.
        feature_names : sequence of str, optional
            Column names, to be compared with those of the training data.

        Returns
        -------
        ndarray of shape (N, D)
            float64, float32 or uint8.

        Raises
        ------
        DataError
            If the samples are not finite, or of another shape or other columns than the model was fitted on, or hold
            values that its likelihood gives no density to.
        """
        check_feature_names(feature_names, self.feature_names)
        check_samples(X, "X")
        rows = self.flat(X)
        if rows.shape[1] != self.n_features:
            raise DataError(
                f"X has {rows.shape[1]} features, but VAEDetector is expecting {self.n_features} features as input."
            )
        if rows.dtype not in TYPES:
            with np.errstate(over="ignore"):  # of extended precision
                rows = rows.astype(np.float64)
            if not np.isfinite(rows).all():
                raise DataError("Input X contains infinity or a value too large for dtype('float64').")
        check_support(self.vae, rows)
        return rows

    def flat(self, X: np.ndarray) -> np.ndarray:
        """Images ``(N, H, W)`` or ``(N, H, W, C)`` as rows ``(N, D)``; rows as they are.

        Raises
        ------
        DataError
            If the images are not of the shape that the model was fitted on.
        """
        shape = X.shape[1:]
        if len(shape) < 2:
            return X
        if math.prod(shape) != self.n_features or (shape != self.sample_shape and (*shape, 1)[:3] != self.image_shape):
            raise DataError(
                f"VAEDetector was fitted on samples of shape {self.sample_shape}, got images of shape {shape}"
            )
        return X.reshape(len(X), -1)

    def score_samples(self, rows: Rows, score: str | None = None) -> np.ndarray:
        """A score of each row, ``(N,)`` float64: the one in use, or another by name."""
        function = SCORES[score or self.score]
        scores = self.by_block(rows, lambda vae, x, noise: (function(vae, x, noise),))[0]
        return scores.astype(np.float64)

    def elbo_terms(self, rows: Rows) -> ElboTerms:
        """Reconstruction term and KL term of each row's ELBO, each ``(N,)`` float64, in nats."""
        terms = self.by_block(rows, lambda vae, x, noise: elbo_terms(vae, x, noise))
        return ElboTerms(*(term.astype(np.float64) for term in terms))

    def score_table(self, X: np.ndarray, feature_names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """What a score table says of samples, ``(N,)`` by column; where the ELBO is the score it is computed once.

        Parameters
        ----------
        X, feature_names
            As `rows` has them.

        Returns
        -------
        dict of str to ndarray of shape (N,)
            anomaly_score (higher is more anomalous), decision (1 = anomaly), p_value, and the ELBO's terms
            reconstruction and kl in nats.
        """
        rows = self.rows(X, feature_names)
        terms = self.elbo_terms(rows)
        anomaly_score = terms.kl - terms.reconstruction if self.score == "elbo" else -self.score_samples(rows)
        return {
            "anomaly_score": anomaly_score,
            "decision": (anomaly_score > self.calibration.threshold).astype(int),
            "p_value": self.p_values_of(-anomaly_score),
            "reconstruction": terms.reconstruction,
            "kl": terms.kl,
        }

    def p_values_of(self, scores: np.ndarray) -> np.ndarray:
        """Conformal p-values ``(N,)`` of what `score_samples` gave, among held-out normals; small is anomalous."""
        p = conformal.p_values(-self.calibration_scores, -scores)
        delta = self.calibration.delta
        return p if delta is None else conformal.conditional(p, len(self.calibration_scores), delta)

    def by_block(
        self, rows: Rows, function: Callable[[VAE, Tensor, Tensor], tuple[Tensor, ...]]
    ) -> tuple[np.ndarray, ...]:
        """Apply ``function(vae, x, noise)`` to scaled rows, in the precision that the rows ask for."""
        dtype = torch.float64 if rows.dtype == np.float64 else torch.float32
        vae = self.vae if self.vae.scaling.loc.dtype == dtype else copy.deepcopy(self.vae).to(dtype)
        noise = self.noise.to(vae.scaling.loc.device, dtype)
        return by_block(vae, rows, lambda x: function(vae, x, noise))

    def save(self, path: str | Path) -> None:
        """Write the model to one safetensors file, all or nothing.

        Parameters
        ----------
        path : str or Path
            The file; replaced if it is there.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        config = {
            "parameters": self.parameters | {"score": self.score},
            "sample_shape": list(self.sample_shape),
            "feature_names": None if self.feature_names is None else list(self.feature_names),
            "dtype": str(self.vae.scaling.loc.dtype).removeprefix("torch."),
            "calibrations": {name: vars(calibration) for name, calibration in self.calibrations.items()},
            "history": self.history,
            "metadata": self.metadata,
        }
        tensors = {f"vae.{name}": value for name, value in self.vae.state_dict().items()}
        tensors |= {f"held_out.{name}": torch.from_numpy(held_out) for name, held_out in self.held_out_scores.items()}
        tensors["noise"] = self.noise
        model_file.write(Path(path), tensors, config)

    @classmethod
    def load(cls, path: str | Path, *, device: str = "auto") -> Self:
        """Read a model that `save` wrote; its scores are the same to the bit.

        Parameters
        ----------
        path : str or Path
            The file. Nothing in it can run code.
        device : str
            Where to put the model, as the parameter of `VAEDetector`.

        Raises
        ------
        ModelFileError
            If the file is not a model file, is damaged, or comes from a later version.
        OSError
            If it cannot be read.
        """
        described = []

        def build(config: dict[str, Any], layout: model_file.Layout) -> None:
            try:
                check_config(config)
                described.append(cls._described(config, layout, device))
            except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
                why = str(error).partition("\n")[0]
                raise ModelFileError(f"{path} does not describe a model that this version can build: {why}") from error

        tensors, _ = model_file.read(Path(path), build)
        try:
            return described[0]._filled(tensors, device)
        except ValueError as error:
            raise ModelFileError(f"{path} does not hold a model that can be used: {error}") from error

    @classmethod
    def _described(cls, config: dict[str, Any], layout: model_file.Layout, device: str) -> Self:
        """The model that a file describes, its tensors not yet there; layouts are compared before any is read."""
        parameters = parameters_in(config["parameters"], device)
        sample_shape = tuple(config["sample_shape"])
        choices = Choices(parameters, sample_shape)
        calibrations = {name: Calibration(**fields) for name, fields in config["calibrations"].items()}
        # building takes time in proportion to the sides of an image, and every module has a tensor of all features
        if max(math.prod(shape) for _, shape in layout.values()) < choices.n_features:
            raise ValueError("its sample_shape does not fit the rest")
        if set(calibrations) != set(SCORES):
            raise ValueError("its calibrations do not fit the rest")
        with torch.device("meta"):
            state = {
                name.removeprefix("vae."): torch.empty(shape)
                for name, (_, shape) in layout.items()
                if name.startswith("vae.")
            }
            vae = choices.build(Scaling(state["scaling.loc"], state["scaling.scale"]))
            prior, normals = (
                {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}
                for start in ("prior.", "normals.")
            )
            sizes = choices.latent_dim, choices.n_features
            vae.prior = PRIORS[choices.prior].from_buffers(prior, *sizes)
            vae.normals = normals_from(normals, *sizes)
        model = cls(
            vae=vae,
            noise=torch.empty(0),
            sample_shape=sample_shape,
            image_shape=choices.image_shape,
            feature_names=None if config["feature_names"] is None else tuple(config["feature_names"]),
            held_out_scores={},
            calibrations=calibrations,
            score=parameters["score_name"],
            parameters=config["parameters"],
            history=config["history"],
            metadata=config["metadata"],
        )
        kind = {"float32": "F32", "float64": "F64"}[config["dtype"]]
        model._check_layout(layout, kind, (parameters["n_draws"], 1, choices.latent_dim))
        return model

    def _check_layout(self, layout: model_file.Layout, kind: str, noise: tuple[int, ...]) -> None:
        """Compare types and shapes of a file's tensors with those of the module that is to hold them."""
        expected = {f"vae.{name}": (kind, tuple(value.shape)) for name, value in self.vae.state_dict().items()}
        expected["noise"] = "F64", noise
        for name in SCORES:  # as many rows as there were: calibrating anew changes those of one score
            expected[f"held_out.{name}"] = "F64", layout.get(f"held_out.{name}", ("", ()))[1][:1]
        for name in sorted(expected.keys() | layout.keys()):
            if layout.get(name) != expected.get(name) or 0 in layout[name][1]:
                raise ValueError(f"its {name} is {layout.get(name)}, expected {expected.get(name)}")
        if expected["vae.scaling.loc"][1] not in ((), (self.n_features,)):
            raise ValueError("its scaling does not fit the rest")

    def _filled(self, tensors: dict[str, Tensor], device: str) -> Self:
        """The model with the tensors that were described, on the device."""
        state = {name.removeprefix("vae."): value for name, value in tensors.items() if name.startswith("vae.")}
        for name, value in state.items():
            if name.endswith(("scale", "variance", "sigma", "std", "floor")) and not (value > 0).all():
                raise ValueError(f"its {name} must be above 0")
        self.noise = tensors["noise"]
        self.held_out_scores = {name: tensors[f"held_out.{name}"].numpy() for name in SCORES}
        self.vae.load_state_dict(state, assign=True)
        self.vae.to(device_of(device))
        return self


def check_support(vae: VAE, rows: Rows) -> None:
    """Refuse values that the likelihood gives no density to.

    Raises
    ------
    DataError
        If there are some.
    """
    support = vae.likelihood.support
    if support is None:
        return
    loc = vae.scaling.loc
    low, high = (vae.scaling(torch.tensor(extreme, device=loc.device, dtype=loc.dtype)) for extreme in extremes(rows))
    if low.min() < support[0] or high.max() > support[1]:
        name = LIKELIHOODS.name_of(type(vae.likelihood))
        raise DataError(
            f"likelihood={name!r} needs values in {list(support)} after preprocessing, found "
            f"{float(low.min()):.6g} to {float(high.max()):.6g}: scale the data, or use likelihood='gaussian'"
        )
