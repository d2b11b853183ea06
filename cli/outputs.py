"""One check of all that a command reads and writes, before it does any work."""

from __future__ import annotations

import os
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


def beside_input(data: Path, ending: str) -> Path:
    """Where the result for a file or folder is written if no output is named: beside it, under all of its name.

    No two inputs share such a name: ``t.csv`` and ``t.xlsx``, or ``2023/t.csv`` and ``2024/t.csv``.
    """
    named = data if data.name not in ("", "..") else Path(os.path.abspath(data))
    return named.with_name(f"{named.name}{ending}")


def beside_output(output: Path, usual: str, ending: str) -> Path:
    """What is written beside an output: its name without the usual suffix, and another ending.

    Of ``model.v1`` and ``model.v2`` nothing is the usual ``.vae``, so that each has files of its own.
    """
    return output.with_name(f"{output.name.removesuffix(usual) or output.name}{ending}")


def data_inputs(given: DataOptions) -> dict[str, str | Path | None]:
    """The files and folders that the options of the data name."""
    from vae_anomaly.datasets.catalogue import NAMED
    from vae_anomaly.datasets.named import locate

    inputs: dict[str, str | Path | None] = {"the data": given.data, "--labels": given.labels}
    name = given.dataset or "mnist"
    if given.data is None and NAMED[name].mirrors:
        inputs["the data set"] = locate(name, given.data_dir)
    return inputs
