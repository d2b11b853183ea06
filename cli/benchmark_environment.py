"""What the numbers of a benchmark depend on beside its data: the command, versions, hardware."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import click

PACKAGES = ("vae-anomaly", "numpy", "scipy", "scikit-learn", "torch", "pyod")


def command_line() -> str:
    """The command as it was typed, without the options that change no number, such as where the data are."""
    context = click.get_current_context()
    words = ["vae-anomaly", "benchmark", context.params["protocol"]]
    for parameter in context.command.params:
        name = str(parameter.name)
        given = context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
        if given and name not in ("protocol", "output", "data_dir", "fresh"):
            words += [parameter.opts[-1], *as_typed(context.params[name])]
    return " ".join(words)


def as_typed(value: Any) -> list[str]:
    """An option's value as it is typed: nothing for a flag, and of a folder only its name."""
    if value is True:
        return []
    if isinstance(value, Path):
        return [value.name]
    return [",".join(value) if isinstance(value, tuple) else str(value)]


def environment() -> dict[str, Any]:
    """Versions and hardware that times and numbers depend on."""
    import torch

    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            packages[name] = "not installed"
    return {
        "python": platform.python_version(),
        "packages": packages,
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def cpu_name() -> str:
    """The processor's own name, where the system has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
