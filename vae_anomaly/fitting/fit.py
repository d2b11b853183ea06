r"""The whole fit: from rows and parameters to a `FittedModel`.

1. Split the rows into disjoint parts, at random, by whole groups or in order of time (`vae_anomaly.fitting.groups`):
   training rows, validation rows, which stop the training, and calibration rows, which nothing is fitted on.
2. Leave out odd images, where some are expected to be anomalies (`vae_anomaly.fitting.odd_images`), and move and align
   images of one fixed scene (`vae_anomaly.fitting.alignment`). Fit the scaling to the training rows, draw the weights,
   and train.
3. With the networks fixed, fit the prior, the likelihood and the statistics that further scores compare with.
4. Score the calibration rows by every score, and set a threshold for each; of a table below 190 rows score all rows,
   by further fits that each leave some out (`vae_anomaly.fitting.calibration_folds`).

Where exemplars are the prior, a row is left out of its own score (`model.priors.exemplars`). So of fewer than 1,000
rows all are exemplars. Without folds all of them set the thresholds of the scores that leave a row out, as a tenth
would be a handful: these scores are those of a jackknife in which the networks and the scaling are not fitted again,
since what they owe to one row is little. README shows by simulation how well the rate is kept.

Everything random comes from one generator, seeded from ``random_state``, in this order; folds and the seeds of their
fits from another of the same seed.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import Tensor

from vae_anomaly.errors import DataError, TrainingWarning
from vae_anomaly.fitted_images import FittedImages
from vae_anomaly.fitted_model import FittedModel
from vae_anomaly.fitted_rows import FittedRows
from vae_anomaly.fitting.alignment import Scene, chosen_scene
from vae_anomaly.fitting.architecture import chosen_architecture
from vae_anomaly.fitting.batches import TorchRandom, sample_indices
from vae_anomaly.fitting.calibration_folds import folds_of, score_by_folds
from vae_anomaly.fitting.checkpoints import Checkpoints
from vae_anomaly.fitting.distributed import current_ranks
from vae_anomaly.fitting.groups import Groups
from vae_anomaly.fitting.image_statistics import fit_image_statistics
from vae_anomaly.fitting.odd_images import without_odd_images
from vae_anomaly.fitting.post_training import fit_after_training
from vae_anomaly.fitting.precision import resolve_precision, speed_up_in_training
from vae_anomaly.fitting.recipe import batch_size_for, recipe_for
from vae_anomaly.fitting.subject import Subject, subject_of
from vae_anomaly.fitting.thresholds import score_held_out, set_thresholds
from vae_anomaly.fitting.training import train
from vae_anomaly.fitting.training_notes import notes_on_training
from vae_anomaly.fitting.varying_features import complete
from vae_anomaly.history import EpochRecord
from vae_anomaly.model.build import Choices, device_of
from vae_anomaly.model.threads import refuse_forked_threads
from vae_anomaly.model.vae import VAE, reset_parameters
from vae_anomaly.parameters import check_parameters, stored_parameters
from vae_anomaly.progress import phase
from vae_anomaly.registry import PREPROCESSING
from vae_anomaly.scoring import BLOCK_ROWS
from vae_anomaly.scoring.scores import antithetic_noise
from vae_anomaly.scoring.support import check_support
from vae_anomaly.storage.model_schema import MAX_FEATURES
from vae_anomaly.storage.rows import Rows, RowsInMemory, fingerprint
from vae_anomaly.storage.safe_reading import LARGEST

DEFAULT_FALSE_ALARM_RATE = 0.05
MAX_ROWS_FOR_SLOW_SCORES = BLOCK_ROWS  # of the calibration rows, for scores that optimise for every row
MIN_ROWS = 3  # one for each part
FAR_OFF = 30.0  # interquartile ranges below the median
FEW_ROWS = 1_000  # of a table; below, all rows set the threshold


class Parts(NamedTuple):
    """Disjoint rows of one data set, and how many groups each part has, if groups were given."""

    training: Rows
    validation: RowsInMemory
    calibration: RowsInMemory
    n_groups: tuple[int, ...] | None = None


class Fitted(NamedTuple):
    """A model, what it was fitted to, and how.

    Attributes
    ----------
    model
        Without thresholds.
    parts
        Of its rows.
    calibration
        Rows to calibrate with, as new ones are expected to come.
    n_features
        Of what was trained: of a row, or of a patch.
    is_left_out
        Whether all rows are exemplars, if exemplars are the prior.
    """

    model: FittedModel
    parts: Parts
    calibration: RowsInMemory
    n_features: int
    is_left_out: bool


def fit_model(X: Rows, parameters: Mapping[str, Any], groups: Groups | None = None) -> FittedModel:
    """Train on normal samples, and calibrate.

    Called inside `fitting.checkpoints.one_fit_in`, which removes the checkpoints once a caller has saved the model.

    Parameters
    ----------
    X : Rows of shape (N, D), (N, H, W) or (N, H, W, C)
        At least 3 samples, checked. float64 is computed in float64, float32 and uint8 in float32, other numbers become
        float64. Up to 1 GiB of rows on disk are loaded.
    parameters
        All of `VAEDetector`'s, by name.
    groups
        Which samples stay together, and whether they come in order of time. None: as ``time_ordered`` says.

    Raises
    ------
    ValueError
        If a parameter or the data cannot be used, the loss stops being finite, or ``checkpoint_dir`` holds checkpoints
        that are damaged, of another fit, or not to be resumed from.
    KeyboardInterrupt
        If interrupted; with a ``checkpoint_dir`` once the training step under way is done and written there.
    """
    refuse_forked_threads()
    check_parameters(parameters)
    dtype, X = X.dtype, X.loaded().computable()
    rows = X.flat()
    parameters, choices, why = resolved(parameters, X.shape[1:], rows)
    if groups is None:
        groups = Groups.of(len(rows), None, None, time_ordered=parameters["time_ordered"], source=rows.source)
    seed = int(check_random_state(parameters["random_state"]).randint(2**31 - 1))
    random = np.random.default_rng(seed)  # of the folds alone
    folds = folds_of(parameters, rows, groups, random, are_images=choices.image_shape is not None)
    fitted = fit_uncalibrated(X, parameters, groups, seed)
    model, parts = fitted.model, fitted.parts
    if current_ranks().rank == 0:
        for note in notes_on_training(model.history, fitted.n_features):
            warnings.warn(note, TrainingWarning, stacklevel=2)
    model.metadata |= {"architecture": why} if why else {}
    computed = np.dtype(np.float64 if rows.dtype == np.float64 else np.float32)
    model.fitted_on = FittedRows.of([part.chunks() for part in parts[:3]], computed, parts.n_groups)
    if model.image_shape is not None:
        model.images = FittedImages.of(parts.training, model.image_shape, dtype)
    if folds is not None:
        bases = score_by_folds(model, fit_uncalibrated, X, parameters, groups, folds, random)
    with phase("calibrating the scores", shown=is_shown(parameters)):
        if folds is None:
            left_out = fitted.is_left_out and parameters["contamination"] == "auto"
            bases = score_held_out(model, fitted.calibration, rows if left_out else None)
        set_thresholds(model, rows, bases)
    return model


def fit_uncalibrated(X: Rows, parameters: Mapping[str, Any], groups: Groups | None, seed: int) -> Fitted:
    """A model without thresholds of rows in the type that is computed in, by parameters that leave nothing open."""
    sample_shape, rows = X.shape[1:], X.flat()
    choices = Choices(parameters, sample_shape, rows.columns)
    generator = torch.Generator().manual_seed(seed)
    parts = split(rows, parameters["validation_fraction"], parameters["calibration_fraction"], generator, groups)
    scene, of_scene = chosen_scene(parameters, choices, parts.training)
    parameters = {**parameters, "alignment": "none" if scene is None else "camera"}
    dtype = torch.float64 if rows.dtype == np.float64 else torch.float32
    device = device_of(parameters["device"])
    in_order = groups is not None and groups.in_order
    shown = is_shown(parameters)
    with phase("preparing", shown=shown):
        seen = seen_parts(parts, parameters, choices, scene, generator)
        vae = untrained(choices, rows, seen.training, generator).to(device, dtype)
        noise = antithetic_noise(int(parameters["n_draws"]), choices.latents_of_place, generator)
        subject = subject_of(vae, seen.training, seen.validation, choices.grid, generator)
        batch_size = batch_size_for(parameters, choices, subject.training)
        precision = precision_of(parameters["precision"], subject, batch_size)
        stored = parameters_to_store({**parameters, "time_ordered": in_order}, precision)
        checkpoints = checkpoints_of(parameters, stored, rows, sample_shape, device, seed, groups)
    history = train(
        *subject,
        recipe_for(parameters, choices, vae.scaling, subject.training, precision),
        noise[:2].to(device, dtype),
        torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator))),
        progress=shown,
        checkpoints=checkpoints,
    )
    complete(vae, subject.vae, subject.training)
    noise = noise.repeat(1, 1, choices.n_places)
    is_left_out = groups is None and len(rows) < FEW_ROWS
    others = parts.calibration if is_left_out and scene is None else None
    with phase("fitting the prior and the likelihood", shown=shown):
        fit_after_training(
            *(vae, seen.training, seen.validation, choices.prior_fit, noise.to(device, dtype), generator, others),
            may_be_anomalies=parameters["contamination"] != "auto",
        )
        if choices.image_shape is not None:
            fit_image_statistics(vae, seen.validation, noise.to(device, dtype), choices.image_shape)
    if scene is not None:
        vae.scaling = scene.scaling(vae.scaling)
    model = without_thresholds(vae, noise, X, choices, stored, history)
    model.metadata |= {"alignment": of_scene} if of_scene else {}
    if n_left_out := len(parts.training) + len(parts.validation) - len(seen.training) - len(seen.validation):
        model.metadata["n_odd_images_left_out"] = n_left_out
    return Fitted(model, parts, seen.calibration, subject.training.shape[1], is_left_out)


def is_shown(parameters: Mapping[str, Any]) -> bool:
    """Whether this process shows progress."""
    return bool(parameters["verbose"]) and current_ranks().rank == 0


def seen_parts(
    parts: Parts, parameters: Mapping[str, Any], choices: Choices, scene: Scene | None, generator: torch.Generator
) -> Parts:
    """What is fitted to: the parts without odd images, and moved and aligned with a scene, if there is one."""
    training, validation, calibration, n_groups = parts
    if choices.image_shape is not None and parameters["contamination"] != "auto":
        expected = float(parameters["contamination"])
        training, validation = without_odd_images(training, validation, choices.image_shape, expected, generator)
    if scene is not None:
        training, validation, calibration = scene.seen((training, validation, calibration), generator)
    return Parts(training, validation, calibration, n_groups)


def resolved(
    parameters: Mapping[str, Any], sample_shape: tuple[int, ...], rows: Rows
) -> tuple[Mapping[str, Any], Choices, str]:
    """The parameters with an architecture and a score, what they leave open, and why "auto" chose the former, or ""."""
    choices, why = Choices(parameters, sample_shape, rows.columns), ""
    if parameters["architecture"] == "auto":
        name, why = chosen_architecture(parameters, choices, rows)
        parameters = {**parameters, "architecture": name}
        choices = Choices(parameters, sample_shape, rows.columns)
    return {**parameters, "score_name": choices.score}, choices, why


def split(
    rows: Rows,
    validation_fraction: float,
    calibration_fraction: float,
    generator: torch.Generator,
    groups: Groups | None = None,
) -> Parts:
    """Rows to train on, to stop the training with, and to calibrate with; the last two in memory.

    Without groups at random, each row alone.

    Raises
    ------
    DataError
        If no rows are left to train on, there are too few groups, or one is too large to be held out.
    """
    n = len(rows)
    if n < MIN_ROWS:
        raise DataError(f"{rows.source}: has {n} sample(s), and a minimum of {MIN_ROWS} is required")
    most = rows.max_rows_in_memory()
    n_validation, n_calibration = (
        min(most, max(1, round(fraction * n))) for fraction in (validation_fraction, calibration_fraction)
    )
    if n_validation + n_calibration >= n:
        raise DataError(
            f"of {n} samples, validation_fraction={validation_fraction} and "
            f"calibration_fraction={calibration_fraction} leave none to train on: lower them"
        )
    n_groups = None
    if groups is None:
        held_out = sample_indices(rows, n_validation + n_calibration, generator)
        of_validation, of_calibration = map(np.sort, np.split(held_out, [n_validation]))
    else:
        groups.check_enough(rows.source)
        of_calibration, of_validation = groups.held_out((n_calibration, n_validation), TorchRandom(generator))
        held_out = np.concatenate([of_validation, of_calibration])
        largest = max(len(of_validation), len(of_calibration))
        if largest > 2 * most:
            raise DataError(
                f"{rows.source}: whole groups of {largest:,} rows would be held out, and memory is taken for {most:,}: "
                "give smaller groups"
            )
        n_groups = groups.counts(of_validation, of_calibration)
    validation, calibration = (
        RowsInMemory(rows[part], rows.feature_names, rows.source) for part in (of_validation, of_calibration)
    )
    return Parts(rows.without(held_out), validation, calibration, n_groups)


def precision_of(precision: str, subject: Subject, batch_size: int) -> str:
    """The precision to train in, "full" or "bfloat16": each rank measures, and all take the result of the first."""
    vae, rows = subject.vae, subject.training
    found = resolve_precision(
        precision, vae.scaling.loc.dtype, lambda: speed_up_in_training(vae, rows[: min(batch_size, len(rows))])
    )
    (full,) = current_ranks().broadcast_from_first([found == "full"])
    return "full" if full else "bfloat16"


def parameters_to_store(parameters: Mapping[str, Any], precision: str) -> dict[str, Any]:
    """The parameters that the model file keeps: no device, and no ``random_state`` that is not a number."""
    stored = stored_parameters(parameters) | {"device": "auto", "verbose": False, "precision": precision}
    if not isinstance(parameters["random_state"], Integral):
        stored["random_state"] = None
    return stored


def checkpoints_of(
    parameters: Mapping[str, Any],
    stored: Mapping[str, Any],
    rows: Rows,
    sample_shape: tuple[int, ...],
    device: torch.device,
    seed: int,
    groups: Groups | None = None,
) -> Checkpoints | None:
    """The checkpoints of this fit, with its identity; None if it keeps none."""
    if parameters["checkpoint_dir"] is None:
        return None
    given = parameters["random_state"]
    identity = {
        **stored,
        "device": device.type,
        "shape of a sample": sample_shape,
        "random_state": given if isinstance(given, Integral) else seed,
        "data": fingerprint(rows),
    }
    if rows.columns is not None:
        description = json.dumps(rows.columns.to_json(), sort_keys=True)
        identity["columns"] = hashlib.sha256(description.encode()).hexdigest()
    if groups is not None:
        identity["groups"] = groups.digest
    if not rows.in_memory:
        identity["rows"] = "on disk"
    folder = Path(parameters["checkpoint_dir"])
    return Checkpoints(folder, parameters["checkpoint_interval"], identity, resume=bool(parameters["resume"]))


def untrained(choices: Choices, rows: Rows, training: Rows, generator: torch.Generator) -> VAE:
    """The module with its scaling fitted and its weights initialised.

    Raises
    ------
    DataError
        If the likelihood gives no density to some of all ``rows``, or a model file cannot hold such a model.
    """
    vae = choices.build(PREPROCESSING[choices.preprocessing(rows.dtype)](training))
    n_bytes = sum(value.numel() for value in vae.parameters()) * (8 if rows.dtype == np.float64 else 4)
    if choices.n_features > MAX_FEATURES or n_bytes > LARGEST:
        raise DataError(
            f"a model of {choices.n_features:,} features has weights of {n_bytes:,} bytes: a model file may have "
            f"{MAX_FEATURES:,} features and {LARGEST:,} bytes; use fewer features"
        )
    check_support(vae, rows)
    reset_parameters(vae, generator)
    return vae


def without_thresholds(
    vae: VAE, noise: Tensor, X: Rows, choices: Choices, stored: dict[str, Any], history: list[EpochRecord]
) -> FittedModel:
    """The model before it has thresholds."""
    return FittedModel(
        vae=vae,
        noise=noise,
        sample_shape=X.shape[1:],
        image_shape=choices.image_shape,
        feature_names=X.feature_names,
        columns=X.columns,
        held_out_scores={},
        calibrations={},
        score=choices.score,
        parameters=stored,
        history=list(history),
        metadata={},
    )
