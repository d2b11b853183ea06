"""Model files: weights as tensors, everything else as JSON, in one safetensors file. Nothing in it can run code.

The file is a safetensors file whose metadata has the one key ``vae_anomaly``: a JSON object with
``format_version``, ``sha256`` and ``config``. The hash covers the configuration, the tensors' names, types and
shapes, and their bytes: it finds damage, but it is no signature, and whoever can write the file can write the hash.
The same model gives the same bytes. A checkpoint of a fit is such a file under another key, so that
neither is ever taken for the other.

Whoever reads a file gets a second hash with it, of the file's bytes as they were loaded: that hash identifies the model
in a `vae_anomaly.storage.run_identity.RunIdentity`.

References
----------
https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Generic, NamedTuple, TypeAlias, TypeVar, overload

from vae_anomaly.errors import ModelFileError
from vae_anomaly.storage.atomic import atomic_write
from vae_anomaly.storage.safe_reading import LARGEST, open_regular
from vae_anomaly.storage.strict_json import dumps, loads

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 3
KEYS = {"model": "vae_anomaly", "checkpoint": "vae_anomaly_checkpoint"}
MAX_HEADER_BYTES = 1 << 24  # parsed, JSON takes some twenty times its bytes
CHUNK_BYTES = 1 << 20
ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip

T = TypeVar("T")
Layout: TypeAlias = dict[str, tuple[str, tuple[int, ...]]]
"""Type, in safetensors' letters, and shape of each tensor in a file."""


class Contents(NamedTuple, Generic[T]):
    """What a file holds, and the SHA-256, in hexadecimal, of the bytes that it was read from."""

    tensors: dict[str, Tensor]
    built: T
    file_digest: str


class Description(NamedTuple):
    """A file's configuration, and the SHA-256, in hexadecimal, of the bytes that it was read from."""

    config: dict[str, Any]
    file_digest: str


@dataclass(frozen=True)
class Head:
    """What a file says before its tensors."""

    config: dict[str, Any]
    table: dict[str, Any]
    layout: Layout
    sha256: str
    start: int
    n_bytes: int


def write(path: Path, tensors: dict[str, Tensor], config: dict[str, Any], kind: str = "model") -> str:
    """Write a file of this kind, all or nothing; the configuration may hold what JSON can, and gains ``versions``.

    Returns
    -------
    str
        SHA-256 of the file, in hexadecimal.

    Raises
    ------
    ModelFileError
        If the file would be larger than `read` takes.
    OSError
        If the file cannot be written; what stood there before is untouched.
    """
    from safetensors.torch import save

    config = config | {"versions": versions()}
    unknown = "0" * 64
    about = {"format_version": FORMAT_VERSION, "sha256": unknown, "config": config}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    blob = bytearray(save(tensors, {KEYS[kind]: dumps(about)}))
    start = 8 + int.from_bytes(blob[:8], "little")
    # the last such zeros before the data: keys are sorted, so any in the configuration come before the hash
    if start - 8 > MAX_HEADER_BYTES or len(blob) > LARGEST:
        raise ModelFileError(
            f"{path} would have {len(blob):,} bytes, {start - 8:,} of them names and history: at most {LARGEST:,} and "
            f"{MAX_HEADER_BYTES:,} could be read again; use fewer features or shorter names"
        )
    place = blob.rindex(unknown.encode(), 0, start)
    blob[place : place + 64] = digest(config, loads(blob[8:start]), [memoryview(blob)[start:]]).encode()
    with atomic_write(path, private=kind == "checkpoint") as file:
        file.write(blob)
    return hashlib.sha256(blob).hexdigest()


def read_config(path: Path, kind: str = "model") -> Description:
    """The configuration alone, after checking the whole file a mebibyte at a time; needs neither torch nor NumPy.

    Raises
    ------
    ModelFileError
        If the file is not a model file, is damaged, or comes from a later version.
    OSError
        If it cannot be read.
    """
    with open_regular(path) as file:
        head = read_head(file, path, kind)
        file.seek(0)
        whole = hashlib.sha256(file.read(head.start))
        check_digest(head, hashed(iter(partial(file.read, CHUNK_BYTES), b""), whole), path)
    return Description(head.config, whole.hexdigest())


def config_of(config: dict[str, Any], layout: Layout) -> dict[str, Any]:
    """What `read` builds by default: the configuration itself."""
    return config


