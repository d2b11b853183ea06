"""Types of values on the command line that click does not have."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, TypeAlias

import click

from vae_anomaly.constraints import AutoOr

Parameter: TypeAlias = click.Parameter | None
MAX_SIDE = 1 << 14
Context: TypeAlias = click.Context | None


class NameList(click.ParamType):  # type: ignore[type-arg]  # generic only in later releases
    """Names separated by commas; one that has a comma is in double quotes."""

    name = "list"

    def convert(self, value: Any, param: Parameter, ctx: Context) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        lines = list(csv.reader(io.StringIO(value, newline=""), skipinitialspace=True))
        names = tuple(part.strip() for line in lines for part in line)
        if len(lines) != 1 or not all(names):
            self.fail(f"{value!r} is not a list of names such as 0,1,2", param, ctx)
        return tuple(dict.fromkeys(names))


class Separator(click.ParamType):  # type: ignore[type-arg]
    """One character, or the word tab."""

    name = "character"

    def convert(self, value: Any, param: Parameter, ctx: Context) -> str:
        text = "\t" if value in ("tab", "\\t") else str(value)
        if len(text) != 1 or text in '"\r\n':
            self.fail(f"{value!r} is neither one character, such as ';', nor tab", param, ctx)
        return text


class ImageShapeType(click.ParamType):  # type: ignore[type-arg]
    """Height x width, or height x width x channels."""

    name = "shape"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "HxW[xC]"

    def convert(self, value: Any, param: Parameter, ctx: Context) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        sizes = value.lower().split("x")
        if len(sizes) not in (2, 3) or not all(size.isdigit() and int(size) for size in sizes):
            self.fail(f"{value!r} is not a shape such as 28x28 or 32x32x3", param, ctx)
        return tuple(map(int, sizes))


class SizeType(click.ParamType):  # type: ignore[type-arg]
    """Height x width."""

    name = "size"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "HxW"

    def convert(self, value: Any, param: Parameter, ctx: Context) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        sizes = value.lower().split("x")
        if len(sizes) != 2 or not all(size.isdecimal() and 0 < int(size) <= MAX_SIDE for size in sizes):
            self.fail(f"{value!r} is not a height and a width of up to {MAX_SIDE:,} pixels, such as 64x64", param, ctx)
        return int(sizes[0]), int(sizes[1])


class AutoOrType(click.ParamType):  # type: ignore[type-arg]
    """The word auto, or a value of another type that a constraint allows."""

    name = "auto"

    def __init__(self, constraint: AutoOr, other: click.ParamType) -> None:  # type: ignore[type-arg]
        self.constraint, self.other = constraint, other

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "auto|NUMBER"

    def convert(self, value: Any, param: Parameter, ctx: Context) -> Any:
        if value == "auto":
            return value
        refusal = f"{value!r} is neither 'auto' nor {self.constraint.other}"
        try:
            converted = self.other.convert(value, param, ctx)
        except click.BadParameter:
            self.fail(refusal, param, ctx)
        if not self.constraint.allows(converted):
            self.fail(refusal, param, ctx)
        return converted


class PathOrUrl(click.Path):
    """A path, or a URL, which stays text."""

    def convert(self, value: Any, param: Parameter, ctx: Context) -> Any:
        if isinstance(value, str) and "://" in value:
            return value
        return super().convert(value, param, ctx)


data_path = click.Path(exists=True, allow_dash=True, path_type=Path)
data_path_or_url = PathOrUrl(exists=True, allow_dash=True, path_type=Path)
existing_file = click.Path(exists=True, dir_okay=False, path_type=Path)
existing_path = click.Path(exists=True, path_type=Path)
existing_folder = click.Path(exists=True, file_okay=False, path_type=Path)
file_path = click.Path(dir_okay=False, path_type=Path)
folder_path = click.Path(file_okay=False, path_type=Path)
share = click.FloatRange(0, 1, min_open=True, max_open=True)
seed = click.IntRange(0, 2**32 - 1)
