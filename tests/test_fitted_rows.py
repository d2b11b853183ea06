"""What a model knows of the rows that it was fitted on: the same by every entrance, counted, bounded."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import Make
from odd_rows import make_frame
from vae_anomaly import FittedModel, VAEDetector, fitted_rows
from vae_anomaly.datasets import load_file
from vae_anomaly.errors import ModelFileError
from vae_anomaly.fitted_rows import FittedRows, digests_of
from vae_anomaly.storage import model_file
from vae_anomaly.storage.rows import RowsInMemory

DOUBLE, SINGLE = np.dtype(np.float64), np.dtype(np.float32)
pytestmark = pytest.mark.usefixtures("calibrated_for_one_score")


def fitted_on(*parts: np.ndarray, dtype: np.dtype = DOUBLE) -> FittedRows:
    return FittedRows.of([[part] for part in parts], dtype)


def numbered(*numbers: int) -> np.ndarray:
    """Rows of one number each."""
    return np.array(numbers, dtype=float)[:, None]


@given(st.lists(st.integers(0, 5), max_size=12), st.lists(st.integers(0, 5), max_size=30), st.integers(1, 7))
def test_equal_rows_are_counted_and_belong_to_each_part_as_often_as_they_were_in_it(
    training: list[int], given_rows: list[int], step: int
) -> None:
    known = fitted_on(numbered(9, *training), numbered(8, 0), numbered(7, 1, 1))
    rows = numbered(*given_rows, 9)
    chunks = [rows[start : start + step] for start in range(0, len(rows), step)]
    parts = known.overlap(chunks).parts
    np.testing.assert_array_equal(parts, known.overlap([rows]).parts)  # however they are cut
    for value in range(6):
        own, n = parts[rows[:, 0] == value], given_rows.count(value)
        counts = [training.count(value), int(value == 0), 2 * int(value == 1)]
        for place, count in enumerate(counts):
            assert (own == place).sum() == max(0, min(count, n - sum(counts[:place])))


def test_a_digest_is_of_the_values_and_not_of_how_they_came() -> None:
    X = np.array([[0.5, np.nan, -0.0], [1.0, 2.0, 3.0]])
    payload = np.frombuffer(np.array([0xFFF8000000000001], "<u8").tobytes())
    same = np.array([[0.5, payload[0], 0.0], [1.0, 2.0, 3.0]])
    assert same.tobytes() != X.tobytes()
    np.testing.assert_array_equal(digests_of(X, DOUBLE), digests_of(same, DOUBLE))
    np.testing.assert_array_equal(digests_of(X, SINGLE), digests_of(X.astype("f4"), SINGLE))
    np.testing.assert_array_equal(digests_of(np.asfortranarray(X), DOUBLE), digests_of(X, DOUBLE))
    np.testing.assert_array_equal(digests_of(np.uint8([[1, 2, 3]]), SINGLE), digests_of(X[1:], SINGLE))
    assert len(set(digests_of(np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0 + 1e-15]]), DOUBLE))) == 3


def all_trained(model: FittedModel, X: object) -> bool:
    overlap = model.fitted_on.overlap([model.rows(X)])  # type: ignore[union-attr]
    return [overlap.count(place) for place in range(3)] == list(model.fitted_on.n_rows)  # type: ignore[union-attr]


def test_rows_are_known_by_every_entrance(make_table: Make, tmp_path: Path) -> None:
    X = make_table(60).round(3)
    frame = pd.DataFrame(X, columns=list("abcdef"))
    np.save(tmp_path / "X.npy", X)
    models = [
        VAEDetector(epochs=1).fit(X),
        VAEDetector(epochs=1).fit(frame),
        VAEDetector(epochs=1).fit_file(tmp_path / "X.npy"),
        VAEDetector(epochs=1).fit_batches(np.array_split(X, 7)),
    ]
    for model in models:
        assert all_trained(model.model_, frame.to_numpy() if model is not models[1] else frame[frame.columns[::-1]])
        np.testing.assert_array_equal(model.model_.fitted_on.digests, models[0].model_.fitted_on.digests)
        np.testing.assert_array_equal(model.model_.fitted_on.counts, models[0].model_.fitted_on.counts)
    single = VAEDetector(epochs=1).fit(X.astype("f4")).model_
    assert all_trained(single, X)  # as the numbers are read from text
    assert all_trained(single, X.astype("f4").astype("f8"))


def test_tables_with_categories_dates_and_gaps_are_known_too(tmp_path: Path) -> None:
    frame = make_frame()
    detector = VAEDetector(epochs=1).fit(frame)
    frame.to_csv(tmp_path / "t.csv", index=False)
    read = load_file(tmp_path / "t.csv").X
    assert all_trained(detector.model_, frame)
    assert all_trained(detector.model_, read)
    assert all_trained(detector.model_, read[read.columns[::-1]].sample(frac=1, random_state=0))
    assert detector.model_.fitted_on.overlap([detector.model_.rows(frame.assign(size=-1.0))]).n_fitted == 0


def test_new_rows_that_equal_others_by_chance_are_not_taken_for_rows_fitted_on() -> None:
    rng = np.random.default_rng(0)
    X, new = rng.integers(0, 3, size=(500, 4)), rng.integers(0, 3, size=(400, 4))
    known = fitted_on(X[:400], X[400:450], X[450:])
    overlap = known.overlap([new])
    assert overlap.n_fitted > 300
    assert not overlap.seen.any()
    assert "no more than new rows do (100.0% of its held-out rows)" in overlap.in_words("m.vae")
    other = known.overlap([new + 7])
    assert other.in_words("m.vae") is None
    continuous = fitted_on(*np.split(rng.normal(size=(500, 4)), [400, 450]))
    assert continuous.overlap([rng.normal(size=(400, 4))]).in_words("m.vae") is None
    assert continuous.is_more_than_chance(1, 1_000)
    rare = fitted_on(numbered(*range(400)), numbered(900), numbered(5, *range(500, 599)))  # one of a hundred
    assert not rare.is_more_than_chance(14, 1_000)
    assert rare.is_more_than_chance(200, 1_000)


def test_of_many_rows_a_random_sample_is_kept_and_the_rest_is_said_not_to_be_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fitted_rows, "MAX_DIGESTS", 1_000)
    monkeypatch.setattr(fitted_rows, "PENDING", 700)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(8_000, 2))
    parts = np.split(X, [6_000, 7_000])
    known = FittedRows.of([np.array_split(part, 9) for part in parts], DOUBLE)
    whole = np.sort(digests_of(X, DOUBLE))[:1_000]
    np.testing.assert_array_equal(known.digests, whole)
    assert not known.is_complete
    assert known.n_rows == (6_000, 1_000, 1_000)
    new = rng.normal(size=(4_000, 2))
    overlap = known.overlap([X[:4_000], new])
    share = overlap.n_fitted / (overlap.n_fitted + overlap.count(3))
    assert share == pytest.approx(0.5, abs=0.06)
    assert (overlap.seen == (overlap.parts < 2)).all()
    assert not (overlap.seen == 0)[:4_000].any()  # no row of the training is kept
    assert "more that is not known" in overlap.in_words("m.vae")
    assert not known.overlap([new]).seen.any()
    repeated = FittedRows.of([[np.ones((9_000, 2))], [new[:1]], [new[1:2]]], DOUBLE)  # one digest, however often
    assert repeated.is_complete
    assert repeated.counts.max() == 9_000


def test_a_model_file_keeps_them_and_old_files_have_none(make_table: Make, tmp_path: Path) -> None:
    detector = VAEDetector(epochs=1).fit(make_table(60), groups=np.arange(60) // 5)
    detector.save(tmp_path / "m.vae")
    before, after = detector.model_.fitted_on, FittedModel.load(tmp_path / "m.vae").fitted_on
    np.testing.assert_array_equal(before.digests, after.digests)
    np.testing.assert_array_equal(before.counts, after.counts)
    assert after.digests.dtype == np.uint64
    assert (after.n_rows, after.n_groups, after.is_complete) == (before.n_rows, before.n_groups, before.is_complete)
    assert sum(after.n_rows) == 60
    tensors, config, _ = model_file.read(tmp_path / "m.vae")
    for name in ("digests", "counts"):
        del tensors[f"fitted_on.{name}"]
    del config["fitted_on"]
    model_file.write(tmp_path / "old.vae", tensors, config)
    assert FittedModel.load(tmp_path / "old.vae").fitted_on is None


def test_digests_that_no_fit_wrote_are_refused(make_table: Make, tmp_path: Path) -> None:
    VAEDetector(epochs=1).fit(make_table(60)).save(tmp_path / "m.vae")
    tensors, config, _ = model_file.read(tmp_path / "m.vae")
    digests, counts = tensors["fitted_on.digests"], tensors["fitted_on.counts"]
    for wrong in (
        {"fitted_on.digests": digests.flip(0)},
        {"fitted_on.counts": counts - 1},
        {"fitted_on.counts": counts * 0},
        {"fitted_on.counts": counts * 9},
        {"fitted_on.counts": counts[:, :2].contiguous()},
        {"fitted_on.digests": digests.repeat(99), "fitted_on.counts": counts.repeat(99, 1)},
    ):
        model_file.write(tmp_path / "w.vae", tensors | wrong, config)
        with pytest.raises(ModelFileError, match="its (digests|fitted_on)|digests of rows"):
            FittedModel.load(tmp_path / "w.vae")


def test_images_are_known(make_images: Make) -> None:
    X = make_images(40)
    known = VAEDetector(epochs=1, prior="normal").fit(X).model_.fitted_on
    buffer = io.BytesIO()
    np.save(buffer, X.astype(float))
    buffer.seek(0)
    rows = RowsInMemory(np.load(buffer)).flat()
    assert [known.overlap(rows.chunks()).count(place) for place in range(3)] == [32, 4, 4]
