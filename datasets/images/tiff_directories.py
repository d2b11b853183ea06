"""Whether a TIFF file has all the pages that it announces.

A TIFF is a chain of directories, one a page, each of which says where the next one begins. Where a file was cut short,
readers stop at the last whole page and give fewer images, without a word.

References
----------
TIFF, revision 6.0 (Adobe, 1992), section 2
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import NamedTuple

from vae_anomaly.errors import DataError
from vae_anomaly.storage.safe_reading import open_data, parsing


class Layout(NamedTuple):
    """How directories are written: where the first offset is, and the sizes of a count, an entry and an offset."""

    first: int
    counter: str
    entry_bytes: int
    offset: str


LAYOUTS = {42: Layout(4, "H", 12, "I"), 43: Layout(8, "Q", 20, "Q")}  # TIFF, and BigTIFF of more than 4 GiB
ORDERS = {b"II": "<", b"MM": ">"}


def check_pages_are_there(file: Path, most: int) -> None:
    """Refuse a TIFF whose chain of pages leads out of the file, or in a circle.

    Parameters
    ----------
    file
        Of any kind; what is no TIFF is left to its reader.
    most
        Pages after which it is left to its reader too.

    Raises
    ------
    DataError
        With the number of the page that is missing.
    """
    size = file.stat().st_size
    with open_data(file) as data, parsing(f"{file} cannot be read as an image"):
        head = data.read(16)
        order = ORDERS.get(head[:2])
        layout = LAYOUTS.get(struct.unpack(f"{order}H", head[2:4])[0]) if order and len(head) == 16 else None
        if order is None or layout is None:
            return
        (offset,) = struct.unpack_from(order + layout.offset, head, layout.first)
        seen: set[int] = set()
        while offset and len(seen) < most:
            if offset in seen:
                raise DataError(
                    f"{file} cannot be read as an image (its page {len(seen) + 1} is one of those before it)"
                )
            seen.add(offset)
            if offset + struct.calcsize(layout.counter) > size:
                raise cut_short(file, len(seen))
            data.seek(offset)
            (n_entries,) = struct.unpack(order + layout.counter, data.read(struct.calcsize(layout.counter)))
            if data.tell() + n_entries * layout.entry_bytes + struct.calcsize(layout.offset) > size:
                raise cut_short(file, len(seen))
            data.seek(n_entries * layout.entry_bytes, os.SEEK_CUR)
            (offset,) = struct.unpack(order + layout.offset, data.read(struct.calcsize(layout.offset)))


def cut_short(file: Path, page: int) -> DataError:
    """What is said of a file that ends before a page."""
    return DataError(f"{file} cannot be read as an image (it is cut short: its page {page} lies beyond its end)")
