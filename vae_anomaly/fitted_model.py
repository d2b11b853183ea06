"""`FittedModel`: all that a fit leaves, and all that can be done with it; nothing of scikit-learn or pandas.

It scores, explains, samples, sets thresholds and is saved; `VAEDetector` puts scikit-learn's contract around it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from vae_anomaly import saved_model
from vae_anomaly.calibration import conformal
from vae_anomaly.calibration.result import Calibration
from vae_anomaly.columns import Columns
from vae_anomaly.constraints import is_integer
from vae_anomaly.errors import DataError
from vae_anomaly.fitted_images import FittedImages
from vae_anomaly.fitted_rows import FittedRows
from vae_anomaly.model.elbo import elbo_terms
from vae_anomaly.model.threads import refuse_forked_threads
from vae_anomaly.model.vae import VAE
from vae_anomaly.registry import SCORES
from vae_anomaly.scoring import attribution
from vae_anomaly.scoring.attribution import ElboTerms, Explanation, posterior_mean, reconstruction
from vae_anomaly.scoring.blocks import by_block, rows_of_block
from vae_anomaly.scoring.gaps import RowFunction, leaving_out_gaps
from vae_anomaly.scoring.support import check_support
from vae_anomaly.scoring.together import together
from vae_anomaly.storage.checks import checked, flat_rows
from vae_anomaly.storage.rows import Rows, RowsInMemory
from vae_anomaly.tables.encoding import codes_of_samples, numbers_of_table, warn_about_names
from vae_anomaly.tables.frames import as_frame, is_frame


@dataclass(kw_only=True)
class FittedModel:
    """A trained VAE with what its scores and decisions rest on.

    Scores are as `VAEDetector` gives them: higher is more normal. Samples come in through `rows`, which checks them and
    makes them the ``(N, D)`` float64, float32 or uint8 rows that the other methods take; `score_table` does both.

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
        Names of the modelled columns, if the training data had some.
    columns : Columns or None
        What the columns are, of a table with more than plain numbers.
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
    file_digest : str or None
        SHA-256 of the file that it was loaded from or last saved to: of the bytes that were read or written.
    fitted_on : FittedRows or None
        Digests of the rows that it was fitted on; None for files of earlier versions.
    images : FittedImages or None
        What is known of the images that it was fitted on; None for other samples, and files of earlier versions.
    held_out_weights : dict of str to ndarray of shape (n_calibration,) or None
        For scores that `calibrate` weighted for a target: what each held-out normal weighs, of mean 1.

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
    file_digest: str | None = None
    columns: Columns | None = None
    fitted_on: FittedRows | None = None
    images: FittedImages | None = None
    held_out_weights: dict[str, np.ndarray | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise ValueError(f"score must be one of {', '.join(map(repr, SCORES))}, got {self.score!r}")

    @property
    def scores(self) -> tuple[str, ...]:
        """The scores that can be in use: those that this version knows and this model was calibrated for."""
        return tuple(name for name in SCORES if name in self.calibrations)

    def using(self, score: str) -> Self:
        """The same model, nothing copied, with this score in use; a threshold that one of them is given is of both.

        Raises
        ------
        ValueError
            If there is no such score, or the model was not calibrated for it.
        """
        other = replace(self, score=score)
        if score not in self.scores:
            raise ValueError(
                f"this model was not calibrated for the score {score!r}, but for {', '.join(map(repr, self.scores))}: "
                "use one of these, or fit again"
            )
        return other

    @property
    def n_features(self) -> int:
        """Features a sample; height x width x channels for images."""
        return math.prod(self.sample_shape)

    @property
    def latent_dim(self) -> int:
        """Size of the latent space."""
        return self.noise.shape[-1]

    @property
    def calibration(self) -> Calibration:
        """Threshold on the anomaly score (the negative score), for the score in use."""
        return self.calibrations[self.score]

    @property
    def calibration_scores(self) -> np.ndarray:
        """The score in use of the held-out normals, ``(n_calibration,)``."""
        return self.held_out_scores[self.score]

    @property
    def calibration_weights(self) -> np.ndarray | None:
        """What each held-out normal weighs for the score in use, ``(n_calibration,)``; None: all the same."""
        return self.held_out_weights.get(self.score)

    def rows(self, X: Any, source: str = "X", first_row: int = 0) -> np.ndarray:
        """Check samples and turn them into rows, for the other methods.

        Parameters
        ----------
        X : ndarray of shape (N, D), (N, H, W) or (N, H, W, C), or DataFrame
            float64, float32 and uint8 stay what they are, other numbers become float64. A table's columns are found by
            name, in any order; those that the model does not know are left out.
        source, first_row
            What messages call the samples, and the number of the first.

        Returns
        -------
        ndarray of shape (N, D)
            float64, float32 or uint8; NaN for a gap.

        Raises
        ------
        DataError
            If the samples are of another shape than the model was fitted on, columns are missing, or values are
            infinite, of another kind than in training, or have no density under the likelihood.
        """
        X = as_frame(X) if is_frame(X) else X
        if self.columns is not None:
            return codes_of_samples(X, self.columns, self.feature_names, source, first_row, gaps=self.takes_gaps)
        warn_about_names(X, self.feature_names, source)
        if is_frame(X):
            X = numbers_of_table(X, self.feature_names, source, first_row, gaps=self.takes_gaps)
        return self.rows_of_checked(checked(X, source, first_row, gaps=self.takes_gaps))

    @property
    def takes_gaps(self) -> bool:
        """Whether a row may lack values: unless the fit refused it, or the likelihood cannot leave some out."""
        leaves_out = self.columns is not None or self.vae.likelihood.shared_variance is not None
        return leaves_out and self.parameters.get("missing") != "refuse"

    def rows_of_checked(self, samples: RowsInMemory) -> np.ndarray:
        """As `rows`, for samples of plain numbers whose values have been checked already."""
        flat = RowsInMemory(flat_rows(samples.computable().values, self.sample_shape, self.image_shape, self.images))
        check_support(self.vae, flat)
        if self.images is not None:
            self.images.warn_if_unlike(samples.values, self.image_shape, samples.source)
        return flat.values

    def score_samples(self, rows: np.ndarray | Rows, score: str | None = None) -> np.ndarray:
        """The score of each row, ``(N,)`` float64: the one in use, or another by name."""
        return self.scores_of(rows, [name := score or self.score])[name]

    def scores_of(self, rows: np.ndarray | Rows, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Several scores of each row in one pass, ``(N,)`` float64 by name; each has the bits that it has alone."""
        functions = {name: SCORES[name] for name in names}
        arrays = self.by_block(rows, together(*functions.values())) if functions else ()
        return {name: array.astype(np.float64) for name, array in zip(functions, arrays, strict=True)}

    def elbo_terms(self, rows: np.ndarray | Rows) -> ElboTerms:
        """Reconstruction term and KL term of each row's ELBO, each ``(N,)`` float64, in nats."""
        return ElboTerms(*(term.astype(np.float64) for term in self.by_block(rows, elbo_terms)))

    def explain(self, rows: np.ndarray, table: Any = None) -> Explanation:
        """Each feature's and each latent's share of the rows' ELBO, and what the model expected, float64.

        The ELBO's terms are divided, whatever score is in use. All arrays are held in memory, D
        numbers a row in five of them; with exemplars one more holds up to 5,000 numbers a row.

        Parameters
        ----------
        rows
            As `rows` gave them.
        table : DataFrame, optional
            What they came from; its index and its own values are kept with the explanation.
        """
        parts = [part.astype(np.float64) for part in self.by_block(rows, attribution.explain)]
        names = attribution.names_of_features(self.feature_names, self.image_shape, self.n_features)
        return Explanation.of_rows(rows, parts, names, self.columns, table)

    def transform(self, rows: np.ndarray) -> np.ndarray:
        """Posterior means ``(N, latent_dim)``, in the precision of the rows."""
        return self.by_block(rows, posterior_mean)[0]

    def reconstruct(self, rows: np.ndarray) -> np.ndarray:
        """Expected rows ``(N, D)`` given the posterior means, in the units of the data."""
        return self.by_block(rows, reconstruction)[0]

    def inverse_transform(self, z: np.ndarray) -> np.ndarray:
        """Means of p(x|z) ``(N, ...)`` for finite codes ``(N, latent_dim)``, in the training data's shape and units.

        Raises
        ------
        DataError
            If the codes have another shape.
        """
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise DataError(f"codes have {self.latent_dim} numbers each, got an array of shape {z.shape}")
        refuse_forked_threads()
        loc = self.vae.scaling.loc
        with torch.inference_mode():
            x = self.vae.scaling.inverse(self.vae.generate(torch.from_numpy(z).to(loc.device, loc.dtype)))
        return np.asarray(x.cpu().numpy().reshape(len(z), *self.sample_shape))

    def sample(self, n_samples: int = 1, *, random_state: int | np.random.RandomState | None = None) -> np.ndarray:
        """Means of p(x|z) for latents drawn from the prior, ``(n_samples, ...)``, as `VAEDetector.sample` gives them.

        Without a ``random_state``, that of the fit is taken.
        """
        if not is_integer(n_samples) or n_samples < 1:
            raise ValueError(f"n_samples must be an int of at least 1, got {n_samples!r}")
        seed = self.parameters["random_state"] if random_state is None else random_state
        rng = seed if isinstance(seed, np.random.RandomState) else np.random.RandomState(seed)
        loc = self.vae.scaling.loc
        noise, uniform = (
            torch.from_numpy(numbers).to(loc.device, loc.dtype)
            for numbers in (rng.standard_normal((n_samples, self.latent_dim)), rng.uniform(size=n_samples))
        )
        return self.inverse_transform(self.vae.prior.sample(noise, uniform).cpu().numpy())

    def interpolate(self, ends: np.ndarray, n_steps: int = 9) -> np.ndarray:
        """Samples ``(n_steps, ...)`` on the line between the posterior means of two rows ``(2, D)``, both included."""
        if not is_integer(n_steps) or n_steps < 2:
            raise ValueError(f"n_steps must be an int of at least 2, got {n_steps!r}")
        (a, b), share = self.transform(ends), np.linspace(0, 1, n_steps)[:, None]
        return self.inverse_transform((1 - share) * a + share * b)

    def score_table(self, X: Any, source: str = "X", first_row: int = 0) -> dict[str, np.ndarray]:
        """What a score table says of samples, ``(N,)`` by column, as `score_table_of`.

        Parameters
        ----------
        X, source, first_row
            As `rows` has them.
        """
        return self.score_table_of(self.rows(X, source, first_row))

    def score_table_of(self, rows: np.ndarray | Rows) -> dict[str, np.ndarray]:
        """What a score table says of rows, ``(N,)`` by column; what the score and the ELBO share is computed once.

        Returns
        -------
        dict of str to ndarray of shape (N,)
            anomaly_score (higher is more anomalous), decision (1 = anomaly), p_value, and the ELBO's terms
            reconstruction and kl in nats; of a table with more than plain numbers ``missing``: how many of the
            modelled cells of the row are gaps.
        """
        parts = self.by_block(rows, together(elbo_terms, SCORES[self.score]))
        *terms, scores = (part.astype(np.float64) for part in parts)
        table = {
            "anomaly_score": -scores,
            "decision": (-scores > self.calibration.threshold).astype(int),
            "p_value": self.p_values_of(scores),
            **dict(zip(ElboTerms._fields, terms, strict=True)),
        }
        if self.columns is not None:
            chunks = [rows] if isinstance(rows, np.ndarray) else rows.chunks()
            table["missing"] = np.concatenate([np.isnan(chunk).sum(axis=1) for chunk in chunks])
        return table

    def p_values_of(self, scores: np.ndarray) -> np.ndarray:
        """Conformal p-values ``(N,)`` of what `score_samples` gave, among held-out normals; small is anomalous."""
        p = conformal.p_values(-self.calibration_scores, -scores, self.calibration_weights)
        delta = self.calibration.delta
        return p if delta is None else conformal.conditional(p, len(self.calibration_scores), delta)

    def calibrate(
        self,
        rows: np.ndarray | None = None,
        y: ArrayLike | None = None,
        *,
        method: str | None = None,
        rate: float | None = None,
        **options: Any,
    ) -> Self:
        """Set another threshold for the score in use, without training; all is as for `VAEDetector.calibrate`.

        But a ``target`` is a `calibration.weighted.Target`, which has a weight for each normal among the rows.
        """
        from vae_anomaly.calibration.recalibration import by_sign  # SciPy, 0.3 seconds that scoring does without

        options |= {} if rate is None else {"rate": rate}
        return self.calibrate_by_scores(
            *by_sign(rows if rows is None else self.score_samples(rows), y), method, **options
        )

    def calibrate_by_scores(
        self, normal: np.ndarray | None, anomalous: np.ndarray, method: str | None, **options: Any
    ) -> Self:
        """As `calibrate`, by ``score_samples`` of normals (None: the held-out ones) and of anomalies, by no rows."""
        from vae_anomaly.calibration.recalibration import HeldOut, recalibrate  # SciPy, as above

        own = HeldOut(self.calibration, self.calibration_scores, self.calibration_weights)
        found = recalibrate(own, normal, anomalous, method, **options)
        self.calibrations[self.score], self.held_out_scores[self.score] = found.calibration, found.scores
        self.held_out_weights[self.score] = found.weights
        return self

    def by_block(self, rows: np.ndarray | Rows, function: RowFunction) -> tuple[np.ndarray, ...]:
        """Apply ``function(vae, x, noise)`` to scaled rows, in the precision that the type of the rows needs."""
        dtype = torch.float64 if rows.dtype == np.float64 else torch.float32
        vae = self.vae if self.vae.scaling.loc.dtype == dtype else copy.deepcopy(self.vae).to(dtype)
        vae, noise = vae.for_all_blocks(), self.noise.to(vae.scaling.loc.device, dtype)

        def of_rows(x: Tensor) -> tuple[Tensor, ...]:
            return function(vae, x, noise)

        n_units = self.n_features if self.columns is None else len(self.columns.of_units)
        may_have_gaps = self.columns is None and rows.dtype.kind == "f"
        of_block = partial(leaving_out_gaps, vae, function, noise) if may_have_gaps else of_rows
        return by_block(vae, rows, of_block, rows_of_block(vae, n_units, len(noise)))

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
        self.file_digest = saved_model.write(vars(self), Path(path))

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
        return cls(**saved_model.read(Path(path), device))
