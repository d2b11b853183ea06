"""The files in the folder of a report, and which folder may become one.

``report.json`` lists every other file with its SHA-256. So a folder that is replaced holds nothing but what a report
wrote there: what was added since, or changed by a person, is the person's.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from vae_anomaly.errors import DataError
from vae_anomaly.storage.safe_reading import open_regular, read_data
from vae_anomaly.storage.strict_json import loads

PAGE, NUMBERS, SCORES, FIGURES_FOLDER = "report.html", "report.json", "scores.csv", "figures"
FILES = "files"  # the key in report.json
SIGNATURE = {"title", "date", "provenance", "score", "n_samples", "threshold", FILES}
LARGEST_NUMBERS = 1 << 28


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file in a folder, by its path there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): digest(path) for path in files}


def digest(path: Path) -> str:
    """SHA-256 of a regular file."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_report_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier report, as that was written.

    Raises
    ------
    DataError
        If it is a file, or holds other things; the first of them is named.
    FileNotFoundError
        If the folder that it would be made in does not exist.
    """
    if not folder.is_symlink() and not folder.absolute().parent.is_dir():
        raise FileNotFoundError(f"{folder} cannot be written: there is no folder {folder.parent}")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise DataError(f"{folder} is a file, not a report: give another --output, or move it away")
    numbers = folder / NUMBERS
    written = files_of_report(numbers)
    for path in sorted(folder.rglob("*"), key=lambda path: (path != numbers, path)):
        name = path.relative_to(folder).as_posix()
        if not is_ours(path, name, written):
            state = "was changed since" if name in written else "is of no report"
            raise DataError(
                f"{folder} is not replaced, for {name} in it {state}: give another --output, or move it away"
            )


def files_of_report(path: Path) -> dict[str, Any]:
    """What ``report.json`` lists, by name; nothing if it is not of a report."""
    try:
        numbers = loads(read_data(path, LARGEST_NUMBERS))
    except ValueError:
        return {}
    ours = isinstance(numbers, dict) and numbers.keys() >= SIGNATURE and isinstance(numbers[FILES], dict)
    return {NUMBERS: None} | numbers[FILES] if ours else {}


def is_ours(path: Path, name: str, written: dict[str, Any]) -> bool:
    """Whether a report wrote this: a file that it lists and nobody changed, or the folder of its figures."""
    if path.is_symlink():
        return False
    if path.is_dir():
        return name == FIGURES_FOLDER
    try:
        return name in written and (name == NUMBERS or digest(path) == written[name])
    except OSError:
        return False
