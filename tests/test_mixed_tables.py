"""Tables of mixed columns from fit to score: the same in every form, and each row on its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse as sp
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import TABLE_SCORES
from vae_anomaly import FittedModel, VAEDetector
from vae_anomaly.cli import main
from vae_anomaly.errors import ColumnsError, DataError

pytestmark = pytest.mark.usefixtures("calibrated_for_one_score")
N = 70


def mixed(n: int = N, seed: int = 0) -> pd.DataFrame:
    """Every kind of column, and gaps in three."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "size": rng.normal(size=n),
            "number": rng.integers(0, 5, n),
            "colour": rng.choice(list("abc"), n),
            "when": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900 * 86_400, n), unit="s"),
            "flag": rng.random(n) < 0.4,
            "name": [f"person {i}" for i in range(n)],
            "same": "always",
        }
    )
    frame.loc[3, "size"] = np.nan
    frame.loc[[5, 6], "colour"] = None
    frame.loc[7, "when"] = pd.NaT
    return frame


FRAME = mixed()
KINDS = {
    "size": "number", "number": "number", "colour": "category", "when": "date", "flag": "category",
    "name": "identifier", "same": "constant",
}  # fmt: skip
PLAIN = np.random.default_rng(0).normal(size=(N, 4)) * [1, 2, 3, 4]
PLAIN_FRAME = pd.DataFrame(PLAIN, columns=list("abcd"))
GAPS = PLAIN.copy()
GAPS[3, 1] = GAPS[9, [0, 2]] = GAPS[11] = np.nan
WITH_GAP = np.isnan(GAPS).any(axis=1)


def detector(**parameters: Any) -> VAEDetector:
    return VAEDetector(**{"epochs": 1, "calibration_folds": 1} | parameters)


@pytest.fixture(scope="module")
def fitted() -> VAEDetector:
    return detector(epochs=3).fit(FRAME)


@pytest.fixture(scope="module")
def fitted_to_numbers() -> VAEDetector:
    return detector(epochs=3).fit(PLAIN_FRAME)


def test_every_column_gets_its_kind(fitted: VAEDetector) -> None:
    assert fitted.model_.columns.kinds == KINDS
    assert fitted.likelihood_ == "mixed"


