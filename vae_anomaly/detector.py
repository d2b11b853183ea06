"""`VAEDetector`: scikit-learn's contract around `fitting.fit.fit_model` and `FittedModel`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, OutlierMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from vae_anomaly.fitted_attributes import FittedAttributes
from vae_anomaly.fitting import checkpoints
from vae_anomaly.fitting.fit import fit_model
from vae_anomaly.fitting.groups import Groups
from vae_anomaly.fitting.samples import opened_to_fit, rows_to_fit, samples_of, spooled_to_fit, tabular
from vae_anomaly.fitting.training_scores import training_scores
from vae_anomaly.parameters import check_parameters
from vae_anomaly.scoring.attribution import ElboTerms, Explanation
from vae_anomaly.storage.rows import Rows
from vae_anomaly.tables.encoding import warn_about_names
from vae_anomaly.tables.frames import dense_blocks, is_frame, is_sparse


class VAEDetector(
    FittedAttributes,
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    OutlierMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """Anomaly detection by a variational autoencoder trained on normal samples.

    Samples are rows ``(N, D)`` or images ``(N, H, W)`` / ``(N, H, W, C)``. Scores follow scikit-learn: higher is more
    normal. By default the ELBO, in nats: for tables a lower bound on the log-density, for images an energy.

    Parameters
    ----------
    architecture : {"auto", "mlp", "conv", "patches", "article"}
        Encoder and decoder. "patches" is for textures and large images: a small network of 16 x 16 patches at all
        places, with latents for each; it brings its own likelihood and prior. "conv" needs images of at least 8 x 8
        with 1 or 3 channels. "article" is the network and the loss of an introductory article, for comparison; it
        brings its own likelihood. "auto": "patches" for images of more than 24,576 numbers, and for those of at least
        32 x 32 whose pixels have no place, by a rule that looks at the normals given to ``fit`` alone
        (`vae_anomaly.fitting.architecture`); otherwise "mlp".
    latent_dim : int or None
        Size of the latent space; for "patches" of each place's. None: 10 for "article", otherwise 16, but at most half
        the features.
    likelihood : {"auto", "gaussian", "correlated_gaussian", "bernoulli", "continuous_bernoulli"}
        p(x|z). "correlated_gaussian" is for images; the last two need data in [0, 1] after preprocessing. "auto":
        "correlated_gaussian" for images, "gaussian" for tables.
    prior : {"auto", "normal", "mixture", "exemplars"}
        p(z) of the scores, fitted after training, which uses N(0, I): Gaussians fitted to the normals' latent means, or
        up to 5,000 of those means themselves, with small sets of them that hold few anomalies. "auto": "mixture" for
        images, "exemplars" for tables, "normal" for the article and for likelihoods on [0, 1].
    preprocessing : {"auto", "by_column", "standardize", "standardize_globally", "unit_range", "none"}
        "by_column": as "standardize", with a logarithm first for columns whose tails need it, by a rule that looks at
        training rows alone. "standardize": zero mean and unit variance a feature. "standardize_globally": one mean and
        one spread for all
        features. "unit_range": one range for all onto [0, 1], which is [0, 255] for 8-bit data, [0, 1] for data inside
        it, otherwise the training data's own. "auto": "standardize_globally" for images and "by_column" for tables;
        for likelihoods on [0, 1] "unit_range" (images and 8-bit data) or "none", and for the article "unit_range".
    alignment : {"auto", "camera", "none"}
        "camera": each image is of one fixed scene, and is moved by up to 2 pixels and brought into one light before
        anything else (`vae_anomaly.model.alignment`), so that a camera that shakes and a lamp that flickers raise no
        alarm; zero has to be black. Scores, reconstructions and maps are those of the aligned image. "auto": "camera"
        where the mean of the normals explains most of each of them (`vae_anomaly.fitting.alignment`), otherwise "none".
    columns : dict of str to str, optional
        Kinds of a table's columns by name, where the rules of `vae_anomaly.tables.kinds` are to be overruled: "number",
        "category", "date" or "identifier", which is not modelled.
    missing : {"ignore", "category", "refuse"}
        Gaps in tables (NaN, None, NaT): left out of the likelihood, a value of their own where the training data have
        some, or refused.
    image_shape : (int, int) or (int, int, int), optional
        Height, width and channels of images that arrive as flat rows.
    input_noise : float or None
        Standard deviation of noise added to the encoder's input in training, as a multiple of the root mean square
        deviation of the scaled samples from their mean. None: for images a fourteenth of the root of height x width, at
        most 2 (which 28 x 28 images have); 0.2 for tables, 0 for the article.
    epochs : int or None
        Most passes over the data. None: as many as take 256,000 rows or 192,000 images, but at least 30 and at most
        200, fewer of more than 1,024 features; of patches 768,000; for samples on disk at most what 100,000 steps take.
    batch_size : int or None
        Rows a training step, of all ranks together where torchrun or Ray runs several. None: 128, and 256 from 25,000
        training rows or 2,500 training images up.
    learning_rate : float or None
        Peak learning rate of AdamW. None: 0.001 for a batch of 128 rows, or 0.0015 from 2,500 whole images up, and in
        proportion to the root of its size (https://arxiv.org/abs/2205.10287).
    patience : int or None
        Epochs without a better validation ELBO before training stops. None: a third of ``epochs``.
    validation_fraction, calibration_fraction : float
        Shares of the samples held out, at least one sample each: the first stops the training, the second sets the
        threshold. For samples on disk at most 20,000 each, or what 32 MiB hold.
    calibration_folds : "auto" or int
        With K > 1 folds, at most one for two rows, all rows of a table set the threshold: K further models are fitted,
        each without one fold, and score that fold (`fitting.calibration_folds`). 1: the rows of
        ``calibration_fraction`` set it. "auto": 5 where these would be fewer than the 19 that a rate of 5 % takes, of
        10 rows up, if not in order of time; else 1, as for all images.
    time_ordered : bool
        Samples come in order of time: the first train, the next stop the training, the last set the threshold. If
        false, the samples held out are drawn at random.
    contamination : "auto" or float
        "auto": ``offset_`` promises at most max(5 %, 1 / (n + 1)) false alarms on new normals, from n calibration
        samples. A float in (0, 0.5]: this share of the samples given to ``fit`` may be anomalies, and is flagged; a
        table's rows are each left out of their own score. Images that are unlike most others, this share and 5 % of
        all more, have no part in the networks and all else that is fitted; ``metadata_["n_odd_images_left_out"]``
        counts them.
    n_draws : int
        Fixed latent draws that estimate the ELBO's reconstruction term.
    precision : {"auto", "full", "bfloat16"}
        Of the matrix products in training; all else, scores included, has the data's. "auto": "bfloat16" where the data
        is float32 or uint8 and the device is measured to be at least 1.3 times as fast with it. The choice is kept in
        model files, so that a refit on another machine is the same.
    score_name : str
        What ``score_samples`` gives: a key of `vae_anomaly.registry.SCORES`, or "auto": "smallest_p" for images, "elbo"
        for tables. ``set_params(score_name=...)`` changes it on a fitted detector, and the threshold with it, without
        training.
    random_state : int, RandomState instance or None
        Seed of everything random in ``fit``. No global random state is read (unless None) or changed.
    device : str
        "auto" (CUDA where there is one, else CPU) or a name that torch knows.
    verbose : bool
        Show a progress bar on stderr, on a terminal only.
    checkpoint_dir : str, Path or None
        Folder in which ``fit`` keeps its state, so that a killed fit can continue; ``fit`` removes its checkpoints once
        it is done. Each fit needs a folder of its own, and a ``random_state``. Not part of the model.
    checkpoint_interval : float
        Seconds between two checkpoints.
    resume : bool
        Go on from the newest checkpoint in ``checkpoint_dir``, to the same bits as without the interruption; begin at
        the beginning where there is none. If false, a folder that holds checkpoints is refused.

    Attributes
    ----------
    offset_ : float
        ``score_samples`` below it means anomaly. Each score has its own offset and calibration.
    history_ : list of dict
        One record an epoch: learning rate and ELBO terms on training and validation samples, mean nats a sample, with
        the prior and the likelihood of training.
    calibration_ : Calibration
        Threshold on the anomaly score (``-score_samples``), what to expect from it, and what that rests on.
    calibration_scores_ : ndarray of shape (n_calibration,)
        ``score_samples`` of normals as new ones have it, which calibration and p-values rest on: held-out ones, which
        nothing was fitted on; of a table below 1,000 rows all, each left out of its own score; with
        ``calibration_folds`` all, each by a model that was fitted without it.
    training_scores_ : ndarray of shape (n_samples,)
        ``score_samples`` of up to 20,000 rows of a table given to ``fit``, each left out of its own, in an order that
        stands anomalies among them (`fitting.training_scores`); of images there are none.
    architecture_, likelihood_, prior_, precision_ : str
        The values of these parameters that the fit used, such as "gaussian" for "auto".
    model_ : FittedModel
        The model with the score in use. ``FittedModel.load`` reads it from a file without scikit-learn.
    vae_, noise_ : VAE and Tensor of shape (n_draws, 1, latent_dim)
        The fitted module, and the latent draws of every score.
    metadata_ : dict
        Anything JSON can hold that is to be kept with the model, such as where the data came from.
    image_shape_ : tuple of int or None
        Height, width, channels, if samples are images.
    n_features_in_ : int
        Features a sample; height x width x channels for images.
    feature_names_in_ : ndarray of str
        Column names, where ``fit`` saw a DataFrame whose names are all text.

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
        architecture: str = "auto",
        latent_dim: int | None = None,
        likelihood: str = "auto",
        prior: str = "auto",
        preprocessing: str = "auto",
        alignment: str = "auto",
        columns: Mapping[str, str] | None = None,
        missing: str = "ignore",
        image_shape: tuple[int, ...] | None = None,
        input_noise: float | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        patience: int | None = None,
        validation_fraction: float = 0.1,
        calibration_fraction: float = 0.1,
        calibration_folds: str | int = "auto",
        time_ordered: bool = False,
        contamination: str | float = "auto",
        n_draws: int = 2,
        precision: str = "auto",
        score_name: str = "auto",
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
        self.alignment = alignment
        self.columns = columns
        self.missing = missing
        self.image_shape = image_shape
        self.input_noise = input_noise
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.calibration_fraction = calibration_fraction
        self.calibration_folds = calibration_folds
        self.time_ordered = time_ordered
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

    def fit(
        self, X: ArrayLike, y: object = None, *, groups: ArrayLike | None = None, time: ArrayLike | None = None
    ) -> Self:
        """Train on normal samples and set the threshold.

        There is no ``sample_weight``: the threshold promises something because held-out samples count alike, each as
        likely as a new one. A sample that is to count more can be repeated, with one of ``groups`` for all its copies.

        Parameters
        ----------
        X : array-like of shape (N, D), (N, H, W) or (N, H, W, C), or DataFrame
            At least 3 samples without infinite values. float64 is computed in float64, float32 and uint8 in float32,
            other numbers become float64. Tables may have categories, dates and gaps (NaN, None, NaT, masked cells):
            DataFrames of pandas, polars, Arrow or another library that narwhals knows, or rows of objects. A table of
            plain numbers gives the model of the same array. Sparse rows become dense.
        y : ignored
        groups : array-like of shape (N,), optional
            The patient, machine or session of each sample. Samples of one group are all trained on, or all stop the
            training, or all set the threshold; whole groups come as near to the shares asked for as they can. What is
            promised of a new sample then is promised of one of a new group, and of K groups of one size that set
            the threshold up to 1 / (K + 1) more false alarms are to be expected.
        time : array-like of shape (N,), optional
            When each sample was, numbers or ``datetime64``: as ``time_ordered``, in this order, samples of one time
            together. Groups come in order of their first time.

        Raises
        ------
        ValueError
            If a parameter or the data cannot be used, the loss stops being finite, or ``checkpoint_dir`` holds
            checkpoints that are damaged, of another fit, or not to be resumed from.
        KeyboardInterrupt
            If interrupted; with a ``checkpoint_dir`` once the training step under way is done and written there.
        """
        check_parameters(self.get_params())
        if is_sparse(X):
            return self.fit_batches(dense_blocks(X), groups=groups, time=time)
        return self._fit(rows_to_fit(X, self.get_params()), groups, time)

    def fit_file(self, path: str | Path, *, groups: ArrayLike | None = None, time: ArrayLike | None = None) -> Self:
        """As `fit`, on a ``.npy`` file that may be larger than memory.

        Up to 1 GiB of samples are loaded, which gives the model that `fit` gives. Larger files stay on disk: the
        training reads and shuffles them chunk by chunk, validation and calibration samples are at most 20,000 each or
        what 32 MiB hold, chosen from the whole file, and ``contamination`` takes 8 bytes a sample. Samples that are not
        in C order, or no float64, float32 or uint8, are first copied into a temporary file.
        """
        check_parameters(self.get_params())
        with opened_to_fit(Path(path), self.get_params()) as rows:
            return self._fit(rows, groups, time)

    def fit_batches(
        self, batches: Iterable[ArrayLike], *, groups: ArrayLike | None = None, time: ArrayLike | None = None
    ) -> Self:
        """As `fit`, on samples that come in batches, which together may be larger than memory.

        They are copied into a temporary file (``TMPDIR`` chooses where) and then used as `fit_file` uses its file.

        Parameters
        ----------
        batches : iterable of array-like
            Each as `fit` takes it, of any length; read once. The first decides the type; of tables all decide together
            what the columns are.
        groups, time : array-like of shape (N,), optional
            As `fit` has them, of the samples of all batches.

        Raises
        ------
        ValueError
            If there are no samples, or they differ in shape, type or column names, and whatever `fit` raises.
        OSError
            If the temporary file has no room.
        """
        check_parameters(self.get_params())
        with spooled_to_fit(batches, self.get_params()) as rows:
            return self._fit(rows, groups, time)

    def _fit(self, rows: Rows, groups: ArrayLike | None, time: ArrayLike | None) -> Self:
        division = Groups.of(len(rows), groups, time, time_ordered=self.time_ordered, source=rows.source)
        with checkpoints.one_fit_in(self.checkpoint_dir):
            self._fitted = fit_model(rows, self.get_params(), division)
        self._training_scores = training_scores(self.model_, rows)
        return self

    def p_values(self, X: ArrayLike) -> np.ndarray:
        """Conformal p-values ``(N,)`` against the held-out normals; small is anomalous.

        A new normal gets a value of at most t with probability at most t. After a conformal calibration, the samples
        predicted as anomalies are those with a p-value of at most its rate. With ``delta`` p-values hold at all t at
        once and the threshold for its own rate alone, so that some samples with a higher p-value are predicted too.
        After a calibration with ``target`` they are for its population.
        """
        return self._indexed(self.model_.p_values_of(np.asarray(self.score_samples(X))), X, "p_value")

    def score_samples(self, X: ArrayLike) -> np.ndarray:
        """The score of each sample, ``(N,)`` float64: higher is more normal. By default, of tables the ELBO in nats.

        Of images it is the harmonic mean of three p-values, in nats, which the smallest rules: of the ELBO, of the
        worst place (`heat_maps`), and of an ELBO that is too high.

        After ``set_output(transform="pandas")`` a DataFrame gets a Series, as in `predict` and `p_values`.
        """
        if is_sparse(X):
            return np.concatenate(list(self.score_batches(dense_blocks(X))))
        return self._indexed(self.model_.score_samples(self._rows(X)), X, "score")

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
        return self._indexed(np.where(np.asarray(self.decision_function(X)) >= 0, 1, -1), X, "prediction")

    def elbo_terms(self, X: ArrayLike) -> ElboTerms:
        """Reconstruction term and KL term of each sample's ELBO, each ``(N,)`` float64, in nats."""
        return self.model_.elbo_terms(self._rows(X))

    def explain(self, X: ArrayLike) -> Explanation:
        """Where each sample's ELBO comes from, and what the model expected instead, in arrays, in a table or in words.

        The ELBO's terms are divided, whatever score is in use. Memory holds five arrays of D numbers a sample; with
        exemplars one more of up to 5,000. In a Pipeline: ``pipeline[-1].explain(pipeline[:-1].transform(X))``, by
        column names after ``pipeline.set_output(transform="pandas")``.
        """
        return self.model_.explain(self._rows(X), X)

    def score(self, X: ArrayLike, y: object = None) -> float:
        """Mean of ``score_samples``, so that model selection works without a scorer."""
        return float(self.score_samples(X).mean())

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Posterior means, ``(N, latent_dim)``, in the precision of ``X``."""
        return self.model_.transform(self._rows(X))

    def _rows(self, X: ArrayLike) -> np.ndarray:
        """Rows ``(N, D)`` to score, checked: float64, float32 or uint8."""
        check_is_fitted(self)
        X = tabular(X)
        if is_frame(X) or self._fitted.columns is not None:
            return self._fitted.rows(X)
        warn_about_names(X, self._fitted.feature_names)
        return self._fitted.rows_of_checked(samples_of(X, gaps=self._fitted.takes_gaps))
