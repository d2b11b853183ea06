"""Model files made to harm, and those of every released format, which load for ever."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import json
import os
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from helpers import python
from vae_anomaly import FittedModel, VAEDetector
from vae_anomaly.calibration.result import Calibration
from vae_anomaly.errors import ModelFileError
from vae_anomaly.model.build import Choices
from vae_anomaly.parameters import PARAMETERS, Parameter
from vae_anomaly.registry import SCORES
from vae_anomaly.storage import model_file
from vae_anomaly.storage.model_schema import CALIBRATION, read_description

FIXTURES = sorted((Path(__file__).parents[1] / "fixtures").glob("*.vae.gz"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, table_detector: VAEDetector) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.vae"
    table_detector.save(path)
    return path


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda path: path.name)
def test_a_released_format_loads_and_scores_as_ever(tmp_path: Path, fixture: Path) -> None:
    path = tmp_path / "model.vae"
    path.write_bytes(gzip.decompress(fixture.read_bytes()))
    known = json.loads(fixture.with_suffix("").with_suffix(".json").read_text())
    rows = np.array(known["rows"], known["dtype"])
    assert read_description(path)["metadata"]["data"]["source"].startswith("a fixture")
    detector = VAEDetector.load(path, device="cpu")
    assert set(known["scores"]) <= set(SCORES)
    for name, scores in known["scores"].items():
        found = detector.set_params(score_name=name).score_samples(rows)
        np.testing.assert_allclose(found, scores, rtol=1e-4, atol=1e-3, err_msg=name)


def test_there_is_a_fixture_of_this_format() -> None:
    names = {fixture.name for fixture in FIXTURES}
    assert {f"{kind}.v{model_file.FORMAT_VERSION}.vae.gz" for kind in ("table", "image")} <= names


def test_the_schema_knows_every_field_of_a_calibration() -> None:
    assert list(CALIBRATION) == [field.name for field in dataclasses.fields(Calibration)]


def altered(saved: Path, path: Path, change) -> Path:
    """The file with another header, its length right."""
    blob = saved.read_bytes()
    start = 8 + int.from_bytes(blob[:8], "little")
    header, data = change(blob[8:start], blob[start:])
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


def entry(field: str, value: object):
    """Change a field of one tensor's entry."""

    def change(header: bytes, data: bytes) -> tuple[bytes, bytes]:
        table = json.loads(header)
        table["noise"][field] = value
        return json.dumps(table).encode(), data

    return change