@overload
def read(path: Path, *, kind: str = ...) -> Contents[dict[str, Any]]: ...
@overload
def read(path: Path, build: Callable[[dict[str, Any], Layout], T], kind: str = ...) -> Contents[T]: ...
def read(path: Path, build: Callable[[dict[str, Any], Layout], Any] = config_of, kind: str = "model") -> Contents[Any]:
    """Everything in a file; ``build`` gets configuration and layout before memory is taken for a tensor.

    It may refuse them by a `ModelFileError`.

    Needs up to three times the file's size, which is at most 4 GiB; raises as `read_config`, what ``build`` raises, and
    a `ModelFileError` for a tensor that holds NaN or infinity.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    with open_regular(path) as file:
        head = read_head(file, path, kind)
        built = build(head.config, head.layout)
        file.seek(0)
        blob = file.read(head.start + head.n_bytes)
    check_digest(head, [memoryview(blob)[head.start :]], path)
    try:
        tensors = load(blob)
    except SafetensorError as error:
        raise ModelFileError(f"{path} is damaged: {error}") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ModelFileError(f"{path} is not usable: its {name} holds NaN or infinity")
    return Contents(tensors, built, hashlib.sha256(blob).hexdigest())


def read_head(file: IO[bytes], path: Path, kind: str = "model") -> Head:
    """Read what comes before the tensors, and check that the file is as long as it says."""
    n_file = os.fstat(file.fileno()).st_size
    size = int.from_bytes(file.read(8), "little")
    if n_file < 8 or not 2 <= size <= n_file - 8:
        raise ModelFileError(f"{path} is not a {kind} file, or is cut short ({n_file} bytes)")
    if size > MAX_HEADER_BYTES or n_file > LARGEST:
        raise ModelFileError(
            f"{path} has {n_file:,} bytes, {size:,} of them header: "
            f"at most {LARGEST:,} and {MAX_HEADER_BYTES:,} are read"
        )
    table, config, sha256 = parsed_header(file.read(size), path, kind)
    try:
        layout = layout_of(table, n_file - 8 - size)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path} is damaged: its table of tensors is wrong ({error})") from error
    return Head(config, table, layout, sha256, 8 + size, n_file - 8 - size)


def parsed_header(header: bytes, path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Table of tensors, configuration and hash in the header of a file of this kind."""
    try:
        table = loads(header)
    except ValueError as error:
        raise ModelFileError(f"{path} is not a {kind} file: its header is not JSON ({error})") from error
    if not isinstance(table, dict):
        raise ModelFileError(f"{path} is not a {kind} file: its header is not a JSON object")
    entries = table.pop("__metadata__", None)
    text = entries.get(KEYS[kind]) if isinstance(entries, dict) else None
    if not isinstance(text, str):
        raise ModelFileError(f"{path} is a safetensors file, but not a {kind} that vae-anomaly wrote")
    return table, *description(text, path)


def read_claim(path: Path, kind: str) -> dict[str, Any]:
    """The configuration that a file's header states, with nothing compared: also that of one cut short.

    Raises
    ------
    ModelFileError
        If it is not the header of a file of this kind.
    OSError
        If it cannot be read, or is no regular file.
    """
    with open_regular(path) as file:
        size = int.from_bytes(file.read(8), "little")
        return parsed_header(file.read(min(size, MAX_HEADER_BYTES)), path, kind)[1]


def description(text: str, path: Path) -> tuple[dict[str, Any], str]:
    """Configuration and hash in the metadata of a file of this format's version."""
    try:
        about = loads(text)
        version, sha256, config = about["format_version"], about["sha256"], about["config"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path} is damaged: its description cannot be read ({error!r})") from error
    if type(version) is not int or version < 1:
        raise ModelFileError(f"{path} is damaged: format version {version!r}")
    if version > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} has format version {version}, this vae-anomaly reads up to {FORMAT_VERSION}: upgrade vae-anomaly"
        )
    if version < FORMAT_VERSION:
        raise ModelFileError(
            f"{path} has format version {version}, from before scores had the likelihood that version "
            f"{FORMAT_VERSION} stores: fit the model again"
        )
    if not isinstance(config, dict) or not isinstance(sha256, str):
        raise ModelFileError(f"{path} is damaged: its description is incomplete")
    if dumps(about) != text:  # such as a changed last digit that is read as the same number
        raise ModelFileError(f"{path} was damaged or altered: its description is not as it was written")
    return config, sha256


def layout_of(table: dict[str, Any], n_bytes: int) -> Layout:
    """Types and shapes in safetensors' table; the tensors must fill the rest of the file one after another."""
    layout: Layout = {}
    spans = []
    for name, entry in table.items():
        kind, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not all(type(number) is int and number >= 0 for number in (*shape, start, end)):
            raise ValueError(f"{name} has shape {shape} at {start} to {end}")
        if ITEM_BYTES[kind] * math.prod(shape) != end - start:
            raise ValueError(f"{name}, {kind} of shape {shape}, does not take {end - start} bytes")
        layout[name] = kind, tuple(shape)
        spans.append((start, end))
    spans.sort()
    if [start for start, _ in spans] + [n_bytes] != [0] + [end for _, end in spans]:
        raise ValueError(f"its tensors do not fill {n_bytes} bytes")
    return layout


def check_digest(head: Head, chunks: Iterable[bytes | memoryview], path: Path) -> None:
    """Compare the hash of a file's content with the one that it states."""
    found = digest(head.config, head.table, chunks)
    if head.sha256 != found:
        raise ModelFileError(f"{path} was damaged or altered: SHA-256 {found}, expected {head.sha256[:64]}")


def hashed(chunks: Iterable[bytes], sha: hashlib._Hash) -> Iterator[bytes]:
    """The chunks, each added to a hash as it passes."""
    for chunk in chunks:
        sha.update(chunk)
        yield chunk


def digest(config: Any, table: dict[str, Any], chunks: Iterable[bytes | memoryview]) -> str:
    """SHA-256 over configuration, tensor table and tensor bytes, in hexadecimal."""
    table = {name: entry for name, entry in table.items() if name != "__metadata__"}
    described = dumps({"config": config, "tensors": table}).encode()
    sha = hashlib.sha256(len(described).to_bytes(8, "little") + described)
    for chunk in chunks:
        sha.update(chunk)
    return sha.hexdigest()


def versions() -> dict[str, str]:
    """Versions of what makes a model."""
    import platform
    from importlib import metadata

    names = ("vae-anomaly", "torch", "numpy", "scikit-learn")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in names}
