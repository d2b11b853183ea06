"""What a model file holds of a `FittedModel`, and how one is built from it.

The description (parameters, shapes, thresholds, history) is JSON; the weights, the latent draws and the held-out scores
are tensors. All that the description says is checked, and compared with the types and shapes of the tensors, before
memory is taken for a single tensor: the module is first built with tensors that have no memory.

A file holds the scores that it was calibrated for, each as a calibration and a tensor of held-out scores. A version
that knows further scores does not offer them for this file; one that does not know a score of the file keeps it, and
writes it again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vae_anomaly.calibration.result import Calibration
from vae_anomaly.columns import Columns
from vae_anomaly.errors import ModelFileError
from vae_anomaly.fitted_images import FittedImages
from vae_anomaly.fitted_rows import MAX_DIGESTS, PARTS, FittedRows
from vae_anomaly.model.alignment import LARGEST_SIDE, SMALLEST_SIDE, AlignedScaling
from vae_anomaly.model.build import Choices, device_of
from vae_anomaly.model.scaling import Scaling, TailScaling, scaling_of
from vae_anomaly.model.table_scaling import TableScaling
from vae_anomaly.model.threads import refuse_forked_threads
from vae_anomaly.model.vae import VAE
from vae_anomaly.model.validity import check_values
from vae_anomaly.parameters import parameters_in
from vae_anomaly.registry import PRIORS
from vae_anomaly.scoring.activations import n_path_columns
from vae_anomaly.scoring.normal_statistics import checked_statistics
from vae_anomaly.scoring.worst_place import ImageStatistics
from vae_anomaly.storage import model_file
from vae_anomaly.storage.model_file import Layout
from vae_anomaly.storage.model_schema import check_config

KINDS = {"float32": "F32", "float64": "F64"}


def write(fields: Mapping[str, Any], path: Path) -> str:
    """Write the fields of a `FittedModel` to one file, all or nothing; returns the file's SHA-256 in hexadecimal.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    config = {
        "parameters": fields["parameters"] | {"score": fields["score"]},
        "sample_shape": list(fields["sample_shape"]),
        "feature_names": None if fields["feature_names"] is None else list(fields["feature_names"]),
        "columns": None if fields["columns"] is None else fields["columns"].to_json(),
        "dtype": str(fields["vae"].scaling.loc.dtype).removeprefix("torch."),
        "calibrations": {name: vars(calibration) for name, calibration in fields["calibrations"].items()},
        "history": fields["history"],
        "metadata": fields["metadata"],
        "fitted_on": None if fields["fitted_on"] is None else fields["fitted_on"].to_json(),
        "images": None if fields["images"] is None else fields["images"].to_json(),
    }
    tensors = {f"vae.{name}": value for name, value in fields["vae"].state_dict().items()}
    tensors |= {f"held_out.{name}": torch.from_numpy(scores) for name, scores in fields["held_out_scores"].items()}
    for name, weights in fields["held_out_weights"].items():
        tensors |= {} if weights is None else {f"weights.{name}": torch.from_numpy(weights)}
    tensors["noise"] = fields["noise"]
    if fields["fitted_on"] is not None:
        tensors["fitted_on.digests"] = torch.from_numpy(fields["fitted_on"].digests.view(np.int64))
        tensors["fitted_on.counts"] = torch.from_numpy(fields["fitted_on"].counts)
    return model_file.write(path, tensors, config)


def read(path: Path, device: str) -> dict[str, Any]:
    """The fields of the `FittedModel` that `write` wrote, by name, with the module on the device.

    Raises
    ------
    ModelFileError
        If the file is not a model file, is damaged, or comes from a later version.
    ForkError
        As `refuse_forked_threads` has it.
    OSError
        If it cannot be read.
    """

    def build(config: dict[str, Any], layout: Layout) -> Described:
        try:
            check_config(config)
            return Described.of(config, layout, device)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
            why = str(error).partition("\n")[0]
            raise ModelFileError(f"{path} does not describe a model that this version can build: {why}") from error

    refuse_forked_threads()
    contents = model_file.read(path, build)
    try:
        return contents.built.fields(contents.tensors, device) | {"file_digest": contents.file_digest}
    except ValueError as error:
        raise ModelFileError(f"{path} does not hold a model that can be used: {error}") from error