HEADERS = {
    "duplicate": (lambda header, data: (header.rstrip()[:-1] + b',"noise":1}', data), "a key comes twice"),
    "huge shape": (entry("shape", [2**62, 4]), "does not take|beyond 64 bits|table of tensors is wrong"),
    "huge number": (entry("shape", [10**30]), "beyond 64 bits"),
    "negative": (entry("shape", [-1, -6]), "its table of tensors is wrong"),
    "truth": (entry("shape", [True, True]), "its table of tensors is wrong"),
    "no type": (entry("dtype", "F128"), "its table of tensors is wrong"),
    "offsets": (entry("data_offsets", [0, 2**60]), "its table of tensors is wrong"),
    "overlap": (entry("data_offsets", [8, 56]), "its table of tensors is wrong"),
    "nested": (lambda header, data: (b"[" * 100_000, data), "nested too deeply"),
    "infinite": (lambda header, data: (b'{"a":Infinity}', data), "no finite number"),
    "more data": (lambda header, data: (header, data + bytes(8)), "its tensors do not fill"),
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("read", [model_file.read, model_file.read_config])
def test_a_header_that_lies_is_refused(saved: Path, tmp_path: Path, name: str, read) -> None:
    change, message = HEADERS[name]
    with pytest.raises(ModelFileError, match=message):
        read(altered(saved, tmp_path / "m.vae", change))


def rewritten(saved: Path, path: Path, change) -> Path:
    """Another configuration or other tensors, with a hash that fits them."""
    tensors, config, _ = model_file.read(saved)
    change(config, tensors)
    model_file.write(path, tensors, config)
    return path


def inside(*keys: str, value: object):
    def change(config, tensors):
        for key in keys[:-1]:
            config = config[key]
        config[keys[-1]] = value

    return change


CONFIGS = {
    "rate": inside("calibrations", "elbo", "rate", value=1.5),
    "alarms": inside("calibrations", "elbo", "false_alarm_rate", value=-0.1),
    "count": inside("calibrations", "elbo", "n_normal", value=True),
    "note": inside("calibrations", "elbo", "note", value=["x"]),
    "extra": inside("calibrations", "elbo", "extra", value=1),
    "sides": inside("sample_shape", value=[3, 2, 1, 1]),
    "history": inside("history", value=[{"epoch": "1"}]),
    "no history": inside("history", value=[]),
    "metadata": inside("metadata", value=[1]),
    "seed": inside("parameters", "random_state", value=2**40),
    "text seed": inside("parameters", "random_state", value="os.system"),
    "object": inside("parameters", "epochs", value={"a": 1}),
    "draws": inside("parameters", "n_draws", value=10**12),
    "latents": inside("parameters", "latent_dim", value=10**15),
    "unknown field": inside("more", value=1),
    "names": inside("feature_names", value=["a", "b"]),
    "empty": lambda config, tensors: tensors.update({"held_out.elbo": torch.zeros(0, dtype=torch.float64)}),
    "whole numbers": lambda config, tensors: tensors.update({"held_out.elbo": torch.zeros(3, dtype=torch.int64)}),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_is_checked_before_a_tensor_is_read(saved, tmp_path, monkeypatch, name: str) -> None:
    path = rewritten(saved, tmp_path / "m.vae", CONFIGS[name])
    monkeypatch.setattr("safetensors.torch.load", lambda blob: pytest.fail("read the tensors"))
    with pytest.raises(ModelFileError, match="does not describe a model"):
        VAEDetector.load(path)


STORED = [parameter for parameter in PARAMETERS if parameter.kept]


@pytest.mark.parametrize("value", [{"a": 1}, [["x"]], -1, "os.system", 2**62], ids=str)
@pytest.mark.parametrize("parameter", STORED, ids=lambda parameter: parameter.name)
def test_a_parameter_is_what_the_table_of_parameters_allows(saved, tmp_path, parameter: Parameter, value) -> None:
    path = rewritten(saved, tmp_path / "m.vae", inside("parameters", parameter.stored_as, value=value))
    if parameter.constraint.allows(value) and parameter.name != "random_state":
        assert read_description(path)["parameters"][parameter.stored_as] == value
        return
    with pytest.raises(ModelFileError, match=parameter.name):
        read_description(path)


def test_an_unknown_parameter_is_refused(saved: Path, tmp_path: Path) -> None:
    path = rewritten(saved, tmp_path / "m.vae", inside("parameters", "more", value=1))
    with pytest.raises(ModelFileError, match="its parameter 'more' is unknown"):
        read_description(path)


@pytest.mark.parametrize("shape", [[2**24, 1, 1], [2**24], [2**13, 2**11]])
def test_a_shape_beyond_all_tensors_is_not_built(saved: Path, tmp_path: Path, monkeypatch, shape: list[int]) -> None:
    path = rewritten(saved, tmp_path / "m.vae", inside("sample_shape", value=shape))
    monkeypatch.setattr(Choices, "build", lambda *args: pytest.fail("began to build it"))
    with pytest.raises(ModelFileError, match="its sample_shape does not fit the rest"):
        VAEDetector.load(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["vae.encoder.head.linear.weight", "held_out.elbo", "noise", "vae.scaling.scale"])
def test_no_tensor_holds_anything_but_numbers(saved: Path, tmp_path: Path, name: str, value: float) -> None:
    path = rewritten(saved, tmp_path / "m.vae", lambda config, tensors: tensors[name].view(-1)[-1:].fill_(value))
    with pytest.raises(ModelFileError, match="holds NaN or infinity"):
        VAEDetector.load(path)


@pytest.mark.parametrize("value", [0.0, -1.0])
@pytest.mark.parametrize("name", ["vae.scaling.scale", "vae.likelihood.variance", "vae.normals.component_std"])
def test_no_spread_is_zero(saved: Path, tmp_path: Path, name: str, value: float) -> None:
    path = rewritten(saved, tmp_path / "m.vae", lambda config, tensors: tensors[name].fill_(value))
    with pytest.raises(ModelFileError, match="must be above 0"):
        VAEDetector.load(path)


def weighted(change):
    """A model whose held-out normals are weighted, then changed by ``change(weights, calibration, tensors)``."""

    def weigh(config, tensors):
        weights = torch.linspace(0.5, 1.5, len(tensors["held_out.elbo"]), dtype=torch.float64)
        tensors["weights.elbo"] = weights
        calibration = config["calibrations"]["elbo"]
        effective = float(weights.sum() ** 2 / weights.square().sum())
        calibration |= {"method": "weighted", "n_effective": effective, "n_target": 50, "target_auc": 0.7}
        change(weights, calibration, tensors)

    return weigh


WEIGHTS = {
    "none": (lambda weights, calibration, tensors: tensors.pop("weights.elbo"), "its weights.elbo is None, expected"),
    "too many": (
        lambda weights, calibration, tensors: tensors.update({"weights.elbo": torch.cat([weights, weights])}),
        "its weights.elbo is .* expected",
    ),
    "of another type": (
        lambda weights, calibration, tensors: tensors.update({"weights.elbo": weights.float()}),
        "its weights.elbo is .*F32.* expected",
    ),
    "of no target": (
        lambda weights, calibration, tensors: calibration.update(n_effective=None, n_target=None, target_auc=None),
        "its weights.elbo is .* expected None",
    ),
    "NaN": (lambda weights, calibration, tensors: weights[:1].fill_(torch.nan), "holds NaN or infinity"),
    "zero": (lambda weights, calibration, tensors: weights[:1].fill_(0), "must be positive and of mean 1"),
    "negative": (lambda weights, calibration, tensors: weights[:1].fill_(-1), "must be positive and of mean 1"),
    "huge": (lambda weights, calibration, tensors: weights.fill_(1e308), "must be positive and of mean 1"),
    "of mean 2": (lambda weights, calibration, tensors: weights.mul_(2), "must be positive and of mean 1"),
    "of another size": (
        lambda weights, calibration, tensors: calibration.update(n_effective=7.0),
        "n_effective is not that of its weights",
    ),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_are_such_as_a_target_gives(saved: Path, tmp_path: Path, name: str) -> None:
    VAEDetector.load(rewritten(saved, tmp_path / "right.vae", weighted(lambda *given: None)))
    change, message = WEIGHTS[name]
    path = rewritten(saved, tmp_path / "m.vae", weighted(change))
    with pytest.raises(ModelFileError, match=message):
        VAEDetector.load(path)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir])
@pytest.mark.parametrize("read", [VAEDetector.load, read_description])
def test_a_model_is_a_regular_file(tmp_path: Path, make, read) -> None:
    make(tmp_path / "m.vae")
    with pytest.raises(OSError, match="not a regular file"):
        read(tmp_path / "m.vae")


def test_sparse_and_long_files_take_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "m.vae"
    for start in (struct.pack("<Q", 1 << 25) + b"{", struct.pack("<Q", 2) + b"{}"):
        with path.open("wb") as file:
            file.write(start)
            file.truncate(5 << 30)
        with pytest.raises(ModelFileError, match="bytes, .* of them header: at most 4,294,967,296"):
            VAEDetector.load(path)


def test_inspect_loads_no_weights_and_no_numpy_and_compares_the_hash(saved: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from vae_anomaly.storage.model_schema import read_description\n"
        "read_description(Path(sys.argv[1]))\n"
        "assert not {'torch', 'numpy', 'safetensors'} & set(sys.modules)"
    )
    python(code, saved)
    blob = bytearray(saved.read_bytes())
    blob[-1] ^= 1
    (tmp_path / "m.vae").write_bytes(blob)
    with pytest.raises(ModelFileError, match="was damaged or altered: SHA-256"):
        read_description(tmp_path / "m.vae")


@pytest.fixture(scope="module")
def saved_with_columns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    day = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, 40), unit="D")
    frame = pd.DataFrame({"x": rng.normal(size=40), "c": rng.choice(["a", "b"], 40), "day": day, "k": "one"})
    path = tmp_path_factory.mktemp("model") / "columns.vae"
    VAEDetector(epochs=1).fit(frame.assign(id=[f"row {i}" for i in range(40)])).save(path)
    return path


