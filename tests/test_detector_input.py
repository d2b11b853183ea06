"""One validation at every entrance: what one accepts, names or refuses, the others do alike."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import Any

import narwhals
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.sparse import csr_array
from sklearn.preprocessing import StandardScaler

from vae_anomaly import VAEDetector
from vae_anomaly.errors import DataError
from vae_anomaly.storage import rows as module
from vae_anomaly.storage.checks import feature_names_of

TABLE = np.abs(np.random.default_rng(0).normal(size=(60, 3))) * 9
FRAME = pd.DataFrame(TABLE, columns=list("abc"))
NAN, INFINITE = TABLE.copy(), TABLE.copy()
NAN[41, 2], INFINITE[41, 2] = np.nan, -np.inf

GIVEN: dict[str, Any] = {
    "float64": TABLE,
    "float32": TABLE.astype("f4"),
    "uint8": TABLE.astype("u1"),
    "integers": TABLE.astype(int),
    "booleans": TABLE > 5,
    "half precision": TABLE.astype("f2"),
    "big endian": TABLE.astype(">f8"),
    "column order": np.asfortranarray(TABLE),
    "images": TABLE.reshape(20, 3, 3),
    "images in colour": TABLE.reshape(15, 2, 2, 3),
    "NaN": NAN,
    "infinity": INFINITE,
    "complex": TABLE + 1j,
    "text": TABLE.astype("U9"),
    "dates": TABLE.astype("M8[s]"),
    "one row": TABLE[:1],
    "two rows": TABLE[:2],
    "no rows": TABLE[:0],
    "no columns": TABLE[:, :0],
    "one dimension": TABLE[:, 0],
    "five dimensions": TABLE.reshape(5, 3, 2, 2, 3),
    "names": FRAME,
    "names of integers": FRAME.set_axis([0, 1, 2], axis=1),
    "names of integers, out of order": FRAME.set_axis([7, 1, 2], axis=1),
    "names of both kinds": FRAME.set_axis(["a", 1, "c"], axis=1),
    "names that come twice": FRAME.set_axis(["a", "b", "a"], axis=1),
    "nullable Float64": FRAME.astype("Float64"),
    "nullable Float32": FRAME.astype("Float32"),
    "nullable Int64": FRAME.round().astype("Int64"),
    "nullable boolean": (FRAME > 5).astype("boolean"),
    "nullable with a gap": FRAME.astype("Float64").mask(TABLE[41, 2] == FRAME),
    "columns of several types": FRAME.astype({"a": "f4", "b": int}),
    "objects": FRAME.astype(object),
    "a column of text": FRAME.assign(b="x"),
    "a column of dates": FRAME.assign(b=pd.Timestamp("2020-01-01")),
    "categories": FRAME.assign(b=pd.Categorical(["x", "y"] * 30)),
    "sparse": csr_array(TABLE),
    "a sparse frame": FRAME.round().astype(pd.SparseDtype("float64", 0.0)),
    "Arrow's columns": FRAME.convert_dtypes(dtype_backend="pyarrow"),
    "an Arrow table": pa.table(FRAME),
    "decimals": FRAME.map(lambda value: Decimal(f"{value:.2f}")),
    "masked": np.ma.masked_less(TABLE, 1),
    "lists of text and numbers": [["x" if a > 5 else "y", b, None] for a, b, _ in TABLE.tolist()],
    "integers beyond double precision": FRAME.assign(a=10**400),
    "an infinite column": FRAME.assign(b=np.inf),
    "complex columns": FRAME.astype(complex),
    "only gaps": np.full((60, 3), np.nan),
    "ragged lists": [[1, 2, 3]] * 59 + [[1, 2]],
    "no value at all": FRAME.assign(a=None, b=np.nan, c=pd.NaT),
    "only identifiers": pd.DataFrame({"a": [f"person {i}" for i in range(60)]}),
    "names that are one text": FRAME.set_axis([1, "1", 2], axis=1),
    "a lazy frame": narwhals.from_native(pa.table(FRAME)).lazy(),
}
REFUSED = {
    "infinity", "complex", "one row", "two rows", "no rows", "no columns", "one dimension", "five dimensions",
    "names of both kinds", "names that come twice", "integers beyond double precision", "an infinite column",
    "complex columns", "only gaps", "ragged lists", "no value at all", "only identifiers", "names that are one text",
    "a lazy frame",
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("own_folder", "calibrated_for_one_score")
Fit = Callable[[VAEDetector, Any], VAEDetector]


def by_file(detector: VAEDetector, X: Any) -> VAEDetector:
    np.save("X.npy", X, allow_pickle=False)
    return detector.fit_file("X.npy")


ENTRANCES: dict[str, Fit] = {
    "file": by_file,
    "one batch": lambda detector, X: detector.fit_batches([X]),
    "batches": lambda detector, X: detector.fit_batches(X[i : i + 25] for i in range(0, max(1, n_rows(X)), 25)),
}


def n_rows(X: Any) -> int:
    return X.shape[0] if hasattr(X, "shape") else len(X)


def outcome(fit: Fit, X: Any) -> tuple[Any, ...]:
    """Names, features and scores of a fit, or the kind of its refusal."""
    try:
        detector = fit(VAEDetector(epochs=1, latent_dim=1), X)
    except (ValueError, TypeError) as error:
        return ("refused", TypeError if isinstance(error, TypeError) else ValueError, str(error))
    names = getattr(detector, "feature_names_in_", None)
    return (None if names is None else names.tolist(), detector.n_features_in_, detector.score_samples(X).tobytes())


@cache
def of_fit(kind: str) -> tuple[Any, ...]:
    return outcome(VAEDetector.fit, GIVEN[kind])


@cache
def fitted(*, with_names: bool) -> VAEDetector:
    return VAEDetector(epochs=1).fit(FRAME if with_names else TABLE)


@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
@pytest.mark.parametrize(
    ("kind", "entrance"),
    [
        (kind, entrance)
        for kind, X in GIVEN.items()
        for entrance in ENTRANCES
        if (entrance != "file" or type(X) is np.ndarray)  # what else there is, no .npy file holds
        and (entrance != "batches" or not isinstance(X, narwhals.LazyFrame))  # which cannot be cut
    ],
)
def test_every_entrance_accepts_names_and_refuses_alike(kind: str, entrance: str) -> None:
    whole, other = of_fit(kind), outcome(ENTRANCES[entrance], GIVEN[kind])
    assert whole[:2] == other[:2]
    assert (whole[0] == "refused") == (kind in REFUSED)
    if kind not in REFUSED:
        assert whole[2] == other[2]


def test_every_entrance_names_the_row_and_the_column() -> None:
    scored = fitted(with_names=False)
    for fit in (VAEDetector.fit, *ENTRANCES.values(), lambda detector, X: scored.score_samples(X)):
        assert "row 41, column 2 is -inf: fill in or drop" in outcome(fit, INFINITE)[2]
    frame = FRAME.assign(b="x").mask(TABLE[41, 2] == FRAME, np.inf)
    for fit in (VAEDetector.fit, ENTRANCES["batches"]):
        assert "row 41, column 'c' is inf: fill in or drop infinite values" in outcome(fit, frame)[2]


@pytest.mark.parametrize("kind", ["NaN", "nullable with a gap", "masked", "lists of text and numbers"])
def test_gaps_are_refused_at_every_entrance_where_they_are_to_be(kind: str) -> None:
    X = GIVEN[kind]
    strict = VAEDetector(epochs=1, missing="refuse")
    entrances = [VAEDetector.fit, ENTRANCES["batches"]] + [by_file] * (kind == "NaN")
    for fit in entrances:
        with pytest.raises(
            ValueError, match=r"row \d+, column \d is nan: fill in|has [\d,]+ gaps, which missing='refuse'"
        ):
            fit(strict, X)


@pytest.mark.parametrize("entrance", ["file", "batches"])
@pytest.mark.parametrize("kind", ["float64", "integers", "images", "one row", "two rows"])
def test_what_stays_on_disk_is_accepted_and_refused_alike(
    monkeypatch: pytest.MonkeyPatch, kind: str, entrance: str
) -> None:
    monkeypatch.setattr(module, "LOADED_BYTES", 0)
    whole, other = of_fit(kind), outcome(ENTRANCES[entrance], GIVEN[kind])
    assert whole[:2] == other[:2]


@pytest.mark.parametrize(
    "kind", sorted(kind for kind in REFUSED - {"no value at all", "only gaps"} if "row" not in kind)
)
def test_scoring_refuses_what_fit_refuses(kind: str) -> None:
    X = GIVEN[kind]
    detector = fitted(with_names=hasattr(X, "columns"))
    with pytest.raises((ValueError, TypeError)):
        detector.score_samples(X)


def said(call: Callable[[], object]) -> str:
    with pytest.warns() as caught:
        call()
    return str(caught[0].message)


def test_warnings_about_missing_names_are_those_of_scikit_learn() -> None:
    for X, given in ((FRAME, TABLE), (TABLE, FRAME)):
        scaler, detector = StandardScaler().fit(X), fitted(with_names=X is FRAME)
        theirs = said(lambda: scaler.transform(given))  # noqa: B023 - called at once
        ours = said(lambda: detector.score_samples(given))  # noqa: B023
        assert ours == theirs.replace("StandardScaler", "VAEDetector")


def test_what_is_no_array_is_named_as_what_it_is() -> None:
    for X in (None, "rows", b"rows", {"a": [1, 2]}, {1, 2}):
        with pytest.raises(TypeError, match=rf"X: needs rows \(N, D\) .*, got {type(X).__name__}$"):
            VAEDetector().fit(X)
    with pytest.raises(TypeError, match="got generator: fit_batches and score_batches take samples in batches"):
        VAEDetector().fit(row for row in TABLE)
    with pytest.raises(DataError, match="row 1 has 1 values, and row 0 has 2: all rows need the same columns"):
        VAEDetector().fit([[1, 2], [3], [4, 5]])
    with pytest.raises(ValueError, match="inhomogeneous"):  # rows alike in length, cells not
        VAEDetector().fit([[1, 2], [3, [4]], [4, 5]])


def test_names_are_text() -> None:
    assert feature_names_of(FRAME) == ("a", "b", "c")
    assert feature_names_of(TABLE) is None
    assert feature_names_of(pd.DataFrame(TABLE)) is None
    with pytest.raises(TypeError, match="your input also has names of type int: convert them"):
        feature_names_of(GIVEN["names of both kinds"])
    with pytest.raises(ValueError, match="column names must differ, but 'a' comes 2 times"):
        feature_names_of(GIVEN["names that come twice"])