SAME_TABLE: dict[str, Callable[[pd.DataFrame], Any]] = {
    "Arrow's table": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
    "Arrow's dictionaries": lambda frame: pa.Table.from_pandas(
        frame.astype({"colour": "category", "flag": "category", "name": "category"}), preserve_index=False
    ),
    "nullable types": lambda frame: frame.convert_dtypes(),
    "Arrow's types": lambda frame: frame.convert_dtypes(dtype_backend="pyarrow"),
    "categorical": lambda frame: frame.astype({"colour": "category", "flag": "category"}),
    "objects": lambda frame: frame.astype(object),
    "a time zone": lambda frame: frame.assign(when=frame["when"].dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")),
    "another index": lambda frame: frame.set_axis(np.arange(N)[::-1] * 7),
}


@pytest.mark.parametrize("form", SAME_TABLE)
def test_the_same_table_in_another_form_gives_the_same_bits(fitted: VAEDetector, form: str) -> None:
    X = SAME_TABLE[form](FRAME)
    other = detector(epochs=3).fit(X)
    assert other.model_.columns.kinds == KINDS
    np.testing.assert_array_equal(other.score_samples(FRAME), fitted.score_samples(FRAME))
    np.testing.assert_array_equal(fitted.score_samples(X), fitted.score_samples(FRAME))


def test_polars_too(fitted: VAEDetector) -> None:
    polars = pytest.importorskip("polars")
    X = polars.from_pandas(FRAME)
    np.testing.assert_array_equal(detector(epochs=3).fit(X).score_samples(X), fitted.score_samples(FRAME))
    with pytest.raises(DataError, match=r"lazy LazyFrame, whose values are not computed yet: call .collect\(\) first"):
        fitted.score_samples(X.lazy())


def test_rows_of_objects_have_columns_by_their_places() -> None:
    by_place = FRAME.set_axis(list(map(str, range(7))), axis=1)
    expected = detector().fit(by_place).score_samples(by_place)
    objects = FRAME.to_numpy(dtype=object)
    for X in (objects, objects.tolist(), np.ma.masked_array(objects, FRAME.isna())):
        np.testing.assert_array_equal(detector().fit(X).score_samples(X), expected)


def test_batches_are_judged_as_a_whole(fitted: VAEDetector) -> None:
    whole = detector(epochs=3).fit_batches(FRAME.iloc[i : i + 17] for i in range(0, N, 17))
    assert whole.model_.columns == fitted.model_.columns
    np.testing.assert_array_equal(whole.score_samples(FRAME), fitted.score_samples(FRAME))


def test_tables_that_stay_on_disk_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vae_anomaly.storage.rows.LOADED_BYTES", 0)
    from_disk = detector().fit_batches(FRAME.iloc[i : i + 17] for i in range(0, N, 17))
    assert from_disk.model_.columns.kinds == KINDS
    assert np.isfinite(from_disk.score_samples(FRAME)).all()
    with_gaps = detector().fit_batches(GAPS[i : i + 17] for i in range(0, N, 17))
    assert np.isfinite(with_gaps.score_samples(GAPS)).all()


def batches(*values: list[Any]) -> Iterator[pd.DataFrame]:
    return (pd.DataFrame({"a": column, "b": np.linspace(0, 1, len(column))}) for column in values)


def test_what_comes_in_the_last_batch_counts() -> None:
    columns = detector().fit_batches(batches(["u"] * 25, ["u"] * 25, ["u", "v", "v"])).model_.columns
    assert columns.all[0].levels == ("u", "v")
    columns = detector().fit_batches(batches(list(range(25)), list(range(25, 50)))).model_.columns
    assert columns.kinds == {"a": "identifier", "b": "number"}
    assert detector().fit_batches(batches(list(range(25)), list(range(25)))).model_.columns is None
    columns = detector().fit_batches(batches([1.5] * 25, [None] * 25)).model_.columns
    assert columns.kinds == {"a": "number", "b": "number"}
    columns = detector().fit_batches(batches([None] * 25, ["x", "y"] * 12)).model_.columns
    assert columns.kinds == {"a": "category", "b": "number"}


def test_text_after_numbers_is_named_and_can_be_said() -> None:
    with pytest.raises(
        DataError, match=r"column 'a' holds number values, and from row 25 on text ones: give all of it"
    ):
        detector().fit_batches(batches([1.5] * 25, ["x"] * 25))
    told = detector(columns={"a": "category"}).fit_batches(batches([1] * 25, ["x"] * 25))
    assert told.model_.columns.all[0].levels == ("1", "x")
    with pytest.raises(DataError, match="the columns from row 25 on are not those before"):
        detector().fit_batches([*batches([1.5] * 25), pd.DataFrame({"a": [1], "c": [2]})])
    with pytest.raises(DataError, match="a batch is no table with columns, as those before it are"):
        detector().fit_batches([*batches([1.5] * 25), np.ones((3, 2))])


PLAIN_FORMS: dict[str, Callable[[], Any]] = {
    "a frame": lambda: PLAIN_FRAME,
    "objects": lambda: PLAIN_FRAME.astype(object),
    "nullable": lambda: PLAIN_FRAME.astype("Float64"),
    "Arrow's": lambda: PLAIN_FRAME.convert_dtypes(dtype_backend="pyarrow"),
    "Arrow's table": lambda: pa.table(PLAIN_FRAME),
    "a sparse frame": lambda: PLAIN_FRAME.astype(pd.SparseDtype("float64", 0.0)),
    "text": lambda: PLAIN_FRAME.map(repr),
    "a sparse matrix": lambda: sp.csr_matrix(PLAIN),
    "a sparse array": lambda: sp.coo_array(PLAIN),
    "a masked array": lambda: np.ma.masked_array(PLAIN),
}


@pytest.mark.parametrize("form", PLAIN_FORMS)
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_plain_numbers_in_any_form_give_the_bits_of_the_array(fitted_to_numbers: VAEDetector, form: str) -> None:
    X = PLAIN_FORMS[form]()
    of_form = detector(epochs=3).fit(X)
    assert of_form.model_.columns is None
    expected = detector(epochs=3).fit(PLAIN).score_samples(PLAIN)
    np.testing.assert_array_equal(of_form.score_samples(X), expected)
    np.testing.assert_array_equal(fitted_to_numbers.score_samples(X), expected)


@pytest.mark.parametrize("dtype", ["f4", "u1", "i4"])
def test_a_frame_has_the_precision_of_its_array(dtype: str) -> None:
    X = np.abs(PLAIN * 9).astype(dtype)
    frame = pd.DataFrame(X)
    expected = detector().fit(X).score_samples(X)
    np.testing.assert_array_equal(detector().fit(frame).score_samples(frame), expected)
    in_batches = detector().fit_batches(frame.iloc[i : i + 30] for i in range(0, N, 30))
    np.testing.assert_array_equal(in_batches.score_samples(frame), expected)


@given(seed=st.integers(0, 1000))
@settings(max_examples=15)
def test_rows_are_scored_on_their_own(fitted: VAEDetector, seed: int) -> None:
    rng = np.random.default_rng(seed)
    together = fitted.score_samples(FRAME)
    chosen = rng.permutation(N)[: rng.integers(1, N)]
    others = FRAME.iloc[chosen].copy()
    emptied = rng.random(len(others)) < 0.5
    emptied[0] = False
    others.loc[others.index[emptied], ["size", "colour"]] = None
    scores = fitted.score_samples(others)
    np.testing.assert_array_equal(scores[~emptied], together[chosen[~emptied]])


@given(order=st.permutations(list(FRAME.columns)))
@settings(max_examples=4)
def test_the_order_of_columns_changes_explanations_order_alone(fitted: VAEDetector, order: list[str]) -> None:
    shuffled = FRAME[order]
    scores, known = fitted.score_samples(FRAME), fitted.explain(FRAME)
    np.testing.assert_array_equal(fitted.score_samples(shuffled), scores)
    explained = fitted.explain(shuffled)
    for part in ("reconstruction", "kl", "expected", "spread", "excess"):
        np.testing.assert_array_equal(getattr(explained, part), getattr(known, part))
    other = detector(epochs=3).fit(shuffled)
    np.testing.assert_array_equal(other.score_samples(FRAME), scores)
    assert other.offset_ == fitted.offset_
    names, theirs = fitted.model_.columns.names, other.model_.columns.names
    places = [theirs.index(name) for name in names]
    explained = other.explain(FRAME)
    np.testing.assert_array_equal(explained.kl, known.kl)
    for field in ("reconstruction", "expected", "spread", "excess"):
        np.testing.assert_array_equal(getattr(explained, field)[:, places], getattr(known, field))


def test_explanations_add_up(fitted: VAEDetector) -> None:
    terms, explanation = fitted.elbo_terms(FRAME), fitted.explain(FRAME)
    assert explanation.reconstruction.shape == (N, 6)
    np.testing.assert_allclose(explanation.reconstruction.sum(axis=1), terms.reconstruction)
    np.testing.assert_allclose(explanation.kl.sum(axis=1), terms.kl, atol=1e-9)
    place = fitted.model_.columns.names.index("size")
    assert explanation.reconstruction[3, place] == explanation.excess[3, place] == 0


@pytest.mark.parametrize("missing", ["ignore", "category"])
def test_a_saved_model_scores_to_the_bit(tmp_path: Path, missing: str) -> None:
    model = detector(missing=missing, columns={"number": "category"}).fit(FRAME)
    model.save(tmp_path / "m.vae")
    other = FittedModel.load(tmp_path / "m.vae")
    assert other.columns == model.model_.columns
    assert other.parameters["columns"] == {"number": "category"}
    np.testing.assert_array_equal(other.score_samples(other.rows(FRAME)), model.score_samples(FRAME))


def test_other_columns_are_left_out_with_one_line(fitted: VAEDetector) -> None:
    expected = fitted.score_samples(FRAME)
    np.testing.assert_array_equal(fitted.score_samples(FRAME.drop(columns="name")), expected)
    line = "X: left out 2 columns that the model was not fitted on: 'more', 'other'"
    with pytest.warns(UserWarning, match=line) as caught:
        scores = fitted.score_samples(FRAME.assign(more=1, other="x"))
    assert len(caught) == 1
    np.testing.assert_array_equal(scores, expected)


def test_all_missing_columns_are_named(fitted: VAEDetector, fitted_to_numbers: VAEDetector) -> None:
    missing = (
        "2 of the 6 columns that the model was fitted on are missing: 'colour', 'flag'; there are 'size', 'number'"
    )
    with pytest.raises(DataError, match=missing):
        fitted.score_samples(FRAME.drop(columns=["colour", "flag"]))
    with pytest.raises(DataError, match="2 of the 4 columns .* are missing: 'b', 'c'; there are 'a', 'd'"):
        fitted_to_numbers.score_samples(PLAIN_FRAME[["a", "d"]])
    by_place = FRAME.to_numpy(dtype=object)[:, :5]
    with (
        pytest.raises(DataError, match="X has 5 features, but"),
        pytest.warns(UserWarning, match="not have valid feat"),
    ):
        fitted.score_samples(by_place)


def test_columns_of_numbers_are_found_by_name(fitted_to_numbers: VAEDetector) -> None:
    expected = fitted_to_numbers.score_samples(PLAIN_FRAME)
    np.testing.assert_array_equal(fitted_to_numbers.score_samples(PLAIN_FRAME[list("dbca")]), expected)
    with pytest.warns(UserWarning, match="left out 1 columns that the model was not fitted on: 'more'"):
        scores = fitted_to_numbers.score_samples(PLAIN_FRAME.assign(more="x"))
    np.testing.assert_array_equal(scores, expected)


def test_cells_of_another_kind_are_all_named(fitted: VAEDetector) -> None:
    wrong = FRAME.astype({"number": object})
    wrong.loc[4, "number"] = "many"
    with pytest.raises(DataError) as refusal:
        fitted.score_samples(wrong.assign(when="soon", size=np.inf))
    assert str(refusal.value).splitlines() == [
        "X: row 0, column 'size' is inf, and it was a number in training",
        "X: row 4, column 'number' is 'many', and it was a number in training",
        "X: row 0, column 'when' is 'soon', and it was a date in training",
        "mend these cells, or leave them empty to count as gaps",
    ]


def test_unseen_levels_and_gaps_are_scored(fitted: VAEDetector) -> None:
    others = FRAME[FRAME["colour"] != "a"]  # no training rows, which would be left out of their own scores
    with pytest.warns(UserWarning, match="no value that it had in training"):
        unseen = fitted.score_samples(others.assign(colour="violet"))
    assert (unseen < fitted.score_samples(others.assign(colour="a"))).all()
    nothing = pd.DataFrame({name: [None] for name in FRAME.columns})
    assert fitted.model_.score_samples(fitted._rows(nothing), "importance_weighted") == pytest.approx(0, abs=1e-9)
    assert -np.log(2) <= fitted.score_samples(nothing) <= 0  # the logarithm of one, or somewhat below
    assert np.isfinite(fitted.score_samples(FRAME.assign(number=np.nan, flag=None))).all()


def test_a_category_without_any_known_level_is_noted(fitted: VAEDetector) -> None:
    frame = FRAME.assign(colour=FRAME["colour"].str.upper())
    with pytest.warns(UserWarning, match=r"column 'colour' has no value that it had in training \(a, b, c\), and 'B'"):
        fitted.score_samples(frame)
    fitted.score_samples(frame[:3])  # few rows may all be odd
    frame.loc[frame.index[0], "colour"] = "a"
    fitted.score_samples(frame)


@pytest.mark.parametrize("method", ["score_samples", "explain", "transform", "elbo_terms"])
def test_a_table_without_rows_is_refused(fitted: VAEDetector, method: str) -> None:
    with pytest.raises(DataError, match=r"X: holds no samples \(shape \(0, "):
        getattr(fitted, method)(FRAME[:0])


def test_one_row_and_one_column(fitted: VAEDetector) -> None:
    np.testing.assert_array_equal(fitted.score_samples(FRAME.iloc[[9]]), fitted.score_samples(FRAME)[[9]])
    for name in ("size", "colour", "when", "flag"):
        one = detector().fit(FRAME[[name]])
        assert np.isfinite(one.score_samples(FRAME[[name]])).all()
    constant = detector().fit(pd.DataFrame({"a": ["x"] * 9, "b": 1.0, "c": True}))
    same, other = constant.score_samples(pd.DataFrame({"a": ["x", "y"], "b": [1.0, 2.0], "c": [True, False]}))
    assert other < same


@pytest.mark.parametrize(
    ("columns", "kinds"),
    [
        ({"size": "category", "when": "identifier"}, {"size": "category", "when": "identifier"}),
        ({"flag": "number", "name": "category"}, {"flag": "number", "name": "category"}),
        ({"when": "category"}, {"when": "category"}),
    ],
)
def test_kinds_can_be_said(columns: dict[str, str], kinds: dict[str, str]) -> None:
    told = detector(columns=columns).fit(FRAME)
    assert told.model_.columns.kinds == KINDS | kinds
    assert np.isfinite(told.score_samples(FRAME)).all()
    assert {column.why for column in told.model_.columns.all if column.name in columns} == {"as told"}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"colour": "number"}, "column 'colour' is to be numbers, and '[abc]' is none"),
        ({"colour": "date"}, "column 'colour' is to be dates, and '[abc]' is in no known form"),
        ({"flag": "date"}, "column 'flag' is to be a date, and it holds boolean values"),
        ({"when": "number"}, "column 'when' is to be a number, and it holds date values"),
        (
            {"no": "number", "one": "date"},
            "there is no column 'no', 'one' to give a kind to; its columns are size, num",
        ),
        ({"size": "text"}, "columns must be a dict from column names to 'number', 'category', 'date', 'identifier'"),
    ],
)
def test_kinds_that_do_not_suit_are_refused(columns: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        detector(columns=columns).fit(FRAME)


def test_years_and_forms_of_dates_can_be_said() -> None:
    frame = pd.DataFrame(
        {"year": [1990 + i % 30 for i in range(60)], "day": [f"{i % 28 + 1}.3.2020" for i in range(60)]}
    )
    told = detector(columns={"year": "date"}).fit(frame)
    assert [(column.kind, column.form) for column in told.model_.columns.all] == [("date", "%Y"), ("date", "%d.%m.%Y")]
    assert np.isfinite(told.score_samples(frame)).all()
    np.testing.assert_array_equal(told.score_samples(frame.astype(str)), told.score_samples(frame))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("prior", ["exemplars", "mixture", "normal"])
def test_a_model_of_plain_numbers_leaves_gaps_out(prior: str, dtype: type) -> None:
    model = detector(prior=prior).fit(PLAIN.astype(dtype)).model_
    rows = model.rows(GAPS.astype(dtype))
    assert rows.dtype == dtype
    whole, with_gaps = model.score_samples(model.rows(PLAIN.astype(dtype))), model.score_samples(rows)
    np.testing.assert_array_equal(with_gaps[~WITH_GAP], whole[~WITH_GAP])
    assert np.isfinite(with_gaps).all()
    np.testing.assert_array_equal(model.score_samples(rows[[3]]), with_gaps[[3]])
    alone = model.explain(rows)
    np.testing.assert_allclose(alone.reconstruction.sum(axis=1), model.elbo_terms(rows).reconstruction, rtol=1e-4)
    assert (alone.reconstruction[np.isnan(GAPS)] == 0).all()


def test_a_gap_under_exemplars_is_integrated_out(fitted_to_numbers: VAEDetector) -> None:
    model = fitted_to_numbers.model_
    row = PLAIN[[3]]
    spread = float(model.vae.scaling.scale[1] * model.vae.likelihood.variance.sqrt())
    values = np.linspace(PLAIN[:, 1].min() - 9 * spread, PLAIN[:, 1].max() + 9 * spread, 4_001)
    filled = np.repeat(row, len(values), axis=0)
    filled[:, 1] = values
    step = (values[1] - values[0]) / float(model.vae.scaling.scale[1])
    evidence = np.log(np.exp(model.score_samples(filled)).sum() * step)
    row[0, 1] = np.nan
    assert model.score_samples(row)[0] == pytest.approx(evidence, abs=1e-4)


@pytest.mark.parametrize("score", TABLE_SCORES)
def test_every_score_takes_gaps(fitted: VAEDetector, fitted_to_numbers: VAEDetector, score: str) -> None:
    for model, X in ((fitted.model_, FRAME), (fitted_to_numbers.model_, pd.DataFrame(GAPS, columns=list("abcd")))):
        assert np.isfinite(model.score_samples(model.rows(X), score)).all()


def test_where_gaps_cannot_be_left_out_they_are_refused() -> None:
    message = "row 3, column 1 is nan: fill in or drop"
    unit = np.abs(PLAIN) / 20
    for parameters, X in (({"likelihood": "bernoulli"}, unit), ({"missing": "refuse"}, PLAIN)):
        strict = detector(**parameters).fit(X)
        with pytest.raises(DataError, match=message):
            strict.score_samples(np.where(np.isnan(GAPS), np.nan, X))
    with pytest.raises(DataError, match="likelihood='bernoulli' is for rows of plain numbers"):
        detector(likelihood="bernoulli").fit(np.where(np.isnan(GAPS), np.nan, unit))
    images = PLAIN.reshape(-1, 2, 2).copy()
    images[4, 1, 1] = np.nan
    with pytest.raises(ValueError, match="row 4, column 1, 1 is nan: fill in or drop"):
        detector().fit(images)


def test_gaps_that_are_to_be_refused_are_all_named() -> None:
    with pytest.raises(DataError) as refusal:
        detector(missing="refuse").fit(FRAME)
    assert [line.partition("has")[0] for line in str(refusal.value).splitlines()] == [
        f"X: column {name!r} " for name in ("size", "colour", "when")
    ]
    strict = detector(missing="refuse").fit(FRAME.dropna())
    with pytest.raises(DataError) as refusal:
        strict.score_samples(FRAME)
    assert str(refusal.value).splitlines()[:3] == [
        f"X: row {row}, column {name!r} is missing, and this model takes no gaps"
        for row, name in ((3, "size"), (5, "colour"), (7, "when"))
    ]


def test_gaps_that_count_are_a_value_of_their_own() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.choice(["x", "y"], 300), "b": rng.normal(size=300)})
    frame.loc[frame["a"] == "x", "b"] = np.nan
    odd = pd.DataFrame({"a": ["x", "y"], "b": [0.0, np.nan]})
    usual = pd.DataFrame({"a": ["x", "y"], "b": [np.nan, 0.0]})
    counting = VAEDetector(epochs=30, missing="category").fit(frame)
    assert counting.score_samples(odd).max() < counting.score_samples(usual).min()
    assert torch.isfinite(counting.vae_.prior.decoded).all()


