"""Standard streams that a process was started without, as by ``>&-``. Needs neither torch nor NumPy."""

from __future__ import annotations

import os
import sys

STREAMS = {"stdin": "r", "stdout": "w", "stderr": "w"}


def replace_missing_streams() -> None:
    """Put the null device in the place of each standard stream that is missing.

    Its descriptor is taken too: the next file to be opened would get it, and what a library prints would go there.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < len(STREAMS):
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - it takes no name
    os.close(descriptor)
    for number, (name, mode) in enumerate(STREAMS.items()):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", errors="replace", closefd=False))  # noqa: SIM115 - for good
