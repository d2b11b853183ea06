"""The parameters of `VAEDetector`, in one table: name, default, constraint, help, and whether a model file keeps it.

The estimator's checks, what a model file may say, and the options of ``vae-anomaly fit`` are derived from it. Needs
neither torch nor NumPy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vae_anomaly.columns import GIVEN_KINDS, MISSING_CHOICES
from vae_anomaly.constraints import (
    AutoOr,
    Constraint,
    Device,
    Flag,
    Folder,
    ImageShape,
    Integer,
    NamesOf,
    Number,
    OneOf,
    Optional,
    Seed,
)
from vae_anomaly.registry import ARCHITECTURES, LIKELIHOODS, PREPROCESSING, PRIORS, SCORES, Registry

PRECISIONS = ("auto", "full", "bfloat16")
MAX_DRAWS = 1_000  # so that what scoring holds of one row, for each draw, stays below a few times the model file


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter of `VAEDetector`.

    Parameters
    ----------
    name, default, constraint
        As its constructor has it; the constraint is checked in ``fit``.
    help
        What it does, for ``vae-anomaly fit --help``.
    shown_default
        What the help shows as default if the default is None.
    kept
        Whether a model file holds it. Where and when a fit keeps its state is not part of a model, and a file must not
        decide it.
    stored_as
        Its name in model files, if it is another.
    option
        Its option of ``vae-anomaly fit``, if it is not called like it; None: it has none.
    """

    name: str
    default: Any
    constraint: Constraint
    help: str
    shown_default: str | None = None
    kept: bool = True
    stored_as: str = ""
    option: str | None = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "stored_as", self.stored_as or self.name)
        if self.option == "":
            object.__setattr__(self, "option", "--" + self.name.replace("_", "-"))


@dataclass(frozen=True)
class Selectable:
    """Names of a registry's entries that a user may choose: those that do not come with another choice."""

    registry: Registry

    def __iter__(self) -> Iterator[str]:
        return (name for name in self.registry if "brought_by" not in self.registry.entry(name).facts)


PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        name="architecture",
        default="auto",
        constraint=OneOf(Selectable(ARCHITECTURES), auto=True),
        help="Encoder and decoder; auto: patches for images of textures and large ones, otherwise mlp.",
    ),
    Parameter(
        name="latent_dim",
        default=None,
        constraint=Optional(Integer()),
        help="Size of the latent space; of each place's for patches.",
        shown_default="16, less for few features",
    ),
    Parameter(
        name="likelihood",
        default="auto",
        constraint=OneOf(Selectable(LIKELIHOODS), auto=True),
        help="p(x|z); auto: correlated_gaussian for images, gaussian for tables.",
    ),
    Parameter(
        name="prior",
        default="auto",
        constraint=OneOf(Selectable(PRIORS), auto=True),
        help="p(z), fitted after training; auto: mixture for images, exemplars for tables.",
    ),
    Parameter(
        name="preprocessing",
        default="auto",
        constraint=OneOf(Selectable(PREPROCESSING), auto=True),
        help="Scaling of the data.",
    ),
    Parameter(
        name="alignment",
        default="auto",
        constraint=OneOf(("camera", "none"), auto=True),
        help="camera: undo small moves and changes of light of a fixed scene; auto: where images show one.",
    ),
    Parameter(
        name="columns",
        default=None,
        constraint=Optional(NamesOf(GIVEN_KINDS)),
        help="Kinds of columns by name, for those that the program should not find out.",
        option=None,
    ),
    Parameter(
        name="missing",
        default="ignore",
        constraint=OneOf(MISSING_CHOICES),
        help="Gaps in tables: left out of the likelihood, a value of their own, or refused.",
    ),
    Parameter(
        name="image_shape",
        default=None,
        constraint=Optional(ImageShape()),
        help="Shape of images that come as flat rows.",
    ),
    Parameter(
        name="input_noise",
        default=None,
        constraint=Optional(Number()),
        help="Noise on training inputs, in multiples of their spread.",
        shown_default="2 for 28x28 images, 0.2 for tables",
    ),
    Parameter(
        name="epochs",
        default=None,
        constraint=Optional(Integer()),
        help="Passes over the data, at most.",
        shown_default="30, more for few samples",
    ),
    Parameter(
        name="batch_size",
        default=None,
        constraint=Optional(Integer()),
        help="Samples per training step.",
        shown_default="128, or 256 from 25,000 samples or 2,500 images up",
    ),
    Parameter(
        name="learning_rate",
        default=None,
        constraint=Optional(Number(low_open=True)),
        help="Peak of the learning rate.",
        shown_default="0.001 for batches of 128, growing with the root of their size",
    ),
    Parameter(
        name="patience",
        default=None,
        constraint=Optional(Integer()),
        help="Epochs without progress before stopping.",
        shown_default="a third of --epochs",
    ),
    Parameter(
        name="validation_fraction",
        default=0.1,
        constraint=Number(0, 1, low_open=True),
        help="Share of the normals held out to stop the training.",
        option=None,
    ),
    Parameter(
        name="calibration_fraction",
        default=0.1,
        constraint=Number(0, 1, low_open=True),
        help="Share of the normals held out to set the threshold.",
        option=None,
    ),
    Parameter(
        name="calibration_folds",
        default="auto",
        constraint=AutoOr(Integer()),
        help="Set the threshold by all normals, each scored by one of so many further fits that leave it out; 1: by "
        "the tenth held out; auto: 5 for tables below 190 rows, where a tenth is too few for 5 %.",
    ),
    Parameter(
        name="time_ordered",
        default=False,
        constraint=Flag(),
        help="Samples come in order of time: train on the first, stop with the next, set the threshold by the last.",
    ),
    Parameter(
        name="contamination",
        default="auto",
        constraint=AutoOr(Number(0, 0.5, low_open=True, high_open=False)),
        help="auto: 5 % false alarms on held-out normals; a number: that share of the training samples may be "
        "anomalies, and is flagged; odd images are not trained on.",
    ),
    Parameter(
        name="n_draws",
        default=2,
        constraint=Integer(1, MAX_DRAWS),
        help="Fixed latent draws that estimate the ELBO's reconstruction term.",
        option=None,
    ),
    Parameter(
        name="precision",
        default="auto",
        constraint=OneOf(PRECISIONS),
        help="Precision of matrix products in training; auto takes bfloat16 where it is measured to be faster.",
    ),
    Parameter(
        name="score_name",
        default="auto",
        constraint=OneOf(Selectable(SCORES), auto=True),
        help="The score that decides; auto: smallest_p for images, elbo for tables. Other commands can choose another.",
        stored_as="score",
        option="--score",
    ),
    Parameter(
        name="random_state",
        default=0,
        constraint=Seed(),
        help="Same seed, same model, to the bit.",
        option="--seed",
    ),
    Parameter(
        name="device",
        default="auto",
        constraint=Device(),
        help="auto, cpu, cuda, or another name torch knows.",
    ),
    Parameter(name="verbose", default=False, constraint=Flag(), help="Show progress on stderr.", option=None),
    Parameter(
        name="checkpoint_dir",
        default=None,
        constraint=Optional(Folder()),
        help="Folder for checkpoints, from which --resume continues a fit that was interrupted.",
        kept=False,
        option="--checkpoint",
    ),
    Parameter(
        name="checkpoint_interval",
        default=30.0,
        constraint=Number(),
        help="Seconds between two checkpoints.",
        kept=False,
    ),
    Parameter(
        name="resume",
        default=False,
        constraint=Flag(),
        help="Continue from the newest checkpoint in --checkpoint, if there is one.",
        kept=False,
    ),
)

