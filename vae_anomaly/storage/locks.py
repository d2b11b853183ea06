"""Locks on what is open: held until the descriptor is closed, so a lock goes with its process."""

from __future__ import annotations

import sys


def try_lock(descriptor: int) -> bool:
    """Lock an open file or folder without waiting, and say whether that went well: false if another has locked it.

    Where there are no locks (Windows, some network file systems) it always goes well.
    """
    if sys.platform == "win32":
        return True
    from fcntl import LOCK_EX, LOCK_NB, flock

    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
    except OSError as error:
        return not isinstance(error, BlockingIOError)
    return True
