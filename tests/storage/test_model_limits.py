"""Model files that hold much: what a fit cannot write is refused, and what it can is scored in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from helpers import fails, python, table
from vae_anomaly import FittedModel, VAEDetector
from vae_anomaly.errors import DataError, ModelFileError
from vae_anomaly.fitting import fit
from vae_anomaly.model.priors.exemplars import most_exemplars
from vae_anomaly.model.priors.mixture import MAX_COMPONENTS
from vae_anomaly.parameters import MAX_DRAWS
from vae_anomaly.scoring.normal_statistics import BANK_ROWS
from vae_anomaly.storage import model_file

MOST_BYTES = 1_500 << 20  # beside the interpreter and the loaded model
MODELS = {
    "exemplars": {},
    "mixture": {"prior": "mixture"},
    "images": {"image_shape": (3, 2)},
}


@pytest.fixture(scope="module", params=MODELS)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.vae"
    VAEDetector(epochs=1, device="cpu", **MODELS[request.param]).fit(table(200).astype("float32")).save(path)
    return path


def rewritten(saved: Path, path: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], None]) -> Path:
    """Another configuration or other tensors, with a hash that fits them."""
    tensors, config, _ = model_file.read(saved)
    change(config, tensors)
    model_file.write(path, tensors, config)
    return path


def repeated(tensor: Tensor, n: int, axis: int = 0) -> Tensor:
    """The tensor with its first slice along an axis, n times."""
    shape = [n if i == axis else side for i, side in enumerate(tensor.shape)]
    return tensor.narrow(axis, 0, 1).expand(shape).contiguous()


def enlargements(tensors: dict[str, Tensor]) -> Iterator[tuple[str, int]]:
    """Every axis of every tensor but the held-out scores, of which a calibration may keep any number."""
    for name, tensor in tensors.items():
        if not name.startswith("held_out."):
            yield from ((name, axis) for axis in range(tensor.ndim))


def test_no_tensor_is_longer_than_a_fit_makes_it(saved: Path, tmp_path: Path) -> None:
    cases = list(enlargements(model_file.read(saved).tensors))
    assert len(cases) > 30
    for name, axis in cases:

        def enlarge(config: dict[str, Any], tensors: dict[str, Tensor], name: str = name, axis: int = axis) -> None:
            tensors[name] = repeated(tensors[name], 6_000, axis)

        path = rewritten(saved, tmp_path / "m.vae", enlarge)
        with pytest.raises(ModelFileError, match="does not describe a model"):
            FittedModel.load(path)


def test_neither_are_those_that_share_a_size(saved: Path, tmp_path: Path) -> None:
    names = [name for name in model_file.read(saved).tensors if name.startswith("vae.prior.") and "sigma" not in name]
    assert names

    def enlarge(config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        tensors.update({name: repeated(tensors[name], 6_000) for name in names if tensors[name].ndim})

    path = rewritten(saved, tmp_path / "m.vae", enlarge)
    np.save(tmp_path / "rows.npy", table(10))
    for why in (
        fails(1, "score", tmp_path / "rows.npy", "--model", path),
        fails(1, "report", path, tmp_path / "rows.npy"),
    ):
        assert "has at most" in why
        assert "got 6,000" in why


def test_a_million_draws_are_refused_everywhere(saved: Path, tmp_path: Path) -> None:
    def draw(config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        config["parameters"]["n_draws"] = MAX_DRAWS + 1
        tensors["noise"] = repeated(tensors["noise"], MAX_DRAWS + 1)

    path = rewritten(saved, tmp_path / "m.vae", draw)
    assert "n_draws must be an int from 1 to 1,000, got 1001" in fails(1, "inspect", path)
    with pytest.raises(ModelFileError, match="n_draws must be an int from 1 to 1,000, got 1001"):
        FittedModel.load(path)
    with pytest.raises(ValueError, match="n_draws must be an int from 1 to 1,000, got 1001"):
        VAEDetector(n_draws=MAX_DRAWS + 1).fit(table())


def largest(config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """As much of everything as a fit could write; of draws, only where each is quick."""
    n_draws = 100 if "vae.prior.means" in tensors else MAX_DRAWS
    config["parameters"]["n_draws"] = n_draws
    tensors["noise"] = repeated(tensors["noise"], n_draws)
    n_columns = len(tensors["vae.normals.path_mean"])
    tensors["vae.normals.bank"] = repeated(tensors["vae.normals.bank"], BANK_ROWS)
    tensors["vae.normals.path_whitening"] = repeated(tensors["vae.normals.path_whitening"], n_columns)
    if "vae.prior.means" in tensors:
        for name in ("means", "whitening", "log_weights"):
            tensors[f"vae.prior.{name}"] = repeated(tensors[f"vae.prior.{name}"], MAX_COMPONENTS)
        tensors["vae.prior.log_weights"].fill_(-math.log(MAX_COMPONENTS))
    else:
        for name in ("latents", "decoded"):
            tensors[f"vae.prior.{name}"] = repeated(tensors[f"vae.prior.{name}"], most_exemplars(6))


@pytest.mark.parametrize("saved", ["exemplars", "mixture"], indirect=True)
def test_ten_rows_take_bounded_memory_with_the_largest_model(saved: Path, tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="limits of memory are those of Unix")
    path = rewritten(saved, tmp_path / "m.vae", largest)
    np.save(tmp_path / "rows.npy", table(10))
    code = (
        "import resource, sys, numpy as np, torch\n"
        "from vae_anomaly import FittedModel\n"
        "from vae_anomaly.scoring import regret\n"
        "torch.set_num_threads(1); regret.STEPS = 1  # each holds as much as the next\n"
        "model = FittedModel.load(sys.argv[1], device='cpu'); rows = model.rows(np.load(sys.argv[2]))\n"
        "loaded = int(open('/proc/self/statm').read().split()[5]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (loaded + int(sys.argv[3]),) * 2)\n"
        "for name in model.scores: assert np.isfinite(model.score_samples(rows, name)).all(), name\n"
        "assert np.isfinite(model.explain(rows).excess).all()"
    )
    python(code, path, tmp_path / "rows.npy", MOST_BYTES)


def test_what_could_not_be_read_again_is_not_written(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors, config, _ = model_file.read(saved)
    monkeypatch.setattr(model_file, "MAX_HEADER_BYTES", 2_000)
    with pytest.raises(ModelFileError, match="of them names and history: at most .* could be read again"):
        model_file.write(tmp_path / "m.vae", tensors, config)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "value"), [("LARGEST", 10_000), ("MAX_FEATURES", 5)])
def test_a_fit_whose_model_no_file_can_hold_is_refused_before_it_trains(monkeypatch, name: str, value: int) -> None:
    monkeypatch.setattr(fit, name, value)
    monkeypatch.setattr(fit, "train", lambda *args, **kwargs: pytest.fail("began to train"))
    with pytest.raises(DataError, match="a model of 6 features has weights of .* bytes: a model file may have"):
        VAEDetector(epochs=1).fit(table())
