"""What a run reads and what it writes, compared before it does either.

Files are compared by what they are, not by their names: a link, a hard link or another spelling of a path is the same
file. What lies in a folder that is read, or in one whose entries are replaced, counts as well.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import unquote, urlsplit

STANDARD_INPUT, STANDARD_OUTPUT = Path("/dev/stdin"), Path("/dev/stdout")
LOCAL_PROTOCOLS = ("file", "local")  # fsspec's names for the disk


@dataclass(frozen=True)
class Output:
    """A file or folder that a run writes.

    Parameters
    ----------
    name
        How messages call it, such as ``--output``.
    path
        Where it is.
    entries
        Of a folder: a pattern of the names in it that the run replaces or removes. None for a file.
    """

    name: str
    path: Path
    entries: str | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.path}"

    def replaces(self, path: Path) -> bool:
        """Whether writing this would replace or remove that."""
        if is_same(self.path, path):
            return True
        entry = None if self.entries is None else entry_of(path, self.path)
        return entry is not None and fnmatchcase(entry, self.entries or "")


def conflict(inputs: Mapping[str, str | Path | None], outputs: Sequence[Output | None]) -> str | None:
    """Why a run that reads and writes these would lose something, in one sentence; None if it would not.

    Parameters
    ----------
    inputs
        Paths, URLs, ``-`` for standard input, or None, by how messages call them.
    outputs
        What is written; None stands for what is not wanted.
    """
    wanted = [output for output in outputs if output is not None]
    for output in wanted:
        for name, location in inputs.items():
            path = local_path(location)
            if path is None:
                continue
            if output.replaces(path):
                return f"{output} would replace {name} {location}, which is read: give another name"
            if entry_of(output.path, path) is not None:
                return f"{output} lies in {name} {location}, which is read: give a place outside of it"
        for other in wanted:
            if other is not output and output.replaces(other.path):
                return f"{output} would replace {other}, which is written too: give another name"
    return None


def local_path(location: str | Path | None) -> Path | None:
    """Where an input lies on this machine; None if it does not."""
    if location is None or isinstance(location, Path):
        return STANDARD_INPUT if location == Path("-") else location
    if "://" not in location:
        return Path(location)
    parts = urlsplit(location)
    return Path(unquote(parts.path)) if parts.scheme in LOCAL_PROTOCOLS else None


def is_same(a: Path, b: Path) -> bool:
    """Whether two paths lead to the same file or folder, or would once it is made."""
    try:
        return os.path.samefile(a, b)
    except OSError:  # one of them is not there
        return os.path.realpath(a) == os.path.realpath(b)


def entry_of(path: Path, folder: Path) -> str | None:
    """The name in a folder under which a path lies, however deep; None if it lies elsewhere."""
    child = Path(os.path.realpath(path))
    while child.parent != child:
        if is_same(child.parent, folder):
            return child.name
        child = child.parent
    return None
