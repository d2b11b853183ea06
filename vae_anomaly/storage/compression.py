"""Compressed files as streams: gzip, bzip2 and xz, with a bound on what a small file may grow to."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import zlib
from pathlib import Path
from typing import IO, Any

from vae_anomaly.errors import DataError
from vae_anomaly.storage.safe_reading import open_data, parsing

OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
"""What opens a stream, by suffix."""
MAX_RATIO = 200
FREE_BYTES = 64 << 20
"""So much is read whatever the ratio is."""


def open_decompressed(path: Path) -> io.BufferedReader:
    """A file as a stream of its bytes, decompressed if its suffix says that it is compressed.

    Raises
    ------
    DataError
        If it cannot be opened; on reading, if it is damaged, or becomes more than 200 times as large as it is.
    """
    raw = open_data(path)
    opener = OPENERS.get(path.suffix.lower())
    if opener is None:
        return raw
    return io.BufferedReader(Decompressed(opener(raw, "rb"), raw, str(path)), 1 << 16)


class Decompressed(io.RawIOBase):
    """The bytes of a compressed stream."""

    def __init__(self, stream: IO[bytes], raw: io.BufferedReader, source: str) -> None:
        self.stream, self.raw, self.source = stream, raw, source
        self.most = max(FREE_BYTES, MAX_RATIO * os.fstat(raw.fileno()).st_size)
        self.n_read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        with parsing(f"{self.source}: cannot be decompressed"):
            try:
                piece = self.stream.read(len(buffer))
            except (zlib.error, lzma.LZMAError) as error:
                raise OSError(str(error)) from error
        self.n_read += len(piece)
        if self.n_read > self.most:
            raise DataError(
                f"{self.source}: becomes more than {MAX_RATIO} times as large as it is: decompress it first if that is "
                "meant"
            )
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self.stream.close()
        self.raw.close()
        super().close()
