"""Data made to harm: each file is refused with one sentence, at once, and without the memory that it asks for."""

from __future__ import annotations

import gzip
import json
import os
import socket
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vae_anomaly.datasets import chunks, idx, load_file, load_labels
from vae_anomaly.errors import DataError
from vae_anomaly.storage.strict_json import loads

GIB = 1 << 30
MAKERS: dict[str, tuple[Callable[[Path], object], str]] = {}


def hostile(name: str, message: str) -> Callable[[Callable[[Path], object]], Callable[[Path], object]]:
    """Register what writes a file of this name that must be refused with this message."""

    def register(make: Callable[[Path], object]) -> Callable[[Path], object]:
        MAKERS[f"{make.__name__}.{name}"] = (make, message)
        return make

    return register


def npy(shape: str, descr: str = "'<f8'", data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    """A ``.npy`` file with any header."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY" + version + struct.pack("<H" if version[0] == 1 else "<I", len(header)) + header + data


HEADERS = {
    "rows": (npy(f"({2**60}, 1)"), "cut short: its header asks for 9223372036854775808 bytes"),
    "wrapping": (npy(f"({2**32}, {2**32})"), "cut short"),
    "negative": (npy("(-1, 3)"), "not a readable NumPy file"),
    "nothing_each": (npy(f"({2**60},)", "'|S0'"), "not a readable NumPy file"),
    "nested": (npy("(" * 5000), "not a readable NumPy file"),
    "long_header": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "not a readable NumPy file"),
    "python_2": (npy("(1L, 1L)", data=bytes(8)), "not a readable NumPy file"),
    "code": (npy("__import__('os').abort()"), "not a readable NumPy file"),
    "objects": (npy("(1, 1)", "'|O'", bytes(8)), "never read: save plain numbers"),
    "type": (npy("(1, 1)", "[('a', '<f8', 3.5)]", bytes(8)), "not a readable NumPy file"),
    "version": (npy("(1, 1)", data=bytes(8), version=b"\x03\x00"), "format version 3.0"),
}
for _name, (_content, _message) in HEADERS.items():
    MAKERS[f"{_name}.npy"] = (lambda path, content=_content: path.write_bytes(content), _message)
    MAKERS[f"{_name}.npz"] = (lambda path, content=_content: zipped(path, {"X.npy": content}), _message)


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def claim(path: Path, size: int) -> None:
    """Let an archive's directory say that its last member has this size."""
    blob = bytearray(path.read_bytes())
    at = blob.rindex(b"PK\x01\x02") + 24
    blob[at : at + 4] = struct.pack("<I", size)
    path.write_bytes(blob)


@hostile("npz", "cut short after")
def bomb(path: Path) -> None:
    zipped(path, {"X.npy": npy(f"({4 * GIB - 256}, 1)", "'|u1'", bytes(8 << 20))})
    claim(path, 4 * GIB - 128)


@hostile("npz", "at most 4,294,967,296 are read")
def larger(path: Path) -> None:
    extra = struct.pack("<HHQ", 1, 8, 5 * GIB)
    zipped(path, {"X.npy": npy("(1, 1)", data=bytes(8))})
    claim(path, 0xFFFF_FFFF)
    blob = bytearray(path.read_bytes())
    entry = blob.rindex(b"PK\x01\x02")
    end = blob.rindex(b"PK\x05\x06")
    blob[entry + 30 : entry + 32] = struct.pack("<H", len(extra))
    blob[end + 12 : end + 16] = struct.pack("<I", end - entry + len(extra))
    path.write_bytes(blob[:end] + extra + blob[end:])


@hostile("npz", "CRC")
def wrong_checksum(path: Path) -> None:
    zipped(path, {"X.npy": npy("(1, 1)", data=bytes(8))})
    blob = bytearray(path.read_bytes())
    at = blob.rindex(b"PK\x01\x02") + 16
    blob[at] ^= 1
    path.write_bytes(blob)


@hostile("npz", "above a mebibyte")
def directory(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(20_000):
            archive.writestr(f"{i:060}", b"")


@hostile("npz", "compression method 14")
def dictionary(path: Path) -> None:
    zipped(path, {"X.npy": npy("(1, 1)", data=bytes(8))}, zipfile.ZIP_LZMA)


@hostile("npz", r"found: ../X, /X, C:\\X")
def escaping(path: Path) -> None:
    zipped(path, dict.fromkeys(("../X.npy", "/X.npy", "C:\\X.npy"), npy("(1, 1)", data=bytes(8))))


@hostile("npz", "not a readable NumPy file|cut short|never read")
def symbolic_link(path: Path) -> None:
    info = zipfile.ZipInfo("X.npy")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "/etc/passwd")


@hostile("csv", "first line has over")
def endless_line(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(GIB)


@hostile("csv", "first line has over|more than 131,072 columns")
def columns(path: Path) -> None:
    path.write_bytes(b"1," * 1_000_000 + b"1\n")


@hostile("csv", "holds bytes that are no text")
def second_line(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"a,b\n1,")
        file.truncate(GIB)


@hostile("csv", "on average, or a quoted one does not end")
def open_quote(path: Path) -> None:
    path.write_bytes(b'a,b\n1,"' + b"\n" * (40 << 20))


@hostile("csv", "field larger than field limit")
def field(path: Path) -> None:
    path.write_bytes(b"x" * 200_000 + b",b\n1,2\n")


@hostile("parquet", None)
def repeated_text(path: Path) -> None:
    values = pa.DictionaryArray.from_arrays(pa.array(np.zeros(20_000, np.int32)), ["x" * (1 << 20)])
    pq.write_table(pa.table({"a": values}), path)


@hostile("parquet", "- a: list")
def nested_column(path: Path) -> None:
    pq.write_table(pa.table({"a": [[1.0] * 1000] * 1000}), path)


@hostile("parquet", "nested too deeply")
def nested_metadata(path: Path) -> None:
    pq.write_table(pa.table({"a": [1.0]}).replace_schema_metadata({"pandas": "[" * 100_000}), path)


@hostile("parquet", "two of one name")
def twins(path: Path) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0])], ["a", "a"]), path)


