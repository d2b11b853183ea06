"""Parameter types and options that several commands share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vae_anomaly.datasets import NAMED
from vae_anomaly.registry import SCORES
from vae_anomaly.storage.safe_reading import printable

if TYPE_CHECKING:
    from vae_anomaly.detector import VAEDetector
    from vae_anomaly.fitted_model import FittedModel

DATASETS = tuple(NAMED)

ENGINES = ("processes", "ray")

CHUNK_BYTES = 32 << 20
ARGUMENTS = "vae_anomaly.arguments"  # where the context keeps what was typed


class NameList(click.ParamType):  # type: ignore[type-arg]  # generic only in later releases
    """Class names separated by commas."""

    name = "list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in value.split(","))
        if not all(names):
            self.fail(f"{value!r} is not a list of class names such as 0,1,2", param, ctx)
        return tuple(dict.fromkeys(names))


class Shape(click.ParamType):  # type: ignore[type-arg]
    """Height x width, or height x width x channels."""

    name = "shape"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        sides = value.lower().split("x")
        if len(sides) not in (2, 3) or not all(side.isdigit() and int(side) for side in sides):
            self.fail(f"{value!r} is not a shape such as 28x28 or 32x32x3", param, ctx)
        return tuple(map(int, sides))


class Contamination(click.ParamType):  # type: ignore[type-arg]
    """The word auto, or a share."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | float:
        if value == "auto":
            return "auto"
        try:
            share = float(value)
        except ValueError:
            share = math.nan
        if not 0 < share <= 0.5:
            self.fail(f"{value!r} is neither 'auto' nor a number in (0, 0.5]", param, ctx)
        return share


class Location(click.Path):
    """What `data_path` takes, or a URL, which stays text."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and "://" in value:
            return value
        return super().convert(value, param, ctx)


data_path = click.Path(exists=True, allow_dash=True, path_type=Path)
data_location = Location(exists=True, allow_dash=True, path_type=Path)
file_path = click.Path(dir_okay=False, path_type=Path)

model_option = click.option(
    "--model",
    type=file_path,
    default=Path("model.vae"),
    show_default=True,
    help="Model file that fit wrote.",
)
data_dir_option = click.option(
    "--data-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with mnist/train-images-idx3-ubyte.gz and so on; also VAE_ANOMALY_DATA.",
)
score_option = click.option(
    "--score",
    "score_name",
    type=click.Choice(tuple(SCORES)),
    help="Which score; the threshold follows.  [default: the model's own]",
)
labels_option = click.option(
    "--labels", type=data_path, help="Labels of the data: a .npy or one-column .csv, one a row."
)
label_column_option = click.option(
    "--label-column",
    help="Column of a table that holds the labels (its number from 0 where there is no header).",
)
device_option = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda, or another name torch knows."
)
address_option = click.option(
    "--address", metavar="HOST:PORT", help="Ray cluster to use.  [default: one on this machine, for this run alone]"
)
workers_option = click.option(
    "--workers", type=click.IntRange(1), help="Workers of one thread each.  [default: one a CPU]"
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def check_model(path: Path) -> None:
    """Say where a model comes from if there is none."""
    if not path.exists():
        raise click.ClickException(f"{path} does not exist: run 'vae-anomaly fit' first, or give --model")


def load_model(path: Path, device: str, score: str | None = None) -> FittedModel:
    """The model in a file, with another score if one is named; or a message that says where one comes from."""
    check_model(path)
    from vae_anomaly.fitted_model import FittedModel

    model = FittedModel.load(path, device=device)
    return model if score is None else model.using(score)


def load_detector(path: Path, device: str, score: str | None = None) -> VAEDetector:
    """As `load_model`, the whole detector, for commands that do more than score."""
    check_model(path)
    from vae_anomaly.detector import VAEDetector

    detector = VAEDetector.load(path, device=device)
    if score is not None:
        detector.set_params(score_name=score)
    return detector


def say(*lines: str) -> None:
    """Print lines, with whatever could steer a terminal escaped."""
    click.echo(shown(*lines))


def shown(*lines: str) -> str:
    """Lines as a terminal may see them."""
    return "\n".join(map(printable, lines))


def trained_on(metadata: dict[str, Any]) -> tuple[str | None, tuple[str, ...] | None]:
    """Where the training data came from and its normal classes, as far as a model file tells."""
    data = metadata.get("data")
    data = data if isinstance(data, dict) else {}
    source, normal = data.get("source"), data.get("normal")
    if not isinstance(normal, list) or not all(isinstance(name, str) for name in normal):
        normal = None
    return source if isinstance(source, str) else None, None if normal is None else tuple(normal)


def threshold_in(config: dict[str, Any], score: str | None = None) -> dict[str, Any]:
    """The calibration of a score (by default the model's own) in what a model file says about itself."""
    calibration: dict[str, Any] = config["calibrations"][score or config["parameters"]["score"]]
    return calibration


def describe_calibration(calibration: dict[str, Any]) -> list[str]:
    """What a threshold is, what it promises, and what to expect from it."""
    c = calibration
    spread = f"{c['threshold_low']:.2f} to {c['threshold_high']:.2f}"
    rate = "" if c["rate"] is None else f"{c['rate']:.3g}"
    says = {
        "conformal": f"a new normal is flagged with probability at most {rate}"
        + ("" if c["delta"] is None else f", for all but {c['delta']:.3g} of the draws of held-out normals"),
        "quantile": f"at most {rate} of the held-out normals lie above",
        "pot": f"exceeded with probability {rate} by the tail fitted to the held-out normals",
        "contamination": f"flags {rate} of the {c['n_normal']:,} samples it was fitted on",
        "fixed_tpr": f"at least {rate} of the labelled anomalies lie above",
        "fixed_fpr": f"at most {rate} of the labelled normals lie above",
    }.get(c["method"], "best for the labelled samples")
    lines = [
        f"anomaly score above {c['threshold']:.2f} (95 % interval {spread})",
        f"{c['method']}: {says}",
        "expect "
        + share("false alarms", c["false_alarm_rate"], c["false_alarm_low"], c["false_alarm_high"], c["n_normal"]),
    ]
    if c["detection_rate"] is not None:
        found = share("anomalies found", c["detection_rate"], c["detection_low"], c["detection_high"], c["n_anomalous"])
        lines.append(f"expect {found}")
    if c["note"]:
        lines.append(f"warning: {c['note']}")
    return lines


def share(what: str, value: float, low: float, high: float, n: int) -> str:
    """A share with its interval."""
    shown = [f"{100 * x:.3g}%" for x in (value, low, high)]
    return f"{shown[0]} {what} (95 % interval {shown[1]} to {shown[2]}), from {n:,} samples"


def column(title: str, lines: list[str]) -> list[str]:
    """Lines beside a title in the first column."""
    return [f"{title if i == 0 else '':<10} {line}" for i, line in enumerate(lines)]
