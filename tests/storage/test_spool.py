"""From files and batches to rows on disk: all of them arrive, but nothing that a model could not be given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vae_anomaly.errors import DataError
from vae_anomaly.storage import rows as module
from vae_anomaly.storage import spool as spooling
from vae_anomaly.storage.checks import has_channels_first
from vae_anomaly.storage.rows import TYPES
from vae_anomaly.storage.spool import open_rows, spool

PATCHED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
SHAPES = hnp.array_shapes(min_dims=2, max_dims=4, max_side=6).filter(lambda shape: not has_channels_first(shape))
ARRAYS = st.sampled_from(TYPES).flatmap(
    lambda dtype: hnp.arrays(
        dtype, SHAPES, elements={"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else None
    )
)


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_a_file_that_shrinks_is_reported(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", np.ones((100, 4)))
    with open_rows(tmp_path / "X.npy") as rows:
        (tmp_path / "X.npy").write_bytes((tmp_path / "X.npy").read_bytes()[:-1])
        np.testing.assert_array_equal(rows[:99], np.ones((99, 4)))
        with pytest.raises(DataError, match="X.npy: was cut short while it was read"):
            rows[99:]


@pytest.mark.parametrize("dtype", ["f8", "f4", "u1", "i2", "f2", "?", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(9, 4), (9, 4, 3), (9, 4, 3, 2)])
def test_any_array_file_can_be_opened(tmp_path: Path, dtype: str, order: str, shape: tuple[int, ...]) -> None:
    X = np.random.default_rng(0).integers(0, 2, shape).astype(dtype, order=order)  # type: ignore[call-overload]
    np.save(tmp_path / "X.npy", X)
    with open_rows(tmp_path / "X.npy") as rows:
        in_place = getattr(rows.file, "name", None) == str(tmp_path / "X.npy")
        assert in_place == (X.dtype in TYPES and order == "C")
        assert rows.dtype == (X.dtype if X.dtype in TYPES else np.float64)
        np.testing.assert_array_equal(rows[:], X)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros(4), "X.npy: needs rows (N, D) or images"),
        (np.float64(3), "X.npy: needs rows (N, D) or images (N, H, W) or (N, H, W, C), got an array of shape ()"),
        (np.zeros((0, 4)), "X.npy: holds no samples"),
        (np.zeros((4, 0)), "X.npy: holds no samples"),
        (np.array([["a"]]), "X.npy: needs real numbers"),
        (np.zeros((2, 2), dtype=complex), "X.npy: needs real numbers"),
    ],
)
def test_what_are_no_samples_is_refused(tmp_path: Path, X: np.ndarray, message: str) -> None:
    np.save(tmp_path / "X.npy", X)
    with pytest.raises(DataError) as refusal, open_rows(tmp_path / "X.npy"):
        pass
    assert message in str(refusal.value)


@given(
    place=st.tuples(st.integers(0, 29), st.integers(0, 3)),
    value=st.sampled_from([np.nan, np.inf, -np.inf]),
    dtype=st.sampled_from(["f8", "f4", "f2"]),
)
@PATCHED
def test_what_is_not_finite_is_named_by_row_and_column(
    tmp_path: Path, place: tuple[int, int], value: float, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", 7 * 32)
    X = np.zeros((30, 4), dtype=dtype)
    X[place] = value
    np.save(tmp_path / "X.npy", X)
    with (
        pytest.raises(DataError, match=f"X.npy: row {place[0]}, column {place[1]} is {value}: fill"),
        open_rows(tmp_path / "X.npy"),
    ):
        pass
    with (
        pytest.raises(DataError, match=f"here: row {place[0]}, column {place[1]} is {value}"),
        spool(np.array_split(X, 7), "here"),
    ):
        pass


@given(X=ARRAYS, cuts=st.lists(st.integers(0, 6), max_size=4), n_bytes=st.sampled_from([1, 100, 1 << 20]))
@PATCHED
def test_batches_of_any_lengths_are_the_same_rows(
    X: np.ndarray, cuts: list[int], n_bytes: int, own_temporary_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spooling, "SPOOL_BYTES", n_bytes)
    batches = np.split(X, sorted(min(cut, len(X)) for cut in cuts))
    with spool((batch for batch in batches), "here") as rows:
        assert (rows.shape, rows.dtype) == (X.shape, X.dtype)
        np.testing.assert_array_equal(rows[:], X)
        assert list(own_temporary_folder.iterdir()) == []  # it has no name: even SIGKILL leaves nothing


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [(["f4", "f4"], "f4"), (["f4", "u1"], "f4"), (["u1", "u1"], "u1"), (["i8", "f4"], "f8"), (["f8", "i8"], "f8")],
)
def test_the_first_batch_decides_the_type(dtypes: list[str], expected: str) -> None:
    with spool([np.full((2, 3), i, dtype) for i, dtype in enumerate(dtypes)], "here") as rows:
        assert rows.dtype == np.dtype(expected)
        np.testing.assert_array_equal(rows[:][:, 0], [0, 0, 1, 1])


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "here: holds no samples"),
        ([np.zeros((0, 3))], "here: holds no samples"),
        (
            [np.zeros((2, 3)), np.zeros((2, 4))],
            r"the batch that begins at row 2 has samples of shape \(4,\), those before",
        ),
        (
            [np.zeros((2, 3), np.float32), np.zeros((2, 3))],
            "at row 2 is of type float64, which float32, that of the first",
        ),
        ([np.zeros((2, 3)), np.zeros(3)], "needs rows"),
        ([np.zeros((2, 3)), [["a", "b", "c"]]], "needs real numbers"),
        ([pd.DataFrame({"a": [1.0]}), pd.DataFrame({"b": [1.0]})], "other column names than those before"),
    ],
)
def test_batches_that_do_not_fit_are_refused(batches: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message), spool(batches, "here"):
        pass


def test_column_names_are_kept_and_compared(own_temporary_folder: Path) -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    with spool([frame, frame], "here") as rows:
        assert rows.feature_names == ("a", "b")
    frame.loc[1, "b"] = np.nan
    with pytest.raises(DataError, match="here: row 3, column b is nan"), spool([frame[:1], frame[:1], frame], "here"):
        pass


def test_a_full_disk_is_reported_with_its_place(own_temporary_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.SpooledTemporaryFile.write", full)
    with (
        pytest.raises(OSError, match="No space left on device while copying here there: set TMPDIR") as failure,
        spool([np.ones((2, 2))], "here"),
    ):
        pass
    assert failure.value.filename == str(own_temporary_folder)


def test_the_file_is_closed_and_gone_when_reading_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    files = []
    opened = spooling.tempfile.SpooledTemporaryFile

    def remembered(*arguments: Any) -> Any:
        files.append(opened(*arguments))
        return files[-1]

    def batches() -> Iterator[np.ndarray]:
        yield np.ones((2, 2))
        raise KeyboardInterrupt

    monkeypatch.setattr("tempfile.SpooledTemporaryFile", remembered)
    monkeypatch.setattr(spooling, "SPOOL_BYTES", 1)
    with pytest.raises(KeyboardInterrupt), spool(batches(), "here"):
        pass
    assert [file.closed for file in files] == [True]