DEFAULTS: dict[str, Any] = {parameter.name: parameter.default for parameter in PARAMETERS}
NOT_KEPT = tuple(parameter.name for parameter in PARAMETERS if not parameter.kept)


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Refuse a bad parameter with its name, its constraint and its value.

    Raises
    ------
    ValueError
        For the first parameter that cannot be used.
    """
    for parameter in PARAMETERS:
        value = parameters[parameter.name]
        if not parameter.constraint.allows(value):
            raise ValueError(f"{parameter.name} must be {parameter.constraint}, got {value!r}")
    architecture = parameters["architecture"]
    facts = {} if architecture == "auto" else ARCHITECTURES.entry(architecture).facts
    if parameters["score_name"] in facts.get("scores_left_out", ()):
        raise ValueError(
            f"architecture={architecture!r} has no score {parameters['score_name']!r}, which would take seconds an "
            "image: choose another score, or architecture='mlp'"
        )
    brought = facts.get("brings", {})
    for name, registry in (("likelihood", LIKELIHOODS), ("prior", PRIORS)):
        if name in brought:
            stands_for = registry.entry(brought[name]).facts.get("stands_for", brought[name])
            if parameters[name] not in ("auto", stands_for):
                raise ValueError(f"architecture={architecture!r} brings its own {name}: leave {name}='auto'")
    likelihood, prior = parameters["likelihood"], parameters["prior"]
    if prior != "auto" and PRIORS.entry(prior).facts.get("needs_gaussian"):
        gaussian = likelihood == "auto" or LIKELIHOODS.entry(likelihood).facts.get("gaussian")
        if not gaussian:
            raise ValueError(f"prior={prior!r} needs a Gaussian likelihood, got likelihood={likelihood!r}")
    if parameters["resume"] and parameters["checkpoint_dir"] is None:
        raise ValueError("resume=True needs checkpoint_dir, the folder with the checkpoints to continue from")
    if parameters["checkpoint_dir"] is not None and parameters["random_state"] is None:
        raise ValueError("checkpoint_dir needs a random_state, such as 0: without one a fit cannot be resumed")


def stored_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What a model file keeps of these parameters, by the names that it has for them."""
    return {known.stored_as: parameters[known.name] for known in PARAMETERS if known.kept}


def parameters_in(stored: Mapping[str, Any], device: str) -> dict[str, Any]:
    """All parameters of the detector whose file holds these, on this device.

    A file that is older than a parameter does not hold it; the parameter then has its default.

    Raises
    ------
    ValueError
        For the first parameter that is unknown or cannot be used.
    """
    names = {known.stored_as: known.name for known in PARAMETERS if known.kept}
    unknown = next((name for name in stored if name not in names and name not in NOT_KEPT), None)
    if unknown is not None:
        raise ValueError(f"its parameter {unknown[:100]!r} is unknown")
    kept = {names[name]: value for name, value in stored.items() if name in names}
    parameters = DEFAULTS | kept | {"device": device}
    if isinstance(parameters["image_shape"], list):
        parameters["image_shape"] = tuple(parameters["image_shape"])
    check_parameters(parameters)
    return parameters