@dataclass(frozen=True)
class Described:
    """A model as its file describes it, before any tensor is read.

    Parameters
    ----------
    vae
        On the meta device, where tensors have shapes but no values.
    image_shape, columns, calibrations, score
        As `FittedModel` has them.
    config
        The description in the file, checked.
    """

    vae: VAE
    image_shape: tuple[int, ...] | None
    columns: Columns | None
    calibrations: dict[str, Calibration]
    score: str
    config: Mapping[str, Any]

    @classmethod
    def of(cls, config: dict[str, Any], layout: Layout, device: str) -> Described:
        """Build the module that a description needs, and compare it with the layout of the file's tensors."""
        parameters = parameters_in(config["parameters"], device)
        columns = None if config.get("columns") is None else Columns.from_json(config["columns"])
        choices = Choices(parameters, tuple(config["sample_shape"]), columns)
        # building takes time in proportion to the sides of an image, and every module has a tensor of all features
        if max(math.prod(shape) for _, shape in layout.values()) < choices.n_units:
            raise ValueError("its sample_shape does not fit the rest")
        described = cls(
            vae=vae_of(choices, layout),
            image_shape=choices.image_shape,
            columns=columns,
            calibrations={name: Calibration(**fields) for name, fields in config["calibrations"].items()},
            score=choices.score,
            config=config,
        )
        described.check_layout(layout, (parameters["n_draws"], 1, choices.latent_dim))
        return described

    def check_layout(self, layout: Layout, noise: tuple[int, ...]) -> None:
        """Compare types and shapes of a file's tensors with those of the module that is to hold them."""
        kind = KINDS[self.config["dtype"]]
        expected = {f"vae.{name}": (kind, tuple(value.shape)) for name, value in self.vae.state_dict().items()}
        expected["noise"] = "F64", noise
        if fitted_on := self.config.get("fitted_on"):
            n = layout.get("fitted_on.digests", ("", (0,)))[1][:1]
            if n > (min(MAX_DIGESTS, sum(fitted_on["n_rows"])),):
                raise ValueError(f"it has {n} digests of rows, more than there can be")
            expected |= {"fitted_on.digests": ("I64", n), "fitted_on.counts": ("I32", (*n, len(PARTS)))}
        for name in self.calibrations:  # of any length: another calibration changes that of one score
            expected[f"held_out.{name}"] = "F64", layout.get(f"held_out.{name}", ("", ()))[1][:1]
        for name in self.weighted:
            expected[f"weights.{name}"] = expected[f"held_out.{name}"]
        for name in sorted(expected.keys() | layout.keys()):
            if layout.get(name) != expected.get(name) or 0 in layout[name][1]:
                raise ValueError(f"its {name} is {layout.get(name)}, expected {expected.get(name)}")

    @property
    def weighted(self) -> tuple[str, ...]:
        """The scores whose held-out normals are weighted."""
        return tuple(name for name, calibration in self.calibrations.items() if calibration.n_effective is not None)

    def fields(self, tensors: dict[str, Tensor], device: str) -> dict[str, Any]:
        """All fields of the `FittedModel`, once the tensors are read.

        Raises
        ------
        ValueError
            If values are such as no fit and no calibration gives.
        """
        state = {name.removeprefix("vae."): value for name, value in tensors.items() if name.startswith("vae.")}
        self.vae.load_state_dict(state, assign=True)
        check_values(self.vae)
        self.vae.scaling.check_values()
        weights = {name: tensors[f"weights.{name}"].numpy() for name in self.weighted}
        for name, of_score in weights.items():
            check_weights(of_score, self.calibrations[name], name)
        names = self.config["feature_names"]
        fitted_on, images = None, self.config.get("images")
        if self.config.get("fitted_on"):
            digests, counts = (tensors[f"fitted_on.{name}"].numpy() for name in ("digests", "counts"))
            dtype = np.dtype(self.config["dtype"])
            fitted_on = FittedRows.from_json(self.config["fitted_on"], digests.view(np.uint64), counts, dtype)
        return {
            "vae": self.vae.to(device_of(device)),
            "noise": tensors["noise"],
            "sample_shape": tuple(self.config["sample_shape"]),
            "image_shape": self.image_shape,
            "feature_names": None if names is None else tuple(names),
            "columns": self.columns,
            "held_out_scores": {name: tensors[f"held_out.{name}"].numpy() for name in self.calibrations},
            "calibrations": self.calibrations,
            "score": self.score,
            "parameters": self.config["parameters"],
            "history": self.config["history"],
            "metadata": self.config["metadata"],
            "fitted_on": fitted_on,
            "images": None if images is None else FittedImages.from_json(images, self.image_shape),
            "held_out_weights": weights,
        }


