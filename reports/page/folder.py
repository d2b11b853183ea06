"""The files in the folder of a report, and which folder may become one."""

from __future__ import annotations

from pathlib import Path

from vae_anomaly.errors import DataError

PAGE, NUMBERS, SCORES, FIGURES_FOLDER = "report.html", "report.json", "scores.csv", "figures"


def check_report_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier report.

    Raises
    ------
    DataError
        If it is a file, or holds other things.
    FileNotFoundError
        If the folder that it would be made in does not exist.
    """
    if not folder.absolute().parent.is_dir():
        raise FileNotFoundError(f"{folder} cannot be written: there is no folder {folder.parent}")
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or (folder / NUMBERS).is_file())):
        raise DataError(f"{folder} exists and is not a report: give another --output, or move it away")
