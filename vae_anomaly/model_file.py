"""Model files: weights as tensors, everything else as JSON, in one safetensors file. Nothing in it can run code.

The file is a safetensors file whose metadata has the one key ``vae_anomaly``: a JSON object with
``format_version``, ``sha256`` and ``config``. The hash covers the configuration, the tensors' names, types and
shapes, and their bytes: it finds damage, but it is no signature, and whoever can write the file can write the hash.
The same model gives the same bytes. A checkpoint of a fit is such a file under another key, so that
neither is ever taken for the other.

References
----------
https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_anomaly.atomic import atomic_write
from vae_anomaly.errors import ModelFileError

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 2
KEYS = {"model": "vae_anomaly", "checkpoint": "vae_anomaly_checkpoint"}
MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit


def write(path: Path, tensors: dict[str, Tensor], config: dict[str, Any], kind: str = "model") -> None:
    """Write a file of this kind, all or nothing; the configuration may hold what JSON can, and gains ``versions``.

    Raises
    ------
    OSError
        If the file cannot be written; what stood there before is untouched.
    """
    from safetensors.torch import save

    config = config | {"versions": versions()}
    unknown = "0" * 64
    about = {"format_version": FORMAT_VERSION, "sha256": unknown, "config": config}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    blob = bytearray(save(tensors, {KEYS[kind]: dumps(about)}))
    header, data = split(blob, path, kind)
    # the last zeros before the data: keys are sorted, so what the configuration says comes before the hash
    start = blob.rindex(unknown.encode(), 0, len(blob) - len(data))
    blob[start : start + 64] = digest(config, header, data).encode()
    with atomic_write(path) as file:
        file.write(blob)


def read_config(path: Path) -> dict[str, Any]:
    """The configuration alone, after checking the whole file; needs neither torch nor NumPy.

    Raises
    ------
    ModelFileError
        If the file is not a model file, is damaged, or comes from a later version.
    OSError
        If it cannot be read.
    """
    return parse(path)[0]


def read(path: Path, kind: str = "model") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and configuration; raises as `read_config`."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    config, blob = parse(path, kind)
    try:
        return load(blob), config
    except SafetensorError as error:
        raise ModelFileError(f"{path} is damaged: {error}") from error


def parse(path: Path, kind: str = "model") -> tuple[dict[str, Any], bytes]:
    """Configuration and raw bytes of a file whose hash and version are right."""
    blob = path.read_bytes()
    header, data = split(blob, path, kind)
    entries = header.get("__metadata__")
    text = entries.get(KEYS[kind]) if isinstance(entries, dict) else None
    if not isinstance(text, str):
        raise ModelFileError(f"{path} is a safetensors file, but not a {kind} that vae-anomaly wrote")
    try:
        about = loads(text)
        version, expected, config = about["format_version"], about["sha256"], about["config"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged: its description cannot be read ({error!r})") from error
    if not isinstance(version, int) or version < 1:
        raise ModelFileError(f"{path} is damaged: format version {version!r}")
    if version > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} has format version {version}, this vae-anomaly reads up to {FORMAT_VERSION}: upgrade vae-anomaly"
        )
    if version < FORMAT_VERSION:
        raise ModelFileError(
            f"{path} has format version {version}, from before scores had the prior and the likelihood that version "
            f"{FORMAT_VERSION} stores: fit the model again"
        )
    found = digest(config, header, data)
    if not isinstance(config, dict) or expected != found:
        raise ModelFileError(f"{path} was damaged or altered: SHA-256 {found}, expected {expected}")
    return config, blob


def split(blob: bytes | bytearray, path: Path, kind: str) -> tuple[dict[str, Any], memoryview]:
    """The JSON header and the tensors' bytes of a safetensors file."""
    size = int.from_bytes(blob[:8], "little")
    if len(blob) < 8 or not 2 <= size <= min(MAX_HEADER_BYTES, len(blob) - 8):
        raise ModelFileError(f"{path} is not a {kind} file, or is cut short ({len(blob)} bytes)")
    try:
        header = loads(blob[8 : 8 + size])
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is not a {kind} file: its header is not JSON") from error
    if not isinstance(header, dict):
        raise ModelFileError(f"{path} is not a {kind} file: its header is not a JSON object")
    return header, memoryview(blob)[8 + size :]


def digest(config: Any, header: dict[str, Any], data: memoryview) -> str:
    """SHA-256 over configuration, tensor table and tensor bytes, in hexadecimal."""
    table = {name: entry for name, entry in header.items() if name != "__metadata__"}
    described = dumps({"config": config, "tensors": table}).encode()
    return hashlib.sha256(len(described).to_bytes(8, "little") + described + data).hexdigest()


def loads(text: str | bytes | bytearray) -> Any:
    """Strict JSON: what is not a finite number is refused, as `dumps` refuses to write it."""

    def finite(number: str) -> float:
        if not math.isfinite(value := float(number)):
            raise ValueError(f"{number} is no finite number")
        return value

    return json.loads(text, parse_constant=finite, parse_float=finite)


def dumps(value: Any) -> str:
    """JSON in one canonical form, NumPy's numbers included; floats come back to the bit."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=lambda v: v.item())


def versions() -> dict[str, str]:
    """Versions of what makes a model."""
    import platform
    from importlib import metadata

    names = ("vae-anomaly", "torch", "numpy", "scikit-learn")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in names}
