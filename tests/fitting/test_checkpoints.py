"""Checkpoints: a fit that was cut anywhere ends in the bits of one that was not; and what it must not continue from."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import Make
from vae_anomaly import VAEDetector
from vae_anomaly.errors import CheckpointError, CheckpointWarning, ModelFileError
from vae_anomaly.fitting import batches as shuffling
from vae_anomaly.fitting import checkpoints, fit, thresholds
from vae_anomaly.fitting.checkpoints import Checkpoints, found
from vae_anomaly.fitting.preprocessing import standardize
from vae_anomaly.fitting.run import Recipe, Run
from vae_anomaly.fitting.training import train
from vae_anomaly.history import EpochRecord, best_epoch
from vae_anomaly.model.likelihoods.gaussian import Gaussian
from vae_anomaly.model.vae import VAE, reset_parameters
from vae_anomaly.registry import ARCHITECTURES
from vae_anomaly.storage import model_file
from vae_anomaly.storage.rows import RowsInMemory, RowsOnDisk

STEPS = 4 * 5
NEVER = 1e9


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the library may catch it."""


class EachFew(Checkpoints):
    """Due whenever so many steps have passed, however long they took."""

    def __init__(self, folder: Path, every: int) -> None:
        super().__init__(folder, NEVER, {}, resume=True)
        self.every, self.asked = every, 0

    def due(self) -> bool:
        self.asked += 1
        return self.asked % self.every == 0


def small_run(
    kept: Checkpoints | None, dtype: torch.dtype = torch.float64, *, stored: bool = False
) -> tuple[VAE, list[EpochRecord]]:
    """Five epochs of four steps, the second of which is the best; the patience spares the sixth."""
    rng = np.random.default_rng(0)
    X, X_validation = rng.normal(size=(30, 1)) + np.zeros(5), 1.5 * rng.normal(size=(9, 5))
    on_disk = RowsOnDisk(io.BytesIO(X.tobytes()), 0, X.shape, X.dtype, "file")
    rows = on_disk if stored else RowsInMemory(X)
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        encoder, decoder = ARCHITECTURES["mlp"]((5,), 2)
    vae = VAE(encoder.to_empty(device="cpu"), decoder.to_empty(device="cpu"), Gaussian(), standardize(rows))
    reset_parameters(vae, generator)
    recipe = Recipe(epochs=6, batch_size=8, learning_rate=3e-2, patience=3, input_noise=0.1)
    noise = torch.randn(2, 1, 2, generator=generator, dtype=dtype)
    return vae, train(vae.to(dtype), rows, X_validation, recipe, noise, generator, checkpoints=kept)


def same(a: tuple[VAE, list[EpochRecord]], b: tuple[VAE, list[EpochRecord]]) -> bool:
    ours, theirs = a[0].state_dict(), b[0].state_dict()
    return a[1] == b[1] and ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@contextlib.contextmanager
def cut(n: int, owner: Any = Run, name: str = "step", *, after: bool = False) -> Iterator[None]:
    """Die in the n-th call of a method, before or after it has done its work, if there is such a call."""
    calls, method = 0, getattr(owner, name)

    def dying(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == n and not after:
            raise Killed
        result = method(*args, **kwargs)
        if calls == n:
            raise Killed
        return result

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(owner, name, dying)
        yield


@given(
    kills=st.lists(st.tuples(st.integers(1, STEPS), st.sampled_from(["step", "end_epoch"]), st.booleans()), max_size=4),
    every=st.integers(1, 9),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    stored=st.booleans(),
)
@settings(max_examples=16)
def test_a_run_killed_anywhere_and_resumed_is_the_same_to_the_bit(
    kills: list[tuple[int, str, bool]], every: int, dtype: torch.dtype, stored: bool
) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffling, "CHUNK_ROWS", 3)  # windows of six rows: a batch of eight is of two or three
        patch.setattr(shuffling, "WINDOW_CHUNKS", 2)
        for n, method, after in kills:
            with cut(n, Run, method, after=after):
                small_run(EachFew(Path(folder), every), dtype, stored=stored)
        assert same(
            small_run(EachFew(Path(folder), every), dtype, stored=stored), small_run(None, dtype, stored=stored)
        )


@pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (os, "replace"), (model_file, "digest")])
@pytest.mark.parametrize("after", [False, True])
def test_a_run_killed_while_writing_is_the_same_to_the_bit(tmp_path: Path, owner: Any, name: str, after: bool) -> None:
    for n in (1, 2, 5):
        with cut(n, owner, name, after=after):
            small_run(EachFew(tmp_path, 2))
    assert same(small_run(EachFew(tmp_path, 2)), small_run(None))


def test_checkpoints_alone_change_no_bit_and_the_last_two_stay(tmp_path: Path) -> None:
    history = small_run(None)[1]
    assert (len(history), best_epoch(history)) == (5, 2)
    assert same(small_run(EachFew(tmp_path / "often", 1)), small_run(None))
    steps = [int(path.stem) for path in found(tmp_path / "often")]
    assert len(steps) == 2
    assert steps[0] == steps[1] + 1
    assert same(small_run(Checkpoints(tmp_path / "late", NEVER, {}, resume=False)), small_run(None))
    assert [int(path.stem) for path in found(tmp_path / "late")] == steps[:1]


@pytest.mark.parametrize("step", [1, 4, 5, 11])
def test_an_interrupt_is_passed_on_once_the_step_is_done_and_written(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, taken, method = small_run(None), [], Run.step

    def interrupted(run: Run) -> None:
        if len(taken) + 1 == step:
            os.kill(os.getpid(), signal.SIGINT)
        method(run)
        taken.append(run.position.taken)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            small_run(Checkpoints(tmp_path, NEVER, {}, resume=False))
    (path,) = found(tmp_path)
    assert step <= int(path.stem) == taken[-1] < STEPS
    assert same(small_run(Checkpoints(tmp_path, NEVER, {}, resume=True)), whole)


@pytest.fixture(scope="module")
def halfway(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two checkpoints of a run that was killed, the newest first."""
    folder = tmp_path_factory.mktemp("halfway")
    with cut(11):
        small_run(EachFew(folder, 1))
    newest, before = found(folder)
    return newest, before


@given(position=st.integers(0, 10**9), flip=st.integers(0, 255))
@settings(max_examples=30)
def test_a_damaged_newest_gives_way_to_the_one_before(halfway: tuple[Path, Path], position: int, flip: int) -> None:
    newest, before = halfway
    blob = bytearray(newest.read_bytes())
    position %= len(blob)
    blob[position] ^= flip
    with TemporaryDirectory() as name:
        damaged, whole = (Path(name) / path.name for path in halfway)
        damaged.write_bytes(blob if flip else blob[:position])
        whole.write_bytes(before.read_bytes())
        kept = Checkpoints(Path(name), NEVER, {}, resume=True)
        with pytest.warns(CheckpointWarning, match=f"going on from the one before, {before.name}"):
            state = kept.latest()
        assert state is not None
        assert state[1]["taken"] == int(before.stem)
        whole.unlink()
        with pytest.raises(CheckpointError, match="and no other is whole: to start over, empty"):
            kept.latest()


def test_after_a_damaged_one_the_bits_are_the_same_and_it_is_gone(halfway: tuple[Path, Path], tmp_path: Path) -> None:
    newest, before = halfway
    (tmp_path / newest.name).write_bytes(newest.read_bytes()[:-1])
    (tmp_path / before.name).write_bytes(before.read_bytes())
    with pytest.warns(CheckpointWarning), cut(1):
        small_run(EachFew(tmp_path, 1))
    with pytest.warns(CheckpointWarning):
        assert same(small_run(Checkpoints(tmp_path, NEVER, {}, resume=True)), small_run(None))
    assert newest.name not in {path.name for path in found(tmp_path)}


def test_a_full_disk_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written, fsync = [], os.fsync

    def full(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) > 3:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left on device"):
            small_run(EachFew(tmp_path, 1))
    assert [path.name for path in sorted(tmp_path.iterdir())] == [path.name for path in reversed(found(tmp_path))]
    assert same(small_run(EachFew(tmp_path, 1)), small_run(None))


def fitted(X: np.ndarray, **parameters: Any) -> VAEDetector:
    return VAEDetector(**{"epochs": 2, "checkpoint_interval": 0} | parameters).fit(X)


def killed(X: np.ndarray, folder: Path, owner: Any = Run, name: str = "step", n: int = 3, **parameters: Any) -> None:
    with cut(n, owner, name):
        fitted(X, checkpoint_dir=folder, **parameters)
    assert found(folder)


@pytest.mark.parametrize(
    ("parameters", "owner", "name", "n"),
    [
        ({}, Run, "step", 2),
        ({"architecture": "conv"}, fit, "fit_after_training", 1),
        ({"architecture": "article", "contamination": 0.1}, thresholds, "calibrate", 3),
        ({"likelihood": "bernoulli"}, Run, "end_epoch", 2),
        ({"architecture": "patches"}, Run, "step", 2),
    ],
)
def test_a_fit_killed_anywhere_and_resumed_saves_the_same_file(
    make_images: Make, tmp_path: Path, parameters: dict[str, Any], owner: Any, name: str, n: int
) -> None:
    X = make_images(150)
    fitted(X, **parameters).save(tmp_path / "whole.vae")
    killed(X, tmp_path / "kept", owner, name, n, **parameters)
    (tmp_path / "kept" / ".000000000001.checkpoint.12345678.part").touch()
    again = fitted(X, checkpoint_dir=str(tmp_path / "kept"), resume=True, **parameters)
    again.save(tmp_path / "resumed.vae")
    assert (tmp_path / "resumed.vae").read_bytes() == (tmp_path / "whole.vae").read_bytes()
    assert list((tmp_path / "kept").iterdir()) == []


def mixed_table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"c": rng.choice(list("abc"), 150), "flag": rng.random(150) < 0.3, "x": rng.normal(size=150)})
    frame.loc[::20, "x"] = None
    return frame


def test_a_fit_to_mixed_columns_killed_and_resumed_saves_the_same_file(tmp_path: Path) -> None:
    X = mixed_table()
    fitted(X).save(tmp_path / "whole.vae")
    killed(X, tmp_path / "kept", n=2)
    with pytest.raises(CheckpointError, match="belongs to another run, which differs in columns"):
        fitted(X.astype({"flag": float}), checkpoint_dir=tmp_path / "kept", resume=True)
    fitted(X, checkpoint_dir=tmp_path / "kept", resume=True).save(tmp_path / "resumed.vae")
    assert (tmp_path / "resumed.vae").read_bytes() == (tmp_path / "whole.vae").read_bytes()


@pytest.mark.parametrize(
    ("owner", "name", "n"), [(Run, "step", 30), (Run, "end_epoch", 1), (fit, "fit_after_training", 1)]
)
def test_a_fit_from_disk_killed_and_resumed_saves_the_same_file(
    make_table: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, n: int
) -> None:
    monkeypatch.setattr("vae_anomaly.storage.rows.LOADED_BYTES", 0)
    monkeypatch.setattr(shuffling, "CHUNK_ROWS", 2)
    np.save(tmp_path / "X.npy", make_table(300))

    def fit(**parameters: Any) -> VAEDetector:
        given = {"epochs": 2, "batch_size": 8, "checkpoint_interval": 0} | parameters
        return VAEDetector(**given).fit_file(tmp_path / "X.npy")

    fit().save(tmp_path / "whole.vae")
    with cut(n, owner, name):
        fit(checkpoint_dir=tmp_path / "kept")
    assert found(tmp_path / "kept")
    with pytest.raises(CheckpointError, match=r"differs in rows \('on disk' there, None here\)"):
        VAEDetector(epochs=2, batch_size=8, checkpoint_dir=tmp_path / "kept", resume=True).fit(make_table(300))
    fit(checkpoint_dir=tmp_path / "kept", resume=True).save(tmp_path / "resumed.vae")
    assert (tmp_path / "resumed.vae").read_bytes() == (tmp_path / "whole.vae").read_bytes()


def test_the_checkpoints_stay_until_the_model_is_saved(make_table: Make, tmp_path: Path) -> None:
    parameters = VAEDetector(epochs=1, checkpoint_dir=tmp_path).get_params()
    first = fit.fit_model(RowsInMemory(make_table()), parameters)
    assert len(found(tmp_path)) == 1
    assert VAEDetector(**parameters | {"resume": True}).fit(make_table()).history_ == first.history
    assert found(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent_dim": 1}, r"differs in latent_dim (None there, 1 here): make these the same"),
        ({"epochs": 3, "input_noise": 0.5}, "differs in epochs (2 there, 3 here), input_noise (None there, 0.5 here)"),
        ({"random_state": 1}, "differs in random_state (0 there, 1 here)"),
        ({"score_name": "kl"}, "differs in score ('elbo' there, 'kl' here)"),
    ],
)
def test_other_parameters_are_refused(make_table: Make, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    killed(make_table(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(CheckpointError, match=re.escape(message)):
        fitted(make_table(), checkpoint_dir=tmp_path, resume=True, **change)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_other_data_and_versions_are_refused(make_table: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X = make_table()
    killed(X, tmp_path)
    other = X.copy()
    other[-1, -1] = np.nextafter(other[-1, -1], 1)
    for data in (other, X[::-1], X.astype(np.float32)):
        with pytest.raises(CheckpointError, match="differs in data: make"):
            fitted(data, checkpoint_dir=tmp_path, resume=True, precision="full")  # what float64 rows are fitted in
    with pytest.raises(CheckpointError, match=r"shape of a sample \(\[6\] there, \[2, 3\] here\)"):
        fitted(X.reshape(-1, 2, 3), checkpoint_dir=tmp_path, resume=True)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "FORMAT_VERSION", 9)
        with pytest.raises(CheckpointError, match=r"differs in checkpoint format \(2 there, 9 here\)"):
            fitted(X, checkpoint_dir=tmp_path, resume=True)
    versions = model_file.versions() | {"torch": "1.0"}
    monkeypatch.setattr(model_file, "versions", lambda: versions)
    with pytest.raises(CheckpointError, match=r"differs in torch \('.*' there, '1.0' here\)"):
        fitted(X, checkpoint_dir=tmp_path, resume=True)


def test_nothing_is_overwritten_unasked(make_table: Make, tmp_path: Path) -> None:
    killed(make_table(), tmp_path)
    names = sorted(tmp_path.iterdir())
    with pytest.raises(CheckpointError, match="holds the checkpoint of an unfinished fit: resume it"):
        fitted(make_table(), checkpoint_dir=tmp_path)
    assert sorted(tmp_path.iterdir()) == names


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"resume": True}, "resume=True needs checkpoint_dir"),
        ({"checkpoint_dir": "kept", "random_state": None}, "checkpoint_dir needs a random_state"),
        ({"checkpoint_dir": 3}, "checkpoint_dir must be the name of a folder, or None, got 3"),
        ({"checkpoint_interval": -1}, "checkpoint_interval must be a number of at least 0, got -1"),
        ({"resume": "yes"}, "resume must be True or False, got 'yes'"),
    ],
)
def test_bad_parameters_are_refused(make_table: Make, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VAEDetector(**parameters).fit(make_table(10))


def test_a_random_state_is_known_by_the_seed_it_gives(make_table: Make, tmp_path: Path) -> None:
    whole = fitted(make_table(), random_state=np.random.RandomState(5))
    killed(make_table(), tmp_path, random_state=np.random.RandomState(5))
    with pytest.raises(CheckpointError, match="random_state"):
        fitted(make_table(), checkpoint_dir=tmp_path, resume=True, random_state=np.random.RandomState(6))
    again = fitted(make_table(), checkpoint_dir=tmp_path, resume=True, random_state=np.random.RandomState(5))
    assert again.history_ == whole.history_


def test_a_model_holds_no_word_of_checkpoints_and_takes_none(make_table: Make, tmp_path: Path) -> None:
    plain, kept = tmp_path / "plain.vae", tmp_path / "kept.vae"
    fitted(make_table()).save(plain)
    fitted(make_table(), checkpoint_dir=tmp_path / "kept", checkpoint_interval=1, resume=True).save(kept)
    assert plain.read_bytes() == kept.read_bytes()
    tensors, config, _ = model_file.read(plain)
    config["parameters"] |= {"checkpoint_dir": str(tmp_path), "resume": True}
    model_file.write(plain, tensors, config)
    assert VAEDetector.load(plain).checkpoint_dir is None
    assert VAEDetector.load(plain).resume is False


def test_a_model_and_a_checkpoint_are_never_taken_for_each_other(halfway: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="not a model that vae-anomaly wrote"):
        VAEDetector.load(halfway[0])
    model_file.write(tmp_path / "000000000001.checkpoint", {"a": torch.zeros(2)}, {})
    with pytest.raises(CheckpointError, match="not a checkpoint that vae-anomaly wrote, and no other is whole"):
        Checkpoints(tmp_path, NEVER, {}, resume=True).latest()


FOREIGN = {
    "gold.checkpoint": b"gold",
    "zz.checkpoint": b"",
    "12.checkpoint": b"\x02\0\0\0\0\0\0\0{}",
    ".gold.checkpoint.12345678.part": b"gold",
    "1000000000001.checkpoint": b"thirteen digits",
}


def test_a_fit_removes_its_own_checkpoints_alone(make_table: Make, tmp_path: Path, halfway: tuple[Path, Path]) -> None:
    X, foreign = make_table(60), FOREIGN | {"000000000000.checkpoint": halfway[0].read_bytes()}
    killed(X, tmp_path, n=2)
    for name, content in foreign.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / ".000000000001.checkpoint.12345678.part").write_bytes(b"half")
    fitted(X, checkpoint_dir=tmp_path, resume=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == foreign


def test_a_second_fit_in_one_folder_is_refused_in_one_sentence(
    make_table: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "LOCK_SECONDS", 0.1)
    X = make_table(60)
    with checkpoints.one_fit_in(tmp_path):
        for resume in (True, False):
            with pytest.raises(CheckpointError, match="another fit keeps its checkpoints in .* now"):
                fitted(X, checkpoint_dir=tmp_path, resume=resume)
    fitted(X, checkpoint_dir=tmp_path)
    with pytest.raises(RuntimeError, match="in it"), checkpoints.one_fit_in(tmp_path):  # a failed fit frees it
        raise RuntimeError("in it")
    fitted(X, checkpoint_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_lock_goes_with_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "LOCK_SECONDS", 0.1)
    code = (
        "import os, sys\n"
        "from vae_anomaly.storage.locks import try_lock\n"
        "assert try_lock(os.open(sys.argv[1], os.O_RDONLY))\n"
        "print('locked', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-P", "-c", code, str(tmp_path)], **pipes) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(CheckpointError, match="another fit"), checkpoints.one_fit_in(tmp_path):
            pass
        holder.kill()
        holder.wait()
    with checkpoints.one_fit_in(tmp_path):
        pass
