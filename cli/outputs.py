"""One check of all that a command reads and writes, before it does any work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from vae_anomaly.cli.data import DataOptions
from vae_anomaly.storage.outputs import Output, conflict


def check_outputs(inputs: Mapping[str, str | Path | None], *outputs: Output | None) -> None:
    """Refuse an output that is an input of the same run, or another output of it: exit code 2."""
    message = conflict(inputs, outputs)
    if message is not None:
        raise click.UsageError(message)


def data_inputs(given: DataOptions) -> dict[str, str | Path | None]:
    """The files and folders that the options of the data name."""
    from vae_anomaly.datasets.catalogue import NAMED
    from vae_anomaly.datasets.named import locate

    inputs: dict[str, str | Path | None] = {"the data": given.data, "--labels": given.labels}
    name = given.dataset or "mnist"
    if given.data is None and NAMED[name].mirrors:
        inputs["the data set"] = locate(name, given.data_dir)
    return inputs