def of_column(place: int, field: str, value: object):
    return lambda config, tensors: config["columns"][place].__setitem__(field, value)


ODD_VALUES = [
    None,
    1,
    2.5,
    True,
    "text",
    [],
    [[]],
    [{}],
    ["a", "a"],
    [1],
    {},
    {"a": 1},
    "%Q",
    ["day", "hour"],
    ["a"] * 2,
]


@pytest.mark.parametrize("value", ODD_VALUES, ids=repr)
@pytest.mark.parametrize("place", range(5))
def test_a_column_is_what_a_fit_can_write(saved_with_columns: Path, tmp_path: Path, place: int, value: object) -> None:
    known = read_description(saved_with_columns)["columns"]
    for field, before in known[place].items():
        path = rewritten(saved_with_columns, tmp_path / "m.vae", of_column(place, field, value))
        is_text = field in ("name", "why", "note") and isinstance(value, str)
        may_be = is_text or (field == "marks_gaps" and isinstance(value, bool))
        if value == before or may_be or (before and field == "levels" and value == ["day", "hour"]):
            continue
        with pytest.raises(ModelFileError, match="does not describe a model") as refusal:
            FittedModel.load(path)
        assert len(str(refusal.value).splitlines()) == 1
        with contextlib.suppress(ModelFileError):  # what fits but the tensors has no other error
            read_description(path)


