"""Options that several commands share, and what loads the model that they name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vae_anomaly.cli import click_types
from vae_anomaly.cli.parameter_options import parameter_option
from vae_anomaly.datasets import NAMED
from vae_anomaly.datasets.reading import ImageReading, Reading
from vae_anomaly.parameters import PARAMETERS
from vae_anomaly.registry import SCORES

if TYPE_CHECKING:
    from vae_anomaly.detector import VAEDetector
    from vae_anomaly.fitted_model import FittedModel

DATASETS = tuple(NAMED)

ALARM_EXIT_CODE = 3  # of --fail-on-anomaly and --fail-on-drift
CHUNK_BYTES = 32 << 20
TYPED_ARGUMENTS = "vae_anomaly.typed_arguments"  # the key in click's context for the words of the command line

Command = TypeVar("Command", bound=Callable[..., Any])

model_argument = click.argument("model", type=click_types.existing_file, default=Path("model.vae"))
model_option = click.option(
    "--model",
    type=click_types.file_path,
    default=Path("model.vae"),
    show_default=True,
    help="Model file that fit wrote.",
)
dataset_option = click.option(
    "--dataset",
    type=click.Choice(DATASETS),
    help="Data set by name.  [default: mnist, or digits if mnist is not available]",
)
data_dir_option = click.option(
    "--data-dir",
    type=click_types.existing_folder,
    help="Folder with mnist/train-images-idx3-ubyte.gz and so on; also VAE_ANOMALY_DATA.",
)
score_option = click.option(
    "--score",
    "score_name",
    type=click.Choice(tuple(SCORES)),
    help="Score to use, with its own threshold.  [default: the model's own]",
)
labels_option = click.option(
    "--labels", type=click_types.data_path, help="Labels of the data, one for each row: .npy, or .csv of one column."
)
label_column_option = click.option(
    "--label-column",
    help="Column of a table that holds the labels (its number from 0 where there is no header).",
)
reading_options = (
    click.option("--sep", type=click_types.Separator(), help="What is between cells: a character, or tab."),
    click.option("--decimal", type=click.Choice((".", ",")), help="Decimal mark of numbers in text."),
    click.option("--encoding", help="Of a text table, such as utf-8, latin-1 or utf-16."),
    click.option(
        "--header/--no-header",
        default=None,
        help="Whether the first line has names of columns.  [default: judged by its cells, or by the model's names]",
    ),
    click.option("--skip-rows", type=click.IntRange(0), help="Lines before the table, such as titles."),
)
(device_option,) = (parameter_option(parameter) for parameter in PARAMETERS if parameter.name == "device")
address_option = click.option(
    "--address", metavar="HOST:PORT", help="Ray cluster to use.  [default: one on this machine, for this run alone]"
)
workers_option = click.option(
    "--workers", type=click.IntRange(1), help="Number of workers, of one thread each.  [default: one per CPU]"
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


resize_option = click.option(
    "--resize",
    type=click_types.SizeType(),
    help="Bring images to this height and width, antialiased; the model does the same with those that it scores.",
)
crop_option = click.option(
    "--crop",
    type=click_types.SizeType(),
    help="Keep the middle of images, of this height and width, after --resize; the model does the same.",
)
"""For commands that fit; with --skip-unreadable they become a part of their ``reading``."""
skip_unreadable_option = click.option(
    "--skip-unreadable", is_flag=True, help="List image files that cannot be read, and leave them out."
)
SAID_OF_IMAGES = ("resize", "crop", "skip_unreadable")
SAID_OF_TABLES = ("sep", "decimal", "encoding", "header", "skip_rows", "missing_columns")
missing_columns_option = click.option(
    "--missing-columns",
    type=click.Choice(("refuse", "as-gaps")),
    default="refuse",
    show_default=True,
    help="What to do where a table lacks columns of the model.",
)
"""For commands in which a model reads a table; becomes a part of their ``reading``."""


def table_options(command: Command) -> Command:
    """Give a command the options that say how a table or images are read: --label-column, and its ``reading``."""

    @functools.wraps(command)
    def with_reading(*args: Any, **given: Any) -> Any:
        said = {name: given.pop(name) for name in SAID_OF_TABLES if name in given}
        images = ImageReading(**{name: given.pop(name) for name in SAID_OF_IMAGES if name in given})
        return command(*args, reading=Reading(**said, images=images), **given)

    for decorate in reversed((label_column_option, *reading_options, skip_unreadable_option)):
        with_reading = decorate(with_reading)
    return with_reading  # type: ignore[return-value]  # it is called as the command is


id_column_option = click.option(
    "--id-column",
    "id_columns",
    type=click_types.NameList(),
    default=(),
    help="Columns of a table that name its rows in every output, and are not modelled.  [default: its identifiers]",
)
group_column_option = click.option(
    "--group-column",
    help="Column of a table, such as patient or machine: rows of one value stay together when rows are held out. It is "
    "not modelled.",
)
time_column_option = click.option(
    "--time-column",
    help="Column of a table with numbers or dates: the first rows in time train, the last set the threshold. It is not "
    "modelled.",
)
NAMING_OPTIONS = ("group_column", "time_column")
KIND_OPTIONS = {"categorical": "category", "numeric": "number", "date": "date", "identifier": "identifier"}


def column_options(command: Command) -> Command:
    """Give a command the options that say what columns are, which become its ``columns``: kinds by name, or None."""

    @functools.wraps(command)
    def with_columns(*args: Any, **given: Any) -> Any:
        columns: dict[str, str] = {}
        for option, kind in KIND_OPTIONS.items():
            for name in given.pop(option) or ():
                if columns.setdefault(name, kind) != kind:
                    raise click.UsageError(f"column {name!r} cannot be both a {columns[name]} and a {kind}")
        naming = (*given["id_columns"], *(given.get(name) for name in NAMING_OPTIONS))
        columns |= {name: "identifier" for name in naming if name is not None and name not in columns}
        return command(*args, columns=columns or None, **given)

    helps = ("whose values are only names", "of numbers", "of dates", "that only name rows, and are not modelled")
    for option, what in reversed(tuple(zip(KIND_OPTIONS, helps, strict=True))):
        decorate = click.option(f"--{option}", type=click_types.NameList(), help=f"Columns {what}, such as a,b.")
        with_columns = decorate(with_columns)
    return with_columns  # type: ignore[return-value]  # it is called as the command is


def labelled_data_options(command: Command) -> Command:
    """Give a command the options for a file or the test part of a named data set, with labels and normal classes."""
    decorators = (
        click.argument("data", type=click_types.data_path, required=False),
        click.option(
            "--dataset", type=click.Choice(DATASETS), help="Test part of a data set by name, instead of DATA."
        ),
        data_dir_option,
        labels_option,
        missing_columns_option,
        table_options,
        click.option(
            "--normal",
            type=click_types.NameList(),
            help="Classes that are normal.  [default: those the model was trained on]",
        ),
    )
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


def typed_arguments() -> list[str]:
    """The words of the command line that is running, after the program's name."""
    words: list[str] = click.get_current_context().meta[TYPED_ARGUMENTS]
    return words


