"""Options that are parameters of the detector, derived from the table `vae_anomaly.parameters.PARAMETERS`.

The table gives an option its name, default and help, and its constraint gives the type: a new parameter needs nothing
here. A new kind of constraint needs a `click_type`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import singledispatch
from typing import Any, TypeVar

import click

from vae_anomaly.cli import click_types
from vae_anomaly.constraints import (
    AutoOr,
    Constraint,
    Device,
    Flag,
    Folder,
    ImageShape,
    Integer,
    Number,
    OneOf,
    Optional,
    Seed,
)
from vae_anomaly.parameters import PARAMETERS, Parameter

Command = TypeVar("Command", bound=Callable[..., Any])


@singledispatch
def click_type(constraint: Constraint) -> click.ParamType:  # type: ignore[type-arg]
    """The type of an option for a parameter with this constraint.

    Raises
    ------
    TypeError
        For a kind of constraint that has no type here.
    """
    raise TypeError(f"no click type is registered for {type(constraint).__name__}")


@click_type.register
def optional_type(constraint: Optional) -> click.ParamType:  # type: ignore[type-arg]
    return click_type(constraint.other)  # None is the option left out


@click_type.register
def auto_or_type(constraint: AutoOr) -> click.ParamType:  # type: ignore[type-arg]
    return click_types.AutoOrType(constraint, click_type(constraint.other))


@click_type.register
def choice_type(constraint: OneOf) -> click.ParamType:  # type: ignore[type-arg]
    return click.Choice(tuple(constraint))


@click_type.register
def integer_type(constraint: Integer) -> click.ParamType:  # type: ignore[type-arg]
    return click.IntRange(constraint.low)


@click_type.register
def number_type(constraint: Number) -> click.ParamType:  # type: ignore[type-arg]
    bounded = constraint.high < math.inf
    return click.FloatRange(
        constraint.low,
        constraint.high if bounded else None,
        min_open=constraint.low_open,
        max_open=bounded and constraint.high_open,
    )


@click_type.register
def image_shape_type(constraint: ImageShape) -> click.ParamType:  # type: ignore[type-arg]
    return click_types.ImageShapeType()


@click_type.register
def flag_type(constraint: Flag) -> click.ParamType:  # type: ignore[type-arg]
    return click.BOOL


@click_type.register
def device_type(constraint: Device) -> click.ParamType:  # type: ignore[type-arg]
    return click.STRING


@click_type.register
def folder_type(constraint: Folder) -> click.ParamType:  # type: ignore[type-arg]
    return click_types.folder_path


@click_type.register
def seed_type(constraint: Seed) -> click.ParamType:  # type: ignore[type-arg]
    return click_types.seed


def parameter_option(parameter: Parameter) -> Callable[[Command], Command]:
    """The decorator that gives a command the option of a parameter, under the parameter's own name."""
    assert parameter.option is not None
    is_flag = isinstance(parameter.constraint, Flag)
    return click.option(
        parameter.option,
        parameter.name,
        type=click_type(parameter.constraint),
        is_flag=is_flag,
        default=parameter.default,
        show_default=not is_flag,
        help=parameter.help + (f"  [default: {parameter.shown_default}]" if parameter.shown_default else ""),
    )


def detector_options(command: Command) -> Command:
    """Give a command the option of every parameter that has one, in the order of the table."""
    for parameter in reversed(PARAMETERS):
        if parameter.option is not None:
            command = parameter_option(parameter)(command)
    return command