COLUMNS_OF_FILES = {
    "no list": inside("columns", value={"x": "number"}),
    "empty": inside("columns", value=[]),
    "too few": lambda config, tensors: config["columns"].pop(0),
    "twice": lambda config, tensors: config["columns"].append(config["columns"][0]),
    "one name": of_column(0, "name", "c"),
    "all carried": lambda config, tensors: [
        column.update(kind="identifier", levels=[], cycles=[], form="") for column in config["columns"]
    ],
    "no field": lambda config, tensors: config["columns"][0].pop("why"),
    "a field more": of_column(0, "more", 1),
    "levels of a number": of_column(0, "levels", ["a"]),
    "more levels": of_column(1, "levels", [str(i) for i in range(900)]),
    "too many levels": of_column(1, "levels", [str(i) for i in range(1001)]),
    "another kind": of_column(2, "kind", "category"),
    "gaps that count": of_column(0, "marks_gaps", True),
    "none": inside("columns", value=None),
    "likelihood": inside("parameters", "likelihood", value="bernoulli"),
}


@pytest.mark.parametrize("name", COLUMNS_OF_FILES)
def test_columns_are_checked_before_a_tensor_is_read(saved_with_columns, tmp_path, monkeypatch, name: str) -> None:
    path = rewritten(saved_with_columns, tmp_path / "m.vae", COLUMNS_OF_FILES[name])
    monkeypatch.setattr("safetensors.torch.load", lambda blob: pytest.fail("read the tensors"))
    with pytest.raises(ModelFileError, match="does not describe a model") as refusal:
        FittedModel.load(path)
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("value", [-1.0, 3.0, 1e9, 0.5])
def test_levels_have_places_that_there_are(saved_with_columns: Path, tmp_path: Path, value: float) -> None:
    path = rewritten(
        saved_with_columns, tmp_path / "m.vae", lambda config, tensors: tensors["vae.scaling.level_units"].fill_(value)
    )
    with pytest.raises(ModelFileError, match="has a level of 'c' in a place that there is not"):
        FittedModel.load(path)
