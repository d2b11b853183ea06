"""``vae-anomaly inspect``: the description that a model file holds of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from vae_anomaly.cli import options
from vae_anomaly.cli.column_text import inspected_lines
from vae_anomaly.cli.text import alignment_line, describe_calibration, print_lines, titled

SIZED = {"resize": "resized", "crop": "cropped"}


@click.command()
@options.model_argument
@options.json_option
def inspect(model: Path, as_json: bool) -> None:
    """Show what a model file was trained on, its threshold and versions, and whether its content matches its hash.

    Loads no weights and no torch.
    """
    from vae_anomaly.storage.model_schema import read_description

    config = read_description(model)
    if as_json:
        click.echo(json.dumps(config, indent=2))
    else:
        print_lines(*description_lines(model, config))


def description_lines(model: Path, config: dict[str, Any]) -> list[str]:
    """The description in a model file as lines of text."""
    source, normal = options.training_data_of(config["metadata"])
    parameters = {name: value for name, value in config["parameters"].items() if value is not None}
    return [
        f"model      {model}, its SHA-256 matches",
        f"trained on {source or 'not recorded'}" + (f", normal: {', '.join(normal)}" if normal else ""),
        *titled("fitted on", fitted_lines(config.get("fitted_on"))),
        f"samples    {shape_text(config['sample_shape'])}, computed in {config['dtype']}",
        *titled("images", image_lines(config.get("images"))),
        *titled("alignment", alignment_lines(config["metadata"], config["parameters"])),
        *titled("columns", inspected_lines(config.get("columns"))),
        *titled("network", architecture_lines(config["metadata"], config["parameters"])),
        f"training   {len(config['history'])} epochs",
        *titled("threshold", describe_calibration(options.calibration_in(config))),
        "parameters " + ", ".join(f"{name}={value}" for name, value in parameters.items()),
        "versions   " + ", ".join(f"{name} {version}" for name, version in config["versions"].items()),
    ]


def architecture_lines(metadata: dict[str, Any], parameters: dict[str, Any]) -> list[str]:
    """Which architecture the program chose, and why, if it did."""
    why = metadata.get("architecture")
    return [f"{parameters['architecture']}, since {why}"] if isinstance(why, str) else []


def alignment_lines(metadata: dict[str, Any], parameters: dict[str, Any]) -> list[str]:
    """That images are aligned with a scene, if they are, and why."""
    why = metadata.get("alignment")
    return [alignment_line(why if isinstance(why, str) else None)] if parameters.get("alignment") == "camera" else []


def image_lines(images: dict[str, Any] | None) -> list[str]:
    """How images become samples of a model, and what values they had."""
    if images is None:
        return []
    done = [f"{verb} to {'x'.join(map(str, images[name]))}" for name, verb in SIZED.items() if images[name]]
    values = f"values {images['low']:.4g}..{images['high']:.4g}, {images['dtype']}"
    return [", ".join([values, *(["images are " + " and ".join(done)] if done else [])])]


def fitted_lines(fitted_on: dict[str, Any] | None) -> list[str]:
    """How many rows a model was fitted on; files of earlier versions do not say."""
    if fitted_on is None:
        return []
    training, validation, calibration = fitted_on["n_rows"]
    line = f"{training:,} rows trained it, {validation:,} stopped the training, {calibration:,} set the threshold"
    if fitted_on["n_groups"] is not None:
        of_training, of_validation, of_calibration = fitted_on["n_groups"]
        line += f"; of {of_training:,}, {of_validation:,} and {of_calibration:,} groups"
    return [line]


def shape_text(shape: list[int]) -> str:
    """The shape of a sample in words."""
    return f"of {shape[0]:,} features" if len(shape) == 1 else f"of {' x '.join(map(str, shape))}"
