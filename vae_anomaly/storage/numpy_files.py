"""NumPy files, read within bounds: what a header claims is compared with what the file can hold.

Nothing is unpickled. A ``.npy`` file is mapped, so its size on disk is its bound; an array of an ``.npz`` has at most
`vae_anomaly.storage.safe_reading.LARGEST` bytes.
"""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vae_anomaly.errors import DataError
from vae_anomaly.storage.safe_reading import LARGEST, SmallReads, open_data, parsing

HEADER_BYTES = 12 + 10_000  # magic, version and length, then as much as NumPy itself reads of a header
PICKLED = "holds Python objects (or is no NumPy file), which could run code and are never read: save plain numbers"


class NpyHeader(NamedTuple):
    """What a ``.npy`` file says of its array, and where its elements begin."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    order: str
    offset: int

    @property
    def n_bytes(self) -> int:
        """Bytes of all elements."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy_header(head: bytes, size: int, source: str) -> NpyHeader:
    """Read the header of a ``.npy`` file.

    Parameters
    ----------
    head
        The first `HEADER_BYTES` of the file, or all of it.
    size
        Bytes in the file.
    source
        What to call it in errors.

    Raises
    ------
    DataError
        If this is no such header, or it announces Python objects or more bytes than the file has.
    """
    if not head.startswith(np.lib.format.MAGIC_PREFIX):
        raise DataError(f"{source}: {PICKLED}" if head else f"{source}: is empty, not a NumPy file")
    file = io.BytesIO(head)
    with parsing(f"{source}: not a readable NumPy file"), warnings.catch_warnings():
        warnings.simplefilter("error")
        version = np.lib.format.read_magic(file)
        if version > (2, 0):
            raise ValueError(f"format version {version[0]}.{version[1]}")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise DataError(f"{source}: {PICKLED}")
    if dtype.itemsize == 0 or any(side < 0 for side in shape):
        raise DataError(f"{source}: not a readable NumPy file (type {dtype}, shape {shape})")
    header = NpyHeader(tuple(map(int, shape)), dtype, "F" if fortran else "C", file.tell())
    if header.n_bytes > size - header.offset:
        raise DataError(
            f"{source}: cut short: its header asks for {header.n_bytes} bytes of data, it has {size - header.offset}"
        )
    return header


def open_npy(path: Path) -> np.ndarray:
    """A ``.npy`` array, mapped into memory; raises as `read_npy_header`."""
    with open_data(path) as file, parsing(f"{path}: not a readable NumPy file"):
        header = read_npy_header(file.read(HEADER_BYTES), path.stat().st_size, str(path))
        if not header.n_bytes:
            return np.empty(header.shape, header.dtype)
        array: np.ndarray = np.memmap(file, header.dtype, "r", header.offset, header.shape, header.order)  # type: ignore[call-overload]
        return array


def read_npz(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Those of the named arrays that an ``.npz`` file has.

    Nothing is extracted, so names in the archive lead nowhere. Only what ``numpy.savez`` and ``savez_compressed``
    write is read: members stored or deflated, each at most 4 GiB, which is compared with its header before any
    memory is taken for it.

    Raises
    ------
    DataError
        If the archive or an array is malformed or larger, or none of the names is there.
    """
    with SmallReads(open_data(path).detach()) as file, parsing(f"{path}: not a readable NumPy file"):
        if not zipfile.is_zipfile(file):
            raise DataError(f"{path}: {PICKLED}")
        with zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            arrays = {name: read_member(archive, members[name], f"{path}: {name}") for name in names if name in members}
    if names[0] not in arrays:
        found = ", ".join(list(members)[:20]) or "nothing"
        raise DataError(f"{path}: needs an array named X (and, with labels, y), found: {found}")
    return arrays


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, source: str) -> np.ndarray:
    """One array of an archive."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.file_size > LARGEST:
        raise DataError(
            f"{source} has {info.file_size:,} bytes in compression method {info.compress_type}: at most {LARGEST:,} "
            "are read, stored or deflated; a .npy file has no such bound"
        )
    with archive.open(info) as file:
        head = file.read(HEADER_BYTES)
        header = read_npy_header(head, info.file_size, source)
        data = np.empty(header.n_bytes, np.uint8)  # pages that are never written take no memory
        start = min(len(head) - header.offset, header.n_bytes)
        data[:start] = np.frombuffer(head, np.uint8, start, header.offset)
        while start < len(data):
            chunk = file.read(min(SmallReads.largest, len(data) - start))
            if not chunk:
                raise DataError(f"{source}: cut short after {start:,} of {len(data):,} bytes")
            data[start : start + len(chunk)] = np.frombuffer(chunk, np.uint8)
            start += len(chunk)
        file.read(1)  # the end of the member is where its checksum is compared
    return np.ndarray(header.shape, header.dtype, data, order="F" if header.order == "F" else "C")