def check_weights(weights: np.ndarray, calibration: Calibration, score: str) -> None:
    """Refuse weights ``(n,)`` of held-out normals that are not positive, of mean 1 and of the effective size stated."""
    n, effective = len(weights), calibration.n_effective
    if weights.min() <= 0 or weights.max() > n or not math.isclose(weights.mean(), 1, rel_tol=1e-9):
        raise ValueError(f"its weights of {score} must be positive and of mean 1")
    if effective is None or not math.isclose(effective * np.square(weights / n).sum(), 1, rel_tol=1e-9):
        raise ValueError(f"its calibration of {score}: n_effective is not that of its weights")


def vae_of(choices: Choices, layout: Layout) -> VAE:
    """The module that has the tensors of this layout, on the meta device."""
    with torch.device("meta"):
        state = {
            name.removeprefix("vae."): torch.empty(shape)
            for name, (_, shape) in layout.items()
            if name.startswith("vae.")
        }
        scaling, prior, normals, tails = (
            {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}
            for start in ("scaling.", "prior.", "normals.", "tails.")
        )
        vae = choices.build(scaling_with(scaling, choices))
        n_parameters = vae.likelihood.exemplar_parameters or choices.n_units
        vae.prior = PRIORS[choices.prior].from_buffers(prior, choices.latent_dim, n_parameters)
        n_columns = n_path_columns(vae.encoder, choices.n_units)
        vae.normals = checked_statistics(normals, choices.latents_of_place, choices.n_units, n_columns)
        if tails and choices.image_shape is not None:  # files of earlier versions have none
            vae.tails = ImageStatistics.from_buffers(tails, choices.image_shape)
    return vae


def aligned_scaling(scaling: Scaling, template: Tensor, choices: Choices) -> AlignedScaling:
    """The scaling of images that are aligned with a template.

    Raises
    ------
    ValueError
        If samples are no images that can be, or are scaled in another way.
    """
    sides = (choices.image_shape or (0,))[:2]
    if (
        type(scaling) is not Scaling
        or not SMALLEST_SIDE <= min(sides) <= max(sides) <= LARGEST_SIDE
        or template.shape != (choices.n_features,)
        or choices.image_shape is None
    ):
        raise ValueError("its template of a scene does not fit the rest")
    return AlignedScaling(scaling.loc, scaling.scale, template, choices.image_shape)


def scaling_with(buffers: dict[str, Tensor], choices: Choices) -> Scaling:
    """The scaling that has these buffers.

    Raises
    ------
    ValueError
        If their shapes do not fit the samples.
    """
    if "template" in buffers:
        template = buffers.pop("template")
        return aligned_scaling(scaling_with(buffers, choices), template, choices)
    if choices.columns is None:
        shapes = {tuple(value.shape) for value in buffers.values()}
        if len(shapes) != 1 or shapes - {(), (choices.n_features,)}:
            raise ValueError("its scaling does not fit the rest")
        return scaling_of(buffers)
    numbers = {name.removeprefix("numbers."): value for name, value in buffers.items() if name.startswith("numbers.")}
    return TableScaling.with_shapes(choices.columns, TailScaling(**numbers), buffers["level_units"])
