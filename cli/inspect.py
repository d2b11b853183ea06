"""``vae-anomaly inspect``: what a model file says about itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from vae_anomaly.cli import options


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=Path("model.vae"))
@options.json_option
def inspect(model: Path, as_json: bool) -> None:
    """Show what a model file was trained on, its threshold and versions, and whether its content fits its hash.

    Loads no weights and no torch.
    """
    from vae_anomaly.storage.model_schema import read_description

    config = read_description(model)
    if as_json:
        click.echo(json.dumps(config, indent=2))
    else:
        options.say(*render(model, config))


def render(model: Path, config: dict[str, Any]) -> list[str]:
    """The configuration as lines of text."""
    source, normal = options.trained_on(config["metadata"])
    changed = {name: value for name, value in config["parameters"].items() if value is not None}
    return [
        f"model      {model}, its SHA-256 matches",
        f"trained on {source or 'not recorded'}" + (f", normal: {', '.join(normal)}" if normal else ""),
        f"samples    {' x '.join(map(str, config['sample_shape']))}, computed in {config['dtype']}",
        f"training   {len(config['history'])} epochs",
        *options.column("threshold", options.describe_calibration(options.threshold_in(config))),
        "parameters " + ", ".join(f"{name}={value}" for name, value in changed.items()),
        "versions   " + ", ".join(f"{name} {version}" for name, version in config["versions"].items()),
    ]
