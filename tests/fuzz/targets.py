"""Readers under fuzz: each target hands bytes to one reader, which must give a result or the project's own error.

Seeds are made by the project's own writers and by the libraries that users write such files with, never copied.
"""

from __future__ import annotations

import atexit
import contextlib
import gzip
import io
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from vae_anomaly.datasets import chunks, idx, load_file, load_labels
from vae_anomaly.datasets.reading import ImageNote, TableNote
from vae_anomaly.errors import DataError, ModelFileError
from vae_anomaly.fitting.samples import rows_to_fit
from vae_anomaly.parameters import DEFAULTS
from vae_anomaly.storage import model_file
from vae_anomaly.storage.model_schema import read_description
from vae_anomaly.storage.record_log import RecordLog, digest_of
from vae_anomaly.storage.score_table import read_score_table
from vae_anomaly.storage.strict_json import loads
from vae_anomaly.tables.encoding import encoded

SCRATCH = Path(tempfile.mkdtemp(prefix="fuzz-"))
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)
ROWS = np.arange(12.0).reshape(4, 3)
SCORES = pd.DataFrame({"index": range(3), "anomaly_score": [0.5, -1.25, 1e9], "file": ["a", "b\n", 'c"']})


class Target(NamedTuple):
    """What to feed, and what to begin with."""

    read: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]


def by_path(name: str, read: Callable[[Path], object], data: bytes) -> object:
    """Call a reader of files."""
    path = SCRATCH / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return read(path)


def both(path: Path) -> None:
    """Whole and in chunks; both must agree on whether the data can be used."""
    outcomes = []
    for read in (load_file, lambda path: list(chunks(path, 3))):
        try:
            read(path)
        except DataError as error:
            outcomes.append(type(error))
        else:
            outcomes.append(None)
    assert outcomes[0] == outcomes[1]


def idx_file(path: Path) -> None:
    """A file of a named data set."""
    idx.parse(idx.read_bytes(path), 3, str(path))


def strict_json(data: bytes) -> None:
    """What is accepted must be written again as the same value."""
    try:
        value = loads(data)
    except ValueError:
        return
    assert loads(json.dumps(value, allow_nan=False)) == value


@cache
def small_model() -> Path:
    """A fitted model to take apart."""
    from vae_anomaly import VAEDetector  # here, so that no other target loads torch

    path = SCRATCH / "small.vae"
    VAEDetector(epochs=1, latent_dim=1).fit(np.random.default_rng(0).normal(size=(30, 2)).astype("f4")).save(path)
    return path


def model_config(data: bytes) -> None:
    """A model file with this configuration and a hash that fits it, as somebody with intent would write it."""
    from vae_anomaly import VAEDetector

    try:
        config = loads(data)
        if not isinstance(config, dict):
            return
        path = SCRATCH / "config.vae"
        model_file.write(path, model_file.read(small_model())[0], config)
    except (ValueError, AttributeError):
        return
    VAEDetector.load(path, device="cpu")


def saved(write: Callable[..., object], *arguments: object, **options: object) -> bytes:
    """What a writer writes to a file."""
    buffer = io.BytesIO()
    write(buffer, *arguments, **options)
    return buffer.getvalue()


def image(kind: str, mode: str = "L") -> bytes:
    """A small image."""
    return saved(Image.new(mode, (9, 8), 3).save, format=kind)


def numpy_seeds() -> list[bytes]:
    return [saved(np.save, ROWS), saved(np.save, ROWS.astype("u1")), saved(np.save, np.asfortranarray(ROWS[:, :2]))]


def npz_seeds() -> list[bytes]:
    return [saved(np.savez, X=ROWS, y=np.arange(4)), saved(np.savez_compressed, X=ROWS)]


def csv_seeds() -> list[bytes]:
    frame = pd.DataFrame(ROWS, columns=["a", "b c", 'd"'])
    return [text.encode() for text in (frame.to_csv(), frame.to_csv(index=False), frame.to_csv(header=False))]


def mixed_frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "n": [1.5, None, 2.0, 3.25],
            "s": ["x", "y", None, "x"],
            "t": ["2024-01-01", "2024-01-02", "2024-02-03", "2024-02-04"],
        }
    )


def dialect_seeds() -> list[bytes]:
    frame = mixed_frame()
    texts = [frame.to_csv(index=False, sep=sep, decimal=mark) for sep, mark in ((";", ","), ("\t", "."), ("|", "."))]
    texts += ["# a title\n\n" + texts[0], "a;b\n1.234,5;$ 3\n2.345,5;4 %\n"]
    return [text.encode(encoding) for text, encoding in zip(texts, ("utf-8", "utf-16", "latin-1") * 2, strict=False)]