@hostile("d", "10000000000 pixels. exceeds limit")
def enormous(path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    path.mkdir()
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
    (path / "a.png").write_bytes(png + chunk(b"IEND", b""))


@hostile("d", "cannot be read as an image .cannot identify image file")
def postscript(path: Path) -> None:
    path.mkdir()
    (path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nquit\n")


@hostile("d", "a link that leads out of")
def leading_out(path: Path) -> None:
    path.mkdir()
    Image.new("L", (9, 8)).save(path.parent / "outside.png")
    (path / "a.png").symlink_to("../outside.png")


@hostile("d", "a link that leads out of")
def class_leading_out(path: Path) -> None:
    path.mkdir()
    (path / "class").symlink_to("/")


@hostile("d", "holds no images")
def pipes_and_loops(path: Path) -> None:
    path.mkdir()
    os.mkfifo(path / "a.png")
    (path / "b.png").symlink_to("b.png")
    (path / "c").symlink_to("c")


for _suffix in ("npy", "npz", "csv", "parquet"):
    MAKERS[f"pipe.{_suffix}"] = (os.mkfifo, "a pipe, a socket or a device, not a regular file")
    MAKERS[f"device.{_suffix}"] = (lambda path: path.symlink_to("/dev/zero"), "a pipe, a socket or a device")


@pytest.mark.parametrize("name", MAKERS)
def test_it_is_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    make, message = MAKERS[name]
    make(tmp_path / name)
    if message is None:  # it can be read
        return
    for read in (load_file, lambda path: list(chunks(path, 100))):
        with pytest.raises(DataError, match=message) as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value).replace("drop them:\n- a: ", "")


MEASURE = """
import resource, sys
import pandas, pyarrow.parquet
from PIL import Image
from vae_anomaly.datasets import chunks, load_file
from vae_anomaly.errors import DataError
Image.init()
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in map(__import__("pathlib").Path, sys.argv[1:]):
    for read in (load_file, lambda path: list(chunks(path, 1 << 20))):
        before = peak()
        try:
            read(path)
        except DataError:
            pass
        print(path.name, (peak() - before) >> 10)
"""


def test_none_takes_the_memory_that_it_asks_for(tmp_path: Path) -> None:
    for name, (make, _) in MAKERS.items():
        make(tmp_path / name)
    command = [sys.executable, "-P", "-c", MEASURE, *(str(tmp_path / name) for name in MAKERS)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    grown = [(name, int(mebibytes)) for name, mebibytes in map(str.split, result.stdout.splitlines())]
    assert len(grown) == 2 * len(MAKERS)
    assert max(mebibytes for _, mebibytes in grown) < 400, sorted(grown, key=lambda row: -row[1])[:5]


def test_a_socket_is_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.npy")
        with pytest.raises(DataError, match="s.npy cannot be read"):
            load_file(Path("s.npy"))


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
@pytest.mark.parametrize("suffix", ["npy", "csv"])
def test_labels_are_no_pipe_and_no_device(tmp_path: Path, make: Callable[[Path], object], suffix: str) -> None:
    make(tmp_path / f"labels.{suffix}")
    with pytest.raises(DataError, match="a pipe, a socket or a device"):
        load_labels(tmp_path / f"labels.{suffix}")


def test_labels_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    with path.open("wb") as file:
        file.truncate(GIB)
    with pytest.raises(DataError, match="has more than 67,108,864 bytes"):
        load_labels(path)
    path.write_text("x" * 100_000 + "\ny" * 100_000)
    with pytest.raises(DataError, match="labels of up to 100,000 characters are too long"):
        load_labels(path)
    path.write_text('"open\n' * 3)
    with pytest.raises(DataError, match="not a CSV file in UTF-8"):
        load_labels(path)


def test_text_that_is_no_text_is_no_label(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.array([0x7327_0061, 1], "<u4").view("<U1"))
    with pytest.raises(DataError, match="labels cannot be read"):
        load_labels(tmp_path / "labels.npy")


def test_a_gzip_bomb_is_not_decompressed(tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(bytes(idx.LARGEST + 1)))
    with pytest.raises(DataError, match="more than 67108864 bytes when decompressed"):
        idx.read_bytes(path)
    path.write_bytes(gzip.compress(bytes(1000), mtime=0))
    assert idx.read_bytes(path) == bytes(1000)
    with path.open("wb") as file:
        file.truncate(GIB)
    with pytest.raises(DataError, match="has more than 67,108,864 bytes"):
        idx.read_bytes(path)


def test_what_archives_hold_beside_the_data_does_not_matter(tmp_path: Path) -> None:
    X = np.arange(6.0).reshape(2, 3)
    np.savez_compressed(tmp_path / "a.npz", X=np.asfortranarray(X), y=np.array([0, 1]))
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("../../etc/passwd", "root")
        archive.writestr("z.npy", npy(f"({2**60},)"))
    data = load_file(tmp_path / "a.npz")
    np.testing.assert_array_equal(data.X, X)
    assert data.labels.tolist() == ["0", "1"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_links_inside_a_folder_are_followed(tmp_path: Path) -> None:
    Image.new("L", (9, 8), 7).save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("a.png")
    assert len(load_file(tmp_path)) == 2


def test_a_name_that_is_not_text_is_escaped(tmp_path: Path) -> None:
    Image.new("L", (9, 8)).save(tmp_path / "a.png")
    os.rename(tmp_path / "a.png", os.fsencode(tmp_path) + b"/\xff.png")
    assert load_file(tmp_path).row_names == ("\\xff.png",)


def test_a_pandas_index_is_no_feature(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [4.0, 5.0, 6.0]})
    for index in (frame.index, [5, 6, 7], pd.Index(["x", "y", "z"], name="who")):
        frame.set_axis(index).to_parquet(tmp_path / "a.parquet")
        data = load_file(tmp_path / "a.parquet")
        np.testing.assert_array_equal(data.X, frame)
        assert data.feature_names == ("a", "b")


@pytest.mark.parametrize("suffix", ["npy", "npz", "csv", "parquet"])
@pytest.mark.parametrize("first_row", [0, 1, 9, 10, 11, 25, 30, 31])
def test_reading_may_begin_at_any_row(tmp_path: Path, suffix: str, first_row: int) -> None:
    X = np.arange(60.0).reshape(30, 2)
    path = tmp_path / f"data.{suffix}"
    if suffix == "npy":
        np.save(path, X)
    elif suffix == "npz":
        np.savez(path, X=X)
    else:
        frame = pd.DataFrame(X, columns=["a", "b"])
        frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path, row_group_size=10)
    parts = [part.X.copy() for part in chunks(path, 7, first_row=first_row)]
    np.testing.assert_array_equal(np.concatenate([np.empty((0, 2)), *parts]), X[first_row:])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "a key comes twice"),
        ('[{"a": {"b": 1, "b": 1}}]', "a key comes twice"),
        ("NaN", "no finite number"),
        ("-Infinity", "no finite number"),
        ("1e999", "no finite number"),
        ("1" * 5000, "beyond 64 bits"),
        ("9223372036854775808", "beyond 64 bits"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("{", "Expecting"),
    ],
)
def test_json_is_strict(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loads(text)


def test_json_that_is_fine_is_read_as_ever() -> None:
    value = {"a": [1, -(2**63), 2**63 - 1, 0.1, -1e308, True, None, "é\u202e"], "b": {}}
    assert loads(json.dumps(value)) == value
