"""One clear error where PyTorch would wait for ever: in a process forked from one that had computed with threads.

A fork copies the calling thread alone. PyTorch's pool of threads is in the copy's memory but not in the copy, and the
first product that is divided among them waits for threads that are not there. With one thread nothing is divided.

References
----------
https://gcc.gnu.org/bugzilla/show_bug.cgi?id=58378
"""

from __future__ import annotations

import os

import torch

from vae_anomaly.errors import ForkError

_computed_in: int | None = None  # the process that computed with several threads; a fork copies it


def refuse_forked_threads() -> None:
    """Called before whatever PyTorch may divide among threads.

    Raises
    ------
    ForkError
        If this process was forked from one that had come here with several threads, and has several too.
    """
    global _computed_in
    if torch.get_num_threads() == 1:
        return
    if _computed_in not in (None, os.getpid()):
        raise ForkError(
            f"this process was forked from one that had already computed with {torch.get_num_threads()} threads, and "
            "PyTorch would wait for them for ever: start processes by multiprocessing.get_context('spawn') or "
            "'forkserver', or call torch.set_num_threads(1) first in each that is forked"
        )
    _computed_in = os.getpid()
