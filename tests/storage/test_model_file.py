"""Model files: the same bits back, and one clear error for anything else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from vae_anomaly import VAEDetector
from vae_anomaly.errors import ModelFileError
from vae_anomaly.storage import model_file
from vae_anomaly.storage.strict_json import dumps


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, table_detector: VAEDetector) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.vae"
    table_detector.metadata_ = {"data": {"source": "here"}}
    table_detector.save(path)
    return path


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"architecture": "conv", "likelihood": "continuous_bernoulli"},
        {"architecture": "article", "contamination": 0.1},
        {"latent_dim": 3, "n_draws": 5, "random_state": np.random.RandomState(0), "image_shape": (9, 8)},
        {"latent_dim": np.int64(3), "learning_rate": np.float64(0.01), "preprocessing": "standardize"},
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_scores_come_back_to_the_bit(make_images, tmp_path: Path, parameters: dict, dtype: type) -> None:
    X = make_images(40).reshape(40, -1) if "image_shape" in parameters else make_images(40)
    X = X.astype(dtype)
    detector = VAEDetector(epochs=2, **parameters).fit(X)
    detector.save(tmp_path / "m.vae")
    loaded = VAEDetector.load(tmp_path / "m.vae")
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))
    np.testing.assert_array_equal(loaded.predict(X), detector.predict(X))
    np.testing.assert_array_equal(loaded.reconstruct(X), detector.reconstruct(X))
    np.testing.assert_array_equal(loaded.calibration_scores_, detector.calibration_scores_)
    np.testing.assert_array_equal(loaded.sample(3, random_state=1), detector.sample(3, random_state=1))
    assert loaded.offset_ == detector.offset_
    assert loaded.history_ == detector.history_
    assert loaded.image_shape_ == detector.image_shape_
    assert loaded.n_features_in_ == detector.n_features_in_
    loaded.save(tmp_path / "again.vae")
    assert (tmp_path / "again.vae").read_bytes() == (tmp_path / "m.vae").read_bytes()
    if not isinstance(detector.random_state, np.random.RandomState):
        np.testing.assert_array_equal(loaded.fit(X).score_samples(X), detector.score_samples(X))


def test_feature_names_come_back(make_table, tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame(make_table(40), columns=list("abcdef"))
    VAEDetector(epochs=1).fit(frame).save(tmp_path / "m.vae")
    loaded = VAEDetector.load(tmp_path / "m.vae")
    assert loaded.feature_names_in_.tolist() == list("abcdef")
    with pytest.raises(ValueError, match="1 of the 6 columns .* are missing: 'a'"):
        loaded.predict(frame.rename(columns={"a": "z"}))


def test_parameters_changed_after_the_fit_are_not_what_is_saved(make_table, tmp_path: Path) -> None:
    X = make_table(40)
    detector = VAEDetector(epochs=1, latent_dim=2).fit(X)
    detector.set_params(latent_dim=5, architecture="article", n_draws=7, likelihood="bernoulli").save(
        tmp_path / "m.vae"
    )
    loaded = VAEDetector.load(tmp_path / "m.vae")
    assert loaded.latent_dim == 2
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))


def test_a_calibration_comes_back(make_table, tmp_path: Path) -> None:
    X = make_table(300)
    detector = VAEDetector(epochs=2, calibration_fraction=0.3).fit(X).calibrate(rate=0.2, delta=0.1)
    detector.save(tmp_path / "m.vae")
    loaded = VAEDetector.load(tmp_path / "m.vae")
    assert loaded.calibration_ == detector.calibration_
    np.testing.assert_array_equal(loaded.p_values(X), detector.p_values(X))
    np.testing.assert_array_equal(loaded.predict(X), detector.predict(X))


def test_the_same_fit_gives_the_same_file(make_table, tmp_path: Path) -> None:
    for name in ("a.vae", "b.vae"):
        VAEDetector(epochs=2).fit(make_table()).save(tmp_path / name)
    assert (tmp_path / "a.vae").read_bytes() == (tmp_path / "b.vae").read_bytes()


def test_configuration_is_readable_without_the_tensors(saved: Path) -> None:
    config = model_file.read_config(saved).config
    assert config["metadata"] == {"data": {"source": "here"}}
    assert VAEDetector.load(saved).metadata_ == config["metadata"]
    assert set(config["versions"]) == {"python", "vae-anomaly", "torch", "numpy", "scikit-learn"}


@given(position=st.integers(0, 10**9), flip=st.integers(1, 255))
@example(position=300, flip=1)
@settings(max_examples=150)
def test_any_altered_byte_is_noticed(saved: Path, tmp_path_factory: pytest.TempPathFactory, position: int, flip: int):
    blob = bytearray(saved.read_bytes())
    blob[position % len(blob)] ^= flip
    path = tmp_path_factory.getbasetemp() / "altered.vae"
    path.write_bytes(blob)
    with pytest.raises(ModelFileError):
        VAEDetector.load(path)


@given(length=st.integers(0, 10**9))
@settings(max_examples=60)
def test_any_truncation_is_noticed(saved: Path, tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    blob = saved.read_bytes()
    path = tmp_path_factory.getbasetemp() / "short.vae"
    path.write_bytes(blob[: length % len(blob)])
    with pytest.raises(ModelFileError):
        VAEDetector.load(path)


def rewrite(saved: Path, path: Path, change) -> Path:
    """A file with a changed configuration and a hash that fits it: what an attacker would write."""
    tensors, config, _ = model_file.read(saved)
    change(config, tensors)
    model_file.write(path, tensors, config)
    return path


def set_in(*keys, value):
    def change(config, tensors):
        for key in keys[:-1]:
            config = config[key]
        config[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        set_in("parameters", "latent_dim", value=10**9),
        set_in("parameters", "architecture", value="os.system"),
        set_in("parameters", "unknown", value=1),
        set_in("parameters", "n_draws", value=3),
        set_in("parameters", value=[]),
        set_in("sample_shape", value=[10**12]),
        set_in("sample_shape", value=["a"]),
        set_in("sample_shape", value=[-6]),
        lambda config, tensors: tensors.update({"vae.scaling.loc": torch.zeros(5, dtype=torch.float64)}),
        set_in("dtype", value="float16"),
        set_in("dtype", value="float32"),
        set_in("parameters", "latent_dim", value=5),
        set_in("calibrations", "elbo", value={"threshold": 0.0}),
        set_in("calibrations", "elbo", "threshold", value="high"),
        lambda config, tensors: config["calibrations"].pop("kl"),
        set_in("parameters", "score", value="best"),
        set_in("parameters", "prior", value="mixture"),
        set_in("feature_names", value=7),
        set_in("feature_names", value=["a"]),
        set_in("history", value=5),
        lambda config, tensors: config.pop("history"),
        lambda config, tensors: tensors.pop("noise"),
        lambda config, tensors: tensors.update({"vae.extra": torch.zeros(3, dtype=torch.float64)}),
        lambda config, tensors: tensors.update({"vae.encoder.head.linear.bias": torch.zeros(3, dtype=torch.float64)}),
        lambda config, tensors: tensors.update({"held_out.elbo": torch.zeros(3, 2)}),
        lambda config, tensors: tensors.pop("held_out.elbo"),
        lambda config, tensors: tensors.update({"vae.prior.latents": torch.zeros(3, 1, dtype=torch.float64)}),
        lambda config, tensors: tensors.pop("vae.prior.decoded"),
    ],
)
def test_a_wrong_description_is_refused(saved: Path, tmp_path: Path, change) -> None:
    path = rewrite(saved, tmp_path / "wrong.vae", change)
    with pytest.raises(ModelFileError, match="does not describe a model"):
        VAEDetector.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut short"),
        (b"\x80\x04\x95pickle", "not a model file"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00" + b"x" * 16, "header is not JSON"),
        (b"\x02\x00\x00\x00\x00\x00\x00\x00[]", "not a JSON object"),
        (b"\xff" * 8 + b"{}", "not a model file"),
        (save({"a": torch.zeros(2)}), "not a model that vae-anomaly wrote"),
        (save({"a": torch.zeros(2)}, {"vae_anomaly": "{"}), "damaged"),
        (save({"a": torch.zeros(2)}, {"vae_anomaly": "NaN"}), "damaged"),
        (save({"a": torch.zeros(2)}, {"vae_anomaly": '{"config": 1e999}'}), "damaged"),
        (save({"a": torch.zeros(2)}, {"vae_anomaly": "[" * 100_000}), "damaged"),
        (
            save({"a": torch.zeros(2)}, {"vae_anomaly": json.dumps({"format_version": 4, "sha256": "", "config": {}})}),
            "has format version 4, this vae-anomaly reads up to 3: upgrade",
        ),
        (
            save(
                {"a": torch.zeros(2)},
                {"vae_anomaly": dumps({"format_version": 3, "sha256": "", "config": {}})},
            ),
            "does not describe a model .* its fields calibrations, dtype",
        ),
    ],
)
def test_foreign_and_future_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "foreign.vae"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        VAEDetector.load(path)


def test_a_failed_write_leaves_the_old_file(saved: Path, tmp_path: Path, table_detector, monkeypatch) -> None:
    path = tmp_path / "model.vae"
    path.write_bytes(b"old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        table_detector.save(path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.vae"]