def rows_per_chunk(n_features: int) -> int:
    """How many rows of float64 to read at a time."""
    return max(1, CHUNK_BYTES // (8 * n_features))


def check_model_exists(path: Path) -> None:
    """Refuse a model file that does not exist, and say how to make one."""
    if not path.exists():
        raise click.ClickException(f"{path} does not exist: run 'vae-anomaly fit' first, or give --model")


def load_model(path: Path, device: str, score: str | None = None) -> FittedModel:
    """The model in a file, with another score if one is named."""
    check_model_exists(path)
    from vae_anomaly.fitted_model import FittedModel

    model = FittedModel.load(path, device=device)
    return model if score is None else model.using(score)


def load_detector(path: Path, device: str, score: str | None = None) -> VAEDetector:
    """The detector in a file, with another score if one is named, for commands that do more than score."""
    check_model_exists(path)
    from vae_anomaly.detector import VAEDetector

    detector = VAEDetector.load(path, device=device)
    if score is not None:
        detector.set_params(score_name=score)
    return detector


def training_data_of(metadata: dict[str, Any]) -> tuple[str | None, tuple[str, ...] | None]:
    """Where the training data came from and its normal classes; None for what a model file does not record."""
    data = metadata.get("data")
    data = data if isinstance(data, dict) else {}
    source, normal = data.get("source"), data.get("normal")
    if not isinstance(normal, list) or not all(isinstance(name, str) for name in normal):
        normal = None
    return source if isinstance(source, str) else None, None if normal is None else tuple(normal)


def calibration_in(config: dict[str, Any], score: str | None = None) -> dict[str, Any]:
    """The calibration of a score (by default the model's own) in a model file's description of itself."""
    calibration: dict[str, Any] = config["calibrations"][score or config["parameters"]["score"]]
    return calibration
