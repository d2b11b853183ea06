"""Data sets by name: strict IDX, and downloads from a server that misbehaves."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae_anomaly.datasets import NAMED, download, idx, load_named, locate, named
from vae_anomaly.errors import DataError, DataUnavailableError


def idx_bytes(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()


RNG = np.random.default_rng(0)
CONTENT = {
    file: idx_bytes(
        RNG.integers(0, 256, (n, 28, 28), dtype=np.uint8) if "images" in file else np.arange(n, dtype=np.uint8) % 10
    )
    for file, n in zip(named.FILES, (30, 30, 20, 20), strict=True)
}
GZIPPED = {file: gzip.compress(content, mtime=0) for file, content in CONTENT.items()}


class Server:
    """A mirror on 127.0.0.1; ``faults`` maps a file to what goes wrong, in the order of the requests."""

    def __init__(self) -> None:
        self.faults: dict[str, list[str]] = {}
        self.requests: Counter[str] = Counter()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                file = self.path.removeprefix("/").removesuffix(".gz")
                outer.requests[file] += 1
                queue = outer.faults.get(file, [])
                fault = queue[0] if queue and queue[0].endswith("!") else queue.pop(0) if queue else "fine"
                body = GZIPPED[file]
                if fault == "500!":
                    self.send_error(500)
                    return
                if fault == "corrupt!":
                    body = gzip.compress(CONTENT[file][:-1] + b"\x01", mtime=0)
                if fault == "garbage!":
                    body = b"\x1f\x8b" + bytes(range(200))
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                try:
                    if fault.startswith("truncate"):
                        self.wfile.write(body[: len(body) // 2])
                    elif fault.startswith("stall"):
                        self.wfile.write(body[: len(body) // 2])
                        self.wfile.flush()
                        time.sleep(1.5)
                    else:
                        self.wfile.write(body)
                except (BrokenPipeError, ConnectionResetError):
                    pass

            def log_message(self, *args: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def mirrors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., list[Server]]]:
    """A function that starts n mirrors and makes MNIST come from them, into an empty cache."""
    servers: list[Server] = []

    def start(n: int, *, hash_of_gzip: bool = False) -> list[Server]:
        servers.extend(Server() for _ in range(n))
        content = GZIPPED if hash_of_gzip else CONTENT
        fake = replace(
            NAMED["mnist"],
            mirrors=tuple(server.url for server in servers),
            sha256={file: hashlib.sha256(data).hexdigest() for file, data in content.items()},
            hash_of_gzip=hash_of_gzip,
        )
        monkeypatch.setitem(NAMED, "mnist", fake)
        return servers

    monkeypatch.setenv(named.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(named.DATA_DIR_VARIABLE, raising=False)
    monkeypatch.setattr(download, "READ_TIMEOUT", 0.5)
    yield start
    for server in servers:
        server.http.shutdown()
        server.http.server_close()


def files_on_disk(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())


ALL = sorted(f"{file}.gz" for file in named.FILES)


@pytest.mark.parametrize("hash_of_gzip", [False, True])
def test_downloads_once_and_reads_from_the_cache(mirrors, tmp_path: Path, hash_of_gzip: bool) -> None:
    (server,) = mirrors(1, hash_of_gzip=hash_of_gzip)
    training, test = load_named("mnist")
    assert training.X.shape == (30, 28, 28)
    assert idx_bytes(training.X) == CONTENT["train-images-idx3-ubyte"]
    assert test.labels is not None
    assert test.labels.tolist() == [str(i % 10) for i in range(20)]
    assert files_on_disk(tmp_path) == ALL
    before = sum(server.requests.values())
    load_named("mnist")
    assert sum(server.requests.values()) == before


@pytest.mark.parametrize("fault", ["truncate", "stall"])
def test_a_passing_fault_is_tried_again(mirrors, tmp_path: Path, fault: str) -> None:
    (server,) = mirrors(1)
    server.faults = {"t10k-images-idx3-ubyte": [fault]}
    assert len(load_named("mnist")[1]) == 20
    assert files_on_disk(tmp_path) == ALL


@pytest.mark.parametrize("fault", ["truncate!", "stall!", "500!", "corrupt!", "garbage!"])
def test_a_broken_mirror_is_passed_over(mirrors, tmp_path: Path, fault: str) -> None:
    first, second = mirrors(2)
    first.faults = {"train-labels-idx1-ubyte": [fault]}
    assert len(load_named("mnist")[0]) == 30
    assert second.requests["train-labels-idx1-ubyte"] == 1
    assert files_on_disk(tmp_path) == ALL


@pytest.mark.parametrize("fault", ["truncate!", "stall!", "500!", "garbage!"])
def test_without_a_good_mirror_the_data_is_unavailable_and_nothing_is_kept(mirrors, tmp_path: Path, fault: str) -> None:
    for server in mirrors(2):
        server.faults = {"train-images-idx3-ubyte": [fault]}
    with pytest.raises(DataUnavailableError, match="mnist is not on disk and could not be downloaded"):
        load_named("mnist")
    assert files_on_disk(tmp_path) == []


@pytest.mark.parametrize("hash_of_gzip", [False, True])
def test_a_wrong_hash_is_an_error_with_both_hashes_and_nothing_is_kept(
    mirrors, tmp_path: Path, hash_of_gzip: bool
) -> None:
    (server,) = mirrors(1, hash_of_gzip=hash_of_gzip)
    server.faults = {"train-images-idx3-ubyte": ["corrupt!"]}
    expected = NAMED["mnist"].sha256["train-images-idx3-ubyte"]
    with pytest.raises(DataError, match=f"has SHA-256 [0-9a-f]{{64}}, expected {expected}: nothing was kept") as info:
        load_named("mnist")
    assert not isinstance(info.value, DataUnavailableError)
    assert files_on_disk(tmp_path) == []


def test_what_came_through_is_kept_and_only_the_rest_fetched(mirrors, tmp_path: Path) -> None:
    (server,) = mirrors(1)
    server.faults = {"t10k-labels-idx1-ubyte": ["500!"]}
    with pytest.raises(DataUnavailableError):
        load_named("mnist")
    assert files_on_disk(tmp_path) == [name for name in ALL if name != "t10k-labels-idx1-ubyte.gz"]
    server.faults, server.requests = {}, Counter()
    load_named("mnist")
    assert set(server.requests) == {"t10k-labels-idx1-ubyte"}


def test_an_unreachable_network_is_noticed_at_once(mirrors, monkeypatch: pytest.MonkeyPatch) -> None:
    mirrors(1)
    closed = "http://127.0.0.1:9/"  # nothing listens
    monkeypatch.setitem(NAMED, "mnist", replace(NAMED["mnist"], mirrors=(closed, closed + "other/")))
    with pytest.raises(DataUnavailableError, match="ConnectionError"):
        load_named("mnist")


def test_a_hanging_name_lookup_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def hang(*args: object, **kwargs: object) -> None:
        release.wait(30)
        raise download.requests.ConnectionError

    monkeypatch.setattr(download.requests, "get", hang)
    monkeypatch.setattr(download, "PROBE_TIMEOUT", 0.2)
    try:
        assert download.probe(["http://a.invalid/"], "x") == {"http://a.invalid/": "no answer within 0.2 s"}
    finally:
        release.set()


@pytest.fixture
def folder(mirrors, tmp_path: Path) -> Path:
    mirrors(1)
    place = tmp_path / "data" / "mnist"
    place.mkdir(parents=True)
    for i, file in enumerate(named.FILES):  # both forms, side by side
        path = place / (file if i % 2 else f"{file}.gz")
        path.write_bytes(CONTENT[file] if i % 2 else GZIPPED[file])
    return place


def test_a_data_folder_comes_first_plain_or_compressed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate("mnist") is None
    training, _ = load_named("mnist", folder.parent)
    assert training.source == f"mnist ({folder})"
    monkeypatch.setenv(named.DATA_DIR_VARIABLE, str(folder.parent))
    assert locate("mnist") == folder
    assert load_named("mnist")[0].source == training.source


def test_a_data_folder_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data-dir names .*nowhere, which is not a folder"):
        locate("mnist", tmp_path / "nowhere")
    monkeypatch.setenv(named.DATA_DIR_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="VAE_ANOMALY_DATA names"):
        load_named("mnist")


def test_another_file_under_the_right_name_is_refused(folder: Path) -> None:
    other = idx_bytes(np.zeros((30, 28, 28), np.uint8))
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(other))
    with pytest.raises(DataError, match="is not the file its name says: SHA-256"):
        load_named("mnist", folder.parent)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "cut short: its header"),
        (lambda data: data + b"x", "too long: its header"),
        (lambda data: data[:9], "cut short inside its header"),
        (lambda data: b"", "magic number , expected 00000803"),
        (lambda data: b"\x00\x00\x0d\x03" + data[4:], "magic number 00000d03"),
        (lambda data: data[:4] + b"\xff\xff\xff\xff" + data[8:], "asks for 3367254359280 bytes"),
        (lambda data: gzip.compress(data)[:-9], "damaged gzip file"),
        (lambda data: gzip.compress(data)[:40] + b"\x00" * 40, "damaged gzip file"),
    ],
)
def test_a_malformed_idx_file_is_a_clear_error(folder: Path, change: Callable[[bytes], bytes], message: str) -> None:
    (folder / "train-images-idx3-ubyte.gz").write_bytes(change(CONTENT["train-images-idx3-ubyte"]))
    with pytest.raises(DataError, match=message):
        load_named("mnist", folder.parent)


@given(st.binary(max_size=64), st.integers(1, 3))
def test_any_bytes_parse_or_are_refused(data: bytes, ndim: int) -> None:
    try:
        array = idx.parse(data, ndim, "here")
    except DataError:
        return
    assert idx_bytes(array) == data


def test_digits_are_always_there() -> None:
    training, test = load_named("digits")
    assert (len(training), len(test)) == (1198, 599)
    assert training.X.shape[1:] == (8, 8)
    assert training.X.dtype == np.float32
    assert set(training.labels) == set(test.labels) == set("0123456789")


def test_mnist_is_the_real_one() -> None:
    if locate("mnist") is None:
        pytest.skip("MNIST is not on disk")
    training, test = load_named("mnist")
    assert (training.X.shape, test.X.shape) == ((60_000, 28, 28), (10_000, 28, 28))
    assert np.bincount(training.labels.astype(int)).tolist()[:3] == [5923, 6742, 5958]
