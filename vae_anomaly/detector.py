"""`VAEDetector`: the scikit-learn estimator, the only border of torch and NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, OutlierMixin, TransformerMixin
from sklearn.utils import Tags, check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from vae_anomaly.calibration.methods import calibrate
from vae_anomaly.calibration.result import Calibration
from vae_anomaly.errors import DataError
from vae_anomaly.fitted_model import ElboTerms, FittedModel, check_support
from vae_anomaly.fitting import checkpoints
from vae_anomaly.fitting.batches import drawn
from vae_anomaly.fitting.checkpoints import Checkpoints
from vae_anomaly.fitting.distributed import team
from vae_anomaly.fitting.post_training import fit_after_training
from vae_anomaly.fitting.precision import resolved
from vae_anomaly.fitting.preprocessing import rms_deviation
from vae_anomaly.fitting.training import Recipe, train
from vae_anomaly.model.build import Choices, device_of
from vae_anomaly.model.scaling import Scaling
from vae_anomaly.model.vae import VAE, reset_parameters
from vae_anomaly.parameters import check_parameters, is_integer, parameters_in, stored_parameters
from vae_anomaly.registry import LIKELIHOODS, PREPROCESSING, PRIORS, SCORES
from vae_anomaly.scoring.attribution import Explanation, explain
from vae_anomaly.scoring.scores import antithetic_noise
from vae_anomaly.storage.rows import Rows, RowsOnDisk, fingerprint
from vae_anomaly.storage.spool import spooled, stored

AUTO_RATE = 0.05
SLOW_ROWS = 1_000  # held-out ones, for the scores that optimise for every row
AUTO_ROWS = 256_000
AUTO_RATE_OF_128 = 1e-3
MANY_STEPS = 100_000
MANY_ROWS, MANY_IMAGES = 25_000, 2_500


class VAEDetector(ClassNamePrefixFeaturesOutMixin, OutlierMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Anomaly detection by a variational autoencoder trained on normal samples.

    Samples are rows ``(N, D)`` or images ``(N, H, W)`` / ``(N, H, W, C)``. Scores follow scikit-learn: higher is more
    normal. By default they are the ELBO in nats, a lower bound on the log-density of the scaled sample.

    Parameters
    ----------
    architecture : {"mlp", "conv", "article"}
        Encoder and decoder. "conv" needs images of at least 8 x 8 with 1 or 3 channels. "article" is the network and
        the loss of an introductory article, for comparison; it brings its own likelihood.
    latent_dim : int or None
        Size of the latent space. None: 10 for "article", otherwise 16, but at most half the features.
    likelihood : {"auto", "gaussian", "correlated_gaussian", "bernoulli", "continuous_bernoulli"}
        p(x|z). "correlated_gaussian" is for images; the last two need data in [0, 1] after preprocessing. "auto":
        "correlated_gaussian" for images, "gaussian" for tables.
    prior : {"auto", "normal", "mixture", "exemplars"}
        p(z) of the scores, fitted after training, which uses N(0, I): Gaussians fitted to the normals' latent means, or
        up to 5,000 of those means themselves. "auto": "mixture" for images, "exemplars" for tables, "normal" for
        the article and for likelihoods on [0, 1].
    preprocessing : {"auto", "standardize", "standardize_globally", "unit_range", "none"}
        "standardize": zero mean and unit variance a feature. "standardize_globally": one mean and one spread for all
        features. "unit_range": one range for all onto [0, 1], which is [0, 255] for 8-bit data, [0, 1] for data inside
        it, otherwise the training data's own. "auto": "standardize_globally" for images and "standardize" for tables;
        for likelihoods on [0, 1] "unit_range" (images and 8-bit data) or "none", and for the article "unit_range".
    image_shape : (int, int) or (int, int, int), optional
        Height, width and channels of images that arrive as flat rows.
    input_noise : float or None
        Standard deviation of noise added to the encoder's input in training, as a multiple of the root mean square
        deviation of the scaled samples from their mean. None: for images a fourteenth of the root of height x width, at
        most 2 (which 28 x 28 images have); 0.2 for tables, 0 for the article.
    epochs : int or None
        Most passes over the data. None: enough to take 256,000 rows, but at least 30 and at most 200; for samples on
        disk no more than 100,000 steps take.
    batch_size : int or None
        Rows a training step, of all ranks together where torchrun or Ray runs several. None: 128, and 256 from 25,000
        training rows or 2,500 training images up.
    learning_rate : float or None
        Peak learning rate of AdamW. None: 0.001 for a batch of 128 rows, and in proportion to the root of its size
        (https://arxiv.org/abs/2205.10287).
    patience : int or None
        Epochs without a better validation ELBO before training stops. None: a third of ``epochs``.
    validation_fraction, calibration_fraction : float
        Shares of the samples held out, at least one sample each: the first stops the training, the second sets the
        threshold. For samples on disk at most 20,000 each, or what 32 MiB hold.
    contamination : "auto" or float
        "auto": ``offset_`` promises at most 5 % false alarms on new normals, from the calibration samples. A float in
        (0, 0.5]: ``offset_`` is that quantile of the scores of all samples given to ``fit``.
    n_draws : int
        Fixed latent draws that estimate the ELBO's reconstruction term.
    precision : {"auto", "full", "bfloat16"}
        Of the matrix products in training; scores and all else have that of the data. "auto": "bfloat16" where the data
        is float32 or uint8 and the device is measured to take such products at least 1.3 times as fast. A model file
        says which it was, so that a refit from its parameters is the same on other machines.
    score_name : str
        What ``score_samples`` gives: a key of `vae_anomaly.registry.SCORES`. ``set_params(score_name=...)`` changes it
        on a fitted detector, and the threshold with it, without training.
    random_state : int, RandomState instance or None
        Seed of everything random in ``fit``. No global random state is read (unless None) or changed.
    device : str
        "auto" (CUDA where there is one, else CPU) or a name that torch knows.
    verbose : bool
        Show a progress bar on stderr, on a terminal only.
    checkpoint_dir : str, Path or None
        Folder in which ``fit`` keeps its state, so that it can go on where it was killed; ``fit`` empties it of
        checkpoints once it is done. Each fit needs a folder of its own, and a ``random_state``. Not part of the model.
    checkpoint_interval : float
        Seconds between two checkpoints.
    resume : bool
        Go on from the newest checkpoint in ``checkpoint_dir``, to the same bits as without the interruption; begin at
        the beginning where there is none. If false, a folder that holds checkpoints is refused.

    Attributes
    ----------
    offset_ : float
        ``score_samples`` below it means anomaly. It and the two below are of the score in use; each score has its own.
    history_ : list of dict
        One record an epoch: learning rate and ELBO terms on training and validation samples, mean nats a sample, with
        the prior and the likelihood of training.
    calibration_ : Calibration
        Threshold on the anomaly score (``-score_samples``), what to expect from it, and what that rests on.
    calibration_scores_ : ndarray of shape (n_calibration,)
        ``score_samples`` of the held-out normals, which nothing was fitted on: what calibration and p-values rest on.
    likelihood_, prior_, precision_ : str
        What these parameters came to be.
    model_ : FittedModel
        All of the above and below that scoring needs. ``FittedModel.load`` reads it from a file without scikit-learn.
    vae_ : VAE
        The fitted module.
    noise_ : Tensor of shape (n_draws, 1, latent_dim)
        The latent draws of every score.
    metadata_ : dict
        Anything JSON can hold that is to be kept with the model, such as where the data came from.
    image_shape_ : tuple of int or None
        Height, width, channels, if samples are images.
    n_features_in_ : int
        Features a sample; height x width x channels for images.
    feature_names_in_ : ndarray of str
        Column names, where ``fit`` saw a DataFrame.

    References
    ----------
    Auto-Encoding Variational Bayes (Kingma & Welling, 2014), https://arxiv.org/abs/1312.6114

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly import VAEDetector
    >>> X = np.random.default_rng(0).normal(size=(500, 8))
    >>> detector = VAEDetector(epochs=5).fit(X)
    >>> detector.predict(np.vstack([np.zeros(8), np.full(8, 9.0)]))
    array([ 1, -1])
    """

    def __init__(
        self,
        *,
        architecture: str = "mlp",
        latent_dim: int | None = None,
        likelihood: str = "auto",
        prior: str = "auto",
        preprocessing: str = "auto",
        image_shape: tuple[int, ...] | None = None,
        input_noise: float | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        patience: int | None = None,
        validation_fraction: float = 0.1,
        calibration_fraction: float = 0.1,
        contamination: str | float = "auto",
        n_draws: int = 2,
        precision: str = "auto",
        score_name: str = "elbo",
        random_state: int | np.random.RandomState | None = 0,
        device: str = "auto",
        verbose: bool = False,
        checkpoint_dir: str | Path | None = None,
        checkpoint_interval: float = 30.0,
        resume: bool = False,
    ) -> None:
        self.architecture = architecture
        self.latent_dim = latent_dim
        self.likelihood = likelihood
        self.prior = prior
        self.preprocessing = preprocessing
        self.image_shape = image_shape
        self.input_noise = input_noise
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.calibration_fraction = calibration_fraction
        self.contamination = contamination
        self.n_draws = n_draws
        self.precision = precision
        self.score_name = score_name
        self.random_state = random_state
        self.device = device
        self.verbose = verbose
        self.checkpoint_dir = checkpoint_dir
        self.checkpoint_interval = checkpoint_interval
        self.resume = resume

    def fit(self, X: ArrayLike | RowsOnDisk, y: object = None) -> Self:
        """Train on normal samples and set the threshold.

        Parameters
        ----------
        X : array-like of shape (N, D), (N, H, W) or (N, H, W, C)
            At least 3 finite samples. float64 is computed in float64, float32 and uint8 in float32, other numbers
            become float64. Rows on disk are taken as `fit_file` takes them.
        y : ignored

        Returns
        -------
        VAEDetector
            This detector.

        Raises
        ------
        ValueError
            If a parameter or the data cannot be used, the loss stops being finite, or ``checkpoint_dir`` holds
            checkpoints that are not wanted, of another fit, or damaged.
        KeyboardInterrupt
            If interrupted; with a ``checkpoint_dir`` once the training step under way is done and written there.
        """
        self.fit_keeping_checkpoints(X)
        if self.checkpoint_dir is not None:
            checkpoints.remove(Path(self.checkpoint_dir))
        return self

    def fit_file(self, path: str | Path) -> Self:
        """As `fit`, on a ``.npy`` file that may be larger than memory.

        Up to 1 GiB of samples are loaded, which gives the model that `fit` gives. Larger ones stay on disk: the
        training reads them in blocks that it shuffles, validation and calibration samples are at most 20,000 each or
        what 32 MiB hold, drawn from the whole file, and ``contamination`` takes 8 bytes a sample.

        Parameters
        ----------
        path : str or Path
            Samples of shape (N, D), (N, H, W) or (N, H, W, C). Where they are not in C order, or no float64, float32
            or uint8, they are first copied into a temporary file.

        Returns
        -------
        VAEDetector
            This detector.

        Raises
        ------
        DataError
            If it is no such file, or holds NaN or infinity.
        ValueError
            As `fit`.
        """
        with stored(Path(path)) as rows:
            return self.fit(rows)

    def fit_batches(self, batches: Iterable[ArrayLike]) -> Self:
        """As `fit`, on samples that come in batches and are together perhaps larger than memory.

        They are copied into a temporary file (``TMPDIR`` chooses where) and then taken as `fit_file` takes them.

        Parameters
        ----------
        batches : iterable of array-like
            Each of shape (n, D), (n, H, W) or (n, H, W, C), of any length; read once. The first decides the type.

        Returns
        -------
        VAEDetector
            This detector.

        Raises
        ------
        DataError
            If there are no samples, they differ in shape or type, or are not finite.
        OSError
            If the temporary file has no room.
        ValueError
            As `fit`.
        """
        with spooled(batches, "the data") as rows:
            return self.fit(rows)

    def fit_keeping_checkpoints(self, X: ArrayLike | RowsOnDisk, y: object = None) -> Self:
        """As `fit`, and leave the checkpoints: for who saves the model before `fitting.checkpoints.remove`."""
        given = self.get_params()
        check_parameters(given)
        # as of now: what set_params changes later is not what was fitted; and a file is not bound to one device
        parameters = stored_parameters(given) | {"device": "auto", "verbose": False}
        if not isinstance(self.random_state, Integral):
            parameters["random_state"] = None
        rows, sample_shape = self._rows_to_fit(X)
        choices = Choices(given, sample_shape)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        generator = torch.Generator().manual_seed(seed)
        training, validation, calibration = self._split(rows, generator)
        dtype = torch.float64 if rows.dtype == np.float64 else torch.float32
        device = device_of(self.device)
        (full,) = team().of_first([resolved(self.precision, dtype, device) == "full"])  # which each of them measures
        parameters["precision"] = "full" if full else "bfloat16"
        identity = parameters | {"device": device.type, "shape of a sample": sample_shape}
        kept = self._checkpoints(rows, seed, identity)

        vae = choices.build(PREPROCESSING[choices.preprocessing(rows.dtype)](training))
        check_support(vae, rows)
        reset_parameters(vae, generator)
        vae.to(device, dtype)
        noise = antithetic_noise(self.n_draws, choices.latent_dim, generator)
        history = train(
            vae,
            training,
            validation,
            self._recipe(training, choices, vae.scaling, parameters["precision"]),
            noise[:2].to(device, dtype),
            torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator))),
            progress=self.verbose and team().rank == 0,
            checkpoints=kept,
        )
        fit_after_training(vae, training, validation, choices.prior, noise.to(device, dtype), generator)
        names = getattr(self, "feature_names_in_", None)
        model = FittedModel(
            vae=vae,
            noise=noise,
            sample_shape=sample_shape,
            image_shape=choices.image_shape,
            feature_names=None if names is None else tuple(map(str, names)),
            held_out_scores={},
            calibrations={},
            score=given["score_name"],
            parameters=parameters,
            history=history,
            metadata={},
        )
        some = calibration[:: math.ceil(len(calibration) / SLOW_ROWS)]
        model.held_out_scores |= {
            name: model.score_samples(some if name in SCORES.where(slow=True) else calibration, name) for name in SCORES
        }
        for name, held_out in model.held_out_scores.items():
            if isinstance(self.contamination, str):
                rate = max(AUTO_RATE, 1 / (len(held_out) + 1))
                model.calibrations[name] = calibrate("conformal", -held_out, rate=rate)
            else:
                scores = model.score_samples(rows, name)
                model.calibrations[name] = calibrate("contamination", -scores, rate=float(self.contamination))
        self._fitted = model
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_fitted")

    @property
    def model_(self) -> FittedModel:
        """What was fitted, with the score in use."""
        check_is_fitted(self)
        return self._fitted.using(self.score_name)

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
        return self.noise_.shape[-1]

    @property
    def calibration_(self) -> Calibration:
        """Threshold on the anomaly score, for the score in use."""
        return self.model_.calibration

    @property
    def calibration_scores_(self) -> np.ndarray:
        """``score_samples`` of the held-out normals, for the score in use."""
        return self.model_.calibration_scores

    @property
    def likelihood_(self) -> str:
        """What ``likelihood`` came to be."""
        check_is_fitted(self)
        return LIKELIHOODS.name_of(type(self.vae_.likelihood))

    @property
    def prior_(self) -> str:
        """What ``prior`` came to be."""
        check_is_fitted(self)
        return PRIORS.name_of(type(self.vae_.prior))

    @property
    def precision_(self) -> str:
        """What ``precision`` came to be."""
        check_is_fitted(self)
        name: str = self._fitted.parameters.get("precision", "full")
        return name

    @property
    def offset_(self) -> float:
        """``score_samples`` below it means anomaly."""
        return -self.calibration_.threshold

    def calibrate(
        self,
        X: ArrayLike | None = None,
        y: ArrayLike | None = None,
        *,
        method: str = "conformal",
        rate: float | None = None,
        **options: Any,
    ) -> Self:
        """Set the threshold of the score in use anew, without training; `predict` follows it.

        Parameters
        ----------
        X : array-like, optional
            Samples that nothing was fitted on; their normals replace ``calibration_scores_``. Without normals among
            them, or without X, the held-out normals of the fit serve.
        y : array-like of shape (N,), optional
            +1 for the normals in X, -1 for the anomalies; None: all are normal.
        method : str
            A key of `registry.CALIBRATION_METHODS`: "conformal", "quantile", "pot" and "contamination" need normals
            alone; "youden", "f_beta", "cost", "fixed_tpr" and "fixed_fpr" some anomalies too.
        rate : float, optional
            The rate that the method takes; None: its default.
        **options
            What else the method takes: ``delta``, ``beta``, ``miss``, ``false_alarm``, ``prevalence``.

        Returns
        -------
        VAEDetector
            This detector, with ``calibration_`` and ``offset_`` set.

        Raises
        ------
        DataError
            If the method, its options or the data cannot be used, such as too few normals for the rate.
        """
        normal, anomalous = self.calibration_scores_, np.empty(0)
        if X is not None:
            scores = self.score_samples(X)
            signs = np.ones(len(scores)) if y is None else np.asarray(y)
            if signs.shape != scores.shape or not np.isin(signs, (-1, 1)).all():
                raise DataError(f"y must hold +1 (normal) or -1 (anomaly) for each of the {len(scores)} samples")
            normal, anomalous = scores[signs == 1], scores[signs == -1]
            if not len(normal):
                normal = self.calibration_scores_
        elif y is not None:
            raise DataError("y was given without X")
        labels = np.repeat([0, 1], [len(normal), len(anomalous)])
        options |= {} if rate is None else {"rate": rate}
        calibration = calibrate(method, -np.concatenate([normal, anomalous]), labels, **options)
        self.held_out_scores_[self.model_.score] = normal
        return self.set_calibration(calibration)

    def set_calibration(self, calibration: Calibration) -> Self:
        """Take a threshold from anywhere for the score in use; `predict` follows it."""
        self.calibrations_[self.model_.score] = calibration
        return self

    def p_values(self, X: ArrayLike) -> np.ndarray:
        """Conformal p-values ``(N,)`` against the held-out normals; small is anomalous.

        A new normal gets a value of at most t with probability at most t. After a conformal calibration, the samples
        predicted as anomalies are those with a p-value of at most its rate.
        """
        return self.p_values_of(self.score_samples(X))

    def p_values_of(self, scores: np.ndarray) -> np.ndarray:
        """As `p_values`, from what `score_samples` gave."""
        return self.model_.p_values_of(scores)

    def score_samples(self, X: ArrayLike) -> np.ndarray:
        """The score of each sample, ``(N,)`` float64: higher is more normal. By default the ELBO, in nats."""
        return self.model_.score_samples(self._rows(X))

    def score_batches(self, batches: Iterable[ArrayLike]) -> Iterator[np.ndarray]:
        """`score_samples` of each batch in turn, to the same bits as of all at once."""
        check_is_fitted(self)
        return map(self.score_samples, batches)

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """``score_samples(X) - offset_``, ``(N,)``: negative means anomaly."""
        decision: np.ndarray = self.score_samples(X) - self.offset_
        return decision

    def predict(self, X: ArrayLike) -> np.ndarray:
        """+1 for normal samples, -1 for anomalies, ``(N,)`` int."""
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def elbo_terms(self, X: ArrayLike) -> ElboTerms:
        """Reconstruction term and KL term of each sample's ELBO, each ``(N,)`` float64, in nats."""
        rows = self._rows(X)
        return self._fitted.elbo_terms(rows)

    def explain(self, X: ArrayLike) -> Explanation:
        """Where each sample's ELBO comes from, and what the model expected instead.

        It is always the ELBO's terms that are shared out, whatever score is in use. All arrays are held in memory, D
        numbers a sample in four of them; with exemplars one more holds up to 5,000.

        Parameters
        ----------
        X : array-like
            Samples as for `score_samples`.

        Returns
        -------
        Explanation
            Shares of the reconstruction term a feature and of the KL term a latent, in nats; what was expected, and how
            far around it, in the units of X; and the nats beyond that a feature costs.
        """
        parts = self._by_block(X, lambda vae, x, noise: explain(vae, x, noise))
        return Explanation(*(part.astype(np.float64) for part in parts))

    def score(self, X: ArrayLike, y: object = None) -> float:
        """Mean of ``score_samples``, so that model selection works without a scorer."""
        return float(self.score_samples(X).mean())

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Posterior means, ``(N, latent_dim)``, in the precision of ``X``."""
        return self._by_block(X, lambda vae, x, noise: (vae.encode(x).mu,))[0]

    def reconstruct(self, X: ArrayLike) -> np.ndarray:
        """Expected samples given the posterior means, shaped as ``X`` and in its units."""
        function = lambda vae, x, noise: (vae.scaling.inverse(vae.reconstruct(x)),)  # noqa: E731
        return self._by_block(X, function)[0].reshape(np.shape(X))

    def inverse_transform(self, X: ArrayLike) -> np.ndarray:
        """What the model expects for latent codes.

        Parameters
        ----------
        X : array-like of shape (N, latent_dim)
            Codes, such as `transform` gives.

        Returns
        -------
        ndarray of shape (N, ...)
            Means of p(x|z), in the shape and the units of the training data.

        Raises
        ------
        ValueError
            If the codes are not finite, or are not ``latent_dim`` numbers each.
        """
        check_is_fitted(self)
        z = check_array(X, dtype=[np.float64, np.float32])
        if z.shape[1] != self.noise_.shape[-1]:
            raise DataError(f"codes have {self.noise_.shape[-1]} numbers each, got {z.shape[1]}")
        return self._generate(z)

    def sample(self, n_samples: int = 1, *, random_state: int | np.random.RandomState | None = None) -> np.ndarray:
        """What the model believes normal is: means of p(x|z) for latents drawn from the prior.

        Parameters
        ----------
        n_samples : int
            How many, at least 1.
        random_state : int, RandomState instance or None
            Seed of the draws; None takes the detector's own.

        Returns
        -------
        ndarray of shape (n_samples, ...)
            Samples in the shape and the units of the training data.
        """
        check_is_fitted(self)
        if not is_integer(n_samples) or n_samples < 1:
            raise ValueError(f"n_samples must be an int of at least 1, got {n_samples!r}")
        rng = check_random_state(self.random_state if random_state is None else random_state)
        loc = self.vae_.scaling.loc
        noise, uniform = (
            torch.from_numpy(drawn).to(loc.device, loc.dtype)
            for drawn in (rng.standard_normal((n_samples, self.noise_.shape[-1])), rng.uniform(size=n_samples))
        )
        return self._generate(self.vae_.prior.sample(noise, uniform).cpu().numpy())

    def interpolate(self, a: ArrayLike, b: ArrayLike, n_steps: int = 9) -> np.ndarray:
        """Samples on the straight line between the posterior means of two samples, both ends included.

        Parameters
        ----------
        a, b : array-like of shape (D,), (H, W) or (H, W, C)
            One sample each.
        n_steps : int
            How many samples, at least 2.

        Returns
        -------
        ndarray of shape (n_steps, ...)
            In the shape and the units of the training data.
        """
        if not is_integer(n_steps) or n_steps < 2:
            raise ValueError(f"n_steps must be an int of at least 2, got {n_steps!r}")
        ends = self._by_block(np.stack([np.asarray(a), np.asarray(b)]), lambda vae, x, noise: (vae.encode(x).mu,))[0]
        along = np.linspace(0, 1, n_steps)[:, None]
        return self._generate((1 - along) * ends[:1] + along * ends[1:])

    def save(self, path: str | Path) -> None:
        """Write the fitted detector to one safetensors file, all or nothing.

        Parameters
        ----------
        path : str or Path
            The file; replaced if it is there.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        self.model_.save(path)

    @classmethod
    def load(cls, path: str | Path, *, device: str = "auto") -> Self:
        """Read a detector that `save` wrote; its scores are the same to the bit.

        Parameters
        ----------
        path : str or Path
            The file. Nothing in it can run code.
        device : str
            Where to put the model, as the parameter of that name.

        Raises
        ------
        ModelFileError
            If the file is not a model file, is damaged, or comes from a later version.
        OSError
            If it cannot be read.
        """
        model = FittedModel.load(path, device=device)
        detector = cls(**parameters_in(model.parameters, device))
        detector._fitted = model
        detector.n_features_in_ = model.n_features
        if model.feature_names is not None:
            detector.feature_names_in_ = np.array(model.feature_names, dtype=object)
        return detector

    def _rows(self, X: ArrayLike) -> np.ndarray:
        """Validated flat rows to score, ``(N, D)``: float64, float32 or uint8."""
        check_is_fitted(self)
        rows = self._validated(self._fitted.flat(np.asarray(X)) if is_images(X) else X, reset=False)
        check_support(self.vae_, rows)
        return rows

    def _by_block(
        self, X: ArrayLike, function: Callable[[VAE, Tensor, Tensor], tuple[Tensor, ...]]
    ) -> tuple[np.ndarray, ...]:
        rows = self._rows(X)
        return self._fitted.by_block(rows, function)

    def _rows_to_fit(self, X: ArrayLike | RowsOnDisk) -> tuple[Rows, tuple[int, ...]]:
        """Validated flat rows, an array or, if they are many on disk, as they are; and the shape of a sample."""
        if isinstance(X, RowsOnDisk):
            if X.small:
                rows, sample_shape = self._rows_to_fit(X[:])
            else:
                rows, sample_shape = X.flat(), X.shape[1:]
                self.n_features_in_ = rows.shape[1]
                self.__dict__.pop("feature_names_in_", None)
            if X.feature_names is not None:
                self.feature_names_in_ = np.array(X.feature_names, dtype=object)
            return rows, sample_shape
        if is_images(X):
            images = np.asarray(X)
            return self._validated(images.reshape(len(images), -1), reset=True), images.shape[1:]
        rows = self._validated(X, reset=True)
        return rows, rows.shape[1:]

    def _validated(self, X: ArrayLike, *, reset: bool) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):  # its sum of large values
            rows: np.ndarray = validate_data(
                self, X, reset=reset, dtype=[np.float64, np.float32, np.uint8], ensure_min_samples=3 if reset else 1
            )
        return rows

    def _checkpoints(self, rows: Rows, seed: int, identity: dict[str, Any]) -> Checkpoints | None:
        """Where this fit keeps its state, if anywhere."""
        if self.checkpoint_dir is None:
            return None
        identity |= {
            "random_state": self.random_state if isinstance(self.random_state, Integral) else seed,
            "data": fingerprint(rows),
        }
        identity |= {"rows": "on disk"} if isinstance(rows, RowsOnDisk) else {}
        return Checkpoints(Path(self.checkpoint_dir), self.checkpoint_interval, identity, resume=self.resume)

    def _split(self, rows: Rows, generator: torch.Generator) -> tuple[Rows, np.ndarray, np.ndarray]:
        """Disjoint rows to train on, to stop the training with, and to calibrate with; the last two in memory."""
        n = len(rows)
        most = rows.most_held() if isinstance(rows, RowsOnDisk) else n
        n_validation = min(most, max(1, round(self.validation_fraction * n)))
        n_calibration = min(most, max(1, round(self.calibration_fraction * n)))
        if n_validation + n_calibration >= n:
            raise DataError(
                f"of {n} samples, validation_fraction={self.validation_fraction} and "
                f"calibration_fraction={self.calibration_fraction} leave none to train on: lower them"
            )
        held_out = drawn(rows, n_validation + n_calibration, generator)
        validation, calibration = (rows[np.sort(part)] for part in np.split(held_out, [n_validation]))
        if isinstance(rows, RowsOnDisk):
            return rows.without(held_out), validation, calibration
        return rows[np.setdiff1d(np.arange(n), held_out)], validation, calibration

    def _recipe(self, rows: Rows, choices: Choices, scaling: Scaling, precision: str) -> Recipe:
        n = len(rows)
        many = n >= (MANY_ROWS if choices.image_shape is None else MANY_IMAGES)
        batch_size = (256 if many else 128) if self.batch_size is None else int(self.batch_size)
        learning_rate = (
            AUTO_RATE_OF_128 * math.sqrt(batch_size / 128) if self.learning_rate is None else self.learning_rate
        )
        steps = math.ceil(n / batch_size)
        passes = min(200, max(30, math.ceil(AUTO_ROWS / n)))
        if isinstance(rows, RowsOnDisk):
            passes = min(passes, math.ceil(MANY_STEPS / steps))
        epochs = passes if self.epochs is None else int(self.epochs)
        return Recipe(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=float(learning_rate),
            patience=math.ceil(epochs / 3) if self.patience is None else int(self.patience),
            input_noise=choices.input_noise * rms_deviation(scaling, rows),
            precision=precision,
        )

    def _generate(self, z: np.ndarray) -> np.ndarray:
        """Latents ``(N, latent_dim)`` to samples in the data's own shape and units."""
        loc = self.vae_.scaling.loc
        with torch.inference_mode():
            x = self.vae_.scaling.inverse(self.vae_.generate(torch.from_numpy(z).to(loc.device, loc.dtype)))
        return x.cpu().numpy().reshape(len(z), *self._fitted.sample_shape)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def is_images(X: ArrayLike) -> bool:
    """Whether samples come as images ``(N, H, W)`` or ``(N, H, W, C)``."""
    return getattr(X, "ndim", 2) in (3, 4)
