"""The parameters: signature, docstring and table of the estimator say the same."""

from __future__ import annotations

import inspect
import re

import pytest

from vae_anomaly import VAEDetector
from vae_anomaly.constraints import OneOf
from vae_anomaly.parameters import (
    DEFAULTS,
    NOT_KEPT,
    PARAMETERS,
    Parameter,
    check_parameters,
    parameters_in,
    stored_parameters,
)

SIGNATURE = inspect.signature(VAEDetector.__init__).parameters
SECTION = inspect.getdoc(VAEDetector).partition("Parameters\n----------\n")[2].partition("\n\nAttributes\n")[0]  # type: ignore[union-attr]
DOCUMENTED = {
    name: kind
    for names, kind in re.findall(r"^(\w[\w, ]*) : (.*)$", SECTION, re.MULTILINE)
    for name in names.split(", ")
}
by_name = pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.name)


def test_table_signature_and_docstring_have_the_same_names_in_the_same_order() -> None:
    names = [parameter.name for parameter in PARAMETERS]
    assert names == [name for name in SIGNATURE if name != "self"]
    assert names == list(DOCUMENTED)


@by_name
def test_defaults_are_those_of_the_signature_and_can_be_used(parameter: Parameter) -> None:
    assert SIGNATURE[parameter.name].default == parameter.default == DEFAULTS[parameter.name]
    assert SIGNATURE[parameter.name].kind is inspect.Parameter.KEYWORD_ONLY
    assert parameter.constraint.allows(parameter.default)


@by_name
def test_the_docstring_lists_the_words_that_a_parameter_takes(parameter: Parameter) -> None:
    kind = DOCUMENTED[parameter.name]
    if "{" in kind:
        assert isinstance(parameter.constraint, OneOf)
        assert set(re.findall(r'"(\w+)"', kind)) == set(parameter.constraint)
    assert ("None" in kind or "optional" in kind) == parameter.constraint.allows(None)


@by_name
def test_a_bad_value_is_refused_with_name_constraint_and_value(parameter: Parameter) -> None:
    bad = object()
    if parameter.constraint.allows(bad):
        pytest.skip("takes whatever scikit-learn takes")
    with pytest.raises(ValueError, match=f"^{parameter.name} must be {re.escape(str(parameter.constraint))}, got <obj"):
        check_parameters(DEFAULTS | {parameter.name: bad})


def test_a_file_keeps_them_all_but_where_and_when_a_fit_keeps_its_state() -> None:
    given = DEFAULTS | {"latent_dim": 3, "score_name": "kl", "image_shape": (2, 3), "checkpoint_dir": "there"}
    stored = stored_parameters(given)
    assert not set(NOT_KEPT) & set(stored)
    assert stored["score"] == "kl"
    assert parameters_in(stored, "cpu") == given | {"device": "cpu", "checkpoint_dir": None}
