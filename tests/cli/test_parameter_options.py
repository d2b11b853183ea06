"""The options of ``fit`` are those of the table of parameters, and a new parameter needs nothing but its line there."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner

from vae_anomaly import VAEDetector, parameters
from vae_anomaly.cli import main
from vae_anomaly.cli.parameter_options import click_type, detector_options
from vae_anomaly.parameters import DEFAULTS, PARAMETERS, Parameter

OFFERED = [parameter for parameter in PARAMETERS if parameter.option is not None]
KINDS = [
    kind
    for kind in vars(parameters).values()
    if isinstance(kind, type)
    and issubclass(kind, parameters.Constraint)
    and kind not in (parameters.Constraint, parameters.NamesOf)  # a mapping has several options of its own
]
TAKEN = {
    "1": (parameters.Integer(), 1),
    "0.5": (parameters.Number(0, 1), 0.5),
    "auto": (parameters.AutoOr(parameters.Number()), "auto"),
    "2.5": (parameters.AutoOr(parameters.Number()), 2.5),
    "3": (parameters.Optional(parameters.Integer()), 3),
    "28X28x3": (parameters.ImageShape(), (28, 28, 3)),
    "cpu": (parameters.Device(), "cpu"),
    "b": (parameters.OneOf(("a", "b")), "b"),
    "4294967295": (parameters.Seed(), 2**32 - 1),
}
REFUSED = [
    (parameters.Integer(2), "1"),
    (parameters.Integer(), "1.5"),
    (parameters.Number(0, 1, low_open=True), "0"),
    (parameters.Number(0, 1), "1"),
    (parameters.AutoOr(parameters.Number(0, 0.5, high_open=False)), "0.6"),
    (parameters.AutoOr(parameters.Number()), "nan"),
    (parameters.AutoOr(parameters.Number()), "automatic"),
    (parameters.OneOf(("a", "b")), "c"),
    (parameters.ImageShape(), "28"),
    (parameters.ImageShape(), "28x0"),
    (parameters.Seed(), "-1"),
]


def options_of(command: click.Command, name: str) -> list[click.Option]:
    return [option for option in command.params if isinstance(option, click.Option) and option.name == name]


@pytest.mark.parametrize("parameter", OFFERED, ids=lambda parameter: parameter.name)
def test_every_parameter_with_an_option_has_exactly_one(parameter: Parameter) -> None:
    (option,) = options_of(main.commands["fit"], parameter.name)
    assert option.opts == [parameter.option]
    assert option.default == parameter.default
    assert option.help is not None
    assert option.help.startswith(parameter.help)
    shown = option.get_help_record(click.Context(main.commands["fit"], show_default=False))[1]
    if parameter.shown_default is not None:
        assert f"[default: {parameter.shown_default}]" in shown
    elif parameter.default is None or parameter.default is False:
        assert "default" not in shown
    else:
        assert f"default: {parameter.default}" in shown


def test_parameters_without_an_option_have_none() -> None:
    for parameter in PARAMETERS:
        if parameter.option is None:
            assert options_of(main.commands["fit"], parameter.name) == []


def test_fit_without_options_is_the_detector_without_arguments() -> None:
    given = main.commands["fit"].make_context("fit", ["--normal", "0"]).params
    passed = {parameter.name: given[parameter.name] for parameter in OFFERED}
    assert VAEDetector(**passed).get_params() == DEFAULTS


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_constraint_has_a_type(kind: type) -> None:
    assert click_type.dispatch(kind) is not click_type.dispatch(object)


def test_a_constraint_of_no_known_kind_is_an_error() -> None:
    with pytest.raises(TypeError, match="no click type is registered for Constraint"):
        click_type(parameters.Constraint())


@pytest.mark.parametrize("text", TAKEN)
def test_text_becomes_the_value_that_the_constraint_allows(text: str) -> None:
    constraint, value = TAKEN[text]
    converted = click_type(constraint).convert(text, None, None)
    assert (converted, type(converted)) == (value, type(value))
    assert constraint.allows(converted)


@pytest.mark.parametrize(("constraint", "text"), REFUSED, ids=str)
def test_text_that_the_constraint_does_not_allow_is_refused(constraint: parameters.Constraint, text: str) -> None:
    with pytest.raises(click.BadParameter):
        click_type(constraint).convert(text, None, None)


def test_a_new_parameter_is_an_option_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    new = Parameter(name="new_one", default=2, constraint=parameters.Integer(), help="Something new.")
    monkeypatch.setattr("vae_anomaly.cli.parameter_options.PARAMETERS", (*PARAMETERS, new))

    @click.command()
    @detector_options
    def command(**given: Any) -> None:
        click.echo(given["new_one"])

    assert CliRunner().invoke(command, []).output == "2\n"
    assert CliRunner().invoke(command, ["--new-one", "7"]).output == "7\n"
    shown = " ".join(CliRunner().invoke(command, ["--help"]).output.split())
    assert "--new-one INTEGER RANGE Something new. [default: 2; x>=1]" in shown