def xlsx_seeds() -> list[bytes]:
    file = io.BytesIO()
    mixed_frame().to_excel(file, index=False)
    return [file.getvalue()]


def to_fit(path: Path) -> None:
    """Read a table, find out its columns, and encode it again by them: the same codes."""
    table = load_file(path).X
    rows = rows_to_fit(table, DEFAULTS)
    if rows.columns is not None:
        np.testing.assert_array_equal(encoded(table, rows.columns), rows.values)


def parquet_seeds() -> list[bytes]:
    frame = pd.DataFrame(ROWS, columns=list("abc"))
    return [saved(lambda file: frame.to_parquet(file)), saved(lambda file: frame[["a"]].to_parquet(file))]


def label_seeds() -> list[bytes]:
    return [b"label\n1\n0\n", b"cat\ndog\n", b'"a\nb"\n', b"0\n1.0\n"]


def idx_seeds() -> list[bytes]:
    plain = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 1, 5, 6, 7, 8])
    return [plain, gzip.compress(plain, mtime=0)]


def image_seeds() -> list[bytes]:
    kinds = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
    return [image(kind) for kind in kinds] + [image("PNG", "RGB"), image("PNG", "P")]


def score_seeds(kind: str) -> list[bytes]:
    if kind == "csv":
        return [SCORES.to_csv(index=False).encode()]
    if kind == "jsonl":
        return ["".join(json.dumps(row) + "\n" for row in SCORES.to_dict("records")).encode()]
    return [saved(np.save, SCORES.drop(columns="file").to_records(index=False))]


def record_seeds() -> list[bytes]:
    contents: list[dict[str, Any]] = [{"settings": {"a": 1}}, {"case": "x", "error": None}]
    header, record = (json.dumps({**content, "sha256": digest_of(content)}).encode() + b"\n" for content in contents)
    return [header + record + b'{"case"', header]


def json_seeds() -> list[bytes]:
    return [b'{"a": [1, -2.5e3, true, null, "\\u00e9"], "b": {}}', b"[" * 50, b'{"a": 1, "a": 2}', b"1e999"]


def model_seeds() -> list[bytes]:
    return [small_model().read_bytes()]


def config_seeds() -> list[bytes]:
    config = model_file.read_config(small_model()).config
    return [json.dumps(config).encode(), json.dumps(config | {"history": [], "metadata": {"data": 5}}).encode()]


TARGETS: dict[str, Target] = {
    "json": Target(strict_json, json_seeds),
    "idx": Target(partial(by_path, "data.gz", idx_file), idx_seeds),
    "npy": Target(partial(by_path, "data.npy", both), numpy_seeds),
    "npz": Target(partial(by_path, "data.npz", both), npz_seeds),
    "csv": Target(partial(by_path, "data.csv", both), csv_seeds),
    "csv-dialects": Target(partial(by_path, "data.txt", both), dialect_seeds),
    "csv-gz": Target(
        partial(by_path, "data.csv.gz", both), lambda: [gzip.compress(data, mtime=0) for data in csv_seeds()]
    ),
    "xlsx": Target(partial(by_path, "data.xlsx", both), xlsx_seeds),
    "columns": Target(partial(by_path, "data.csv", to_fit), lambda: [*csv_seeds(), *dialect_seeds()]),
    "parquet": Target(partial(by_path, "data.parquet", both), parquet_seeds),
    "image": Target(partial(by_path, "images/a.png", lambda path: both(path.parent)), image_seeds),
    "labels": Target(partial(by_path, "labels.csv", load_labels), label_seeds),
    "labels-npy": Target(partial(by_path, "labels.npy", load_labels), lambda: [saved(np.save, np.array(["a", "b"]))]),
    "model": Target(partial(by_path, "model.vae", read_description), model_seeds),
    "model-config": Target(model_config, config_seeds),
    "scores-csv": Target(partial(by_path, "scores.csv", read_score_table), partial(score_seeds, "csv")),
    "scores-jsonl": Target(partial(by_path, "scores.jsonl", read_score_table), partial(score_seeds, "jsonl")),
    "scores-npy": Target(partial(by_path, "scores.npy", read_score_table), partial(score_seeds, "npy")),
    "records": Target(partial(by_path, "r.jsonl", lambda path: RecordLog(path, {"a": 1})), record_seeds),
}


def run_one(name: str, data: bytes) -> None:
    """One execution: anything but a result, `DataError` or `ModelFileError` gets out, warnings included."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", TableNote)
        warnings.simplefilter("ignore", ImageNote)
        with contextlib.suppress(DataError, ModelFileError):
            TARGETS[name].read(data)