def test_gaps_in_training_are_left_out_alike_in_frames_and_arrays() -> None:
    frame = pd.DataFrame(GAPS, columns=list("0123"))
    of_array, of_frame = detector().fit(GAPS), detector().fit(frame)
    expected = of_array.score_samples(GAPS)
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(of_frame.score_samples(frame), expected)
    np.testing.assert_array_equal(detector().fit(np.ma.masked_invalid(GAPS)).score_samples(GAPS), expected)
    in_batches = detector().fit_batches(GAPS[i : i + 30] for i in range(0, N, 30))
    np.testing.assert_array_equal(in_batches.score_samples(GAPS), expected)


def test_what_a_mixed_model_gives_back_is_a_table(fitted: VAEDetector) -> None:
    columns = list(fitted.model_.columns.names)
    assert fitted.reconstruct(FRAME).shape == (N, 6)
    for table in (fitted.sample(5), fitted.reconstruct(FRAME), fitted.inverse_transform(fitted.transform(FRAME))):
        assert list(table.columns) == columns
        assert set(table["colour"]) <= {*FRAME["colour"].dropna(), "other"}
        assert table["when"].dtype.kind == "M"
    assert fitted.transform(FRAME).shape == (N, fitted.model_.latent_dim)


def test_missing_columns_may_count_as_gaps(fitted: VAEDetector, tmp_path: Path) -> None:
    fitted.save(tmp_path / "m.vae")
    FRAME.drop(columns=["size", "colour"]).to_csv(tmp_path / "t.csv", index=False)
    words = ["score", f"{tmp_path}/t.csv", "--model", f"{tmp_path}/m.vae", "--output", f"{tmp_path}/s.csv"]
    refused = CliRunner().invoke(main, words)
    assert refused.exit_code == 1
    assert "'size'" in refused.stderr
    assert "'colour'" in refused.stderr
    result = CliRunner().invoke(main, [*words, "--missing-columns", "as-gaps"])
    assert result.exit_code == 0, result.output
    assert "lacks" in result.stderr
    assert "'size'" in result.stderr
    expected = -fitted.score_samples(FRAME.assign(size=np.nan, colour=np.nan))
    np.testing.assert_allclose(pd.read_csv(tmp_path / "s.csv")["anomaly_score"], expected)


def test_all_columns_at_fault_have_a_line_each(fitted: VAEDetector, tmp_path: Path) -> None:
    fitted.save(tmp_path / "m.vae")
    spoilt = FRAME.astype({"size": object, "number": object})
    spoilt.loc[3, "size"], spoilt.loc[5, "number"] = "large", "many"
    spoilt.to_csv(tmp_path / "t.csv", index=False)
    result = CliRunner().invoke(main, ["score", f"{tmp_path}/t.csv", "--model", f"{tmp_path}/m.vae"])
    assert result.exit_code == 1
    assert "\\n" not in result.stderr
    lines = result.stderr.splitlines()
    assert any("row 3, column 'size' is 'large'" in line for line in lines)
    assert any("row 5, column 'number' is 'many'" in line for line in lines)
    with pytest.raises(ColumnsError, match=r"row 3, column 'size'[^\n]*\n[^\n]*row 5, column 'number'"):
        fitted.score_samples(spoilt)
    refusing = CliRunner().invoke(main, ["find", f"{tmp_path}/t.csv", "--missing", "refuse"])
    assert refusing.exit_code == 1
    assert "\\n" not in refusing.stderr
