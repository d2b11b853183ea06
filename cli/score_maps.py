"""Heat maps of images beside their scores: pictures and arrays in a folder, and boxes in the table."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vae_anomaly.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from vae_anomaly.datasets import Dataset
    from vae_anomaly.fitted_model import FittedModel

STRONGEST = 2.0  # times the threshold for places
MOST_NAME = 80  # characters of a file's name in that of its map


def check_maps_folder(folder: Path) -> None:
    """Refuse a folder that exists and is not empty: what is in it may be a person's.

    Raises
    ------
    click.BadParameter
        If so.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise click.BadParameter(
            f"'{folder}' exists and is no empty folder: name one that does not exist yet", param_hint="'--maps'"
        )


@dataclass(frozen=True)
class Maps:
    """What is made of the heat maps of each chunk of images.

    Parameters
    ----------
    fitted
        A model of images that has heat maps.
    folder
        Where pictures and arrays go, one of each an image; None: nowhere.
    boxes
        Whether the table gets a column ``boxes``.
    """

    fitted: FittedModel
    folder: Path | None
    boxes: bool

    @property
    def threshold(self) -> float:
        """Heat above which a place is flagged: that of the score ``local``, by the worst place of an image."""
        return self.fitted.calibrations["local"].threshold

    def of_chunk(self, part: Dataset, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Write the maps of some images; columns for the table, ``(N,)`` each."""
        import numpy as np

        from vae_anomaly.evaluation.regions import boxes_of
        from vae_anomaly.scoring.worst_place import heat_maps

        heat = self.fitted.by_block(rows, heat_maps)[0]
        if self.folder is not None:
            for i, row in enumerate(part.row_numbers):
                name = None if part.row_names is None else part.row_names[i]
                self.write(self.folder / stem(int(row), name), rows[i], heat[i])
        if not self.boxes:
            return {}
        found = [[[*box[:4], round(box.peak, 2)] for box in boxes_of(one, self.threshold)] for one in heat]
        return {"boxes": np.array([json.dumps(boxes, separators=(",", ":")) for boxes in found])}

    def write(self, path: Path, row: np.ndarray, heat: np.ndarray) -> None:
        """One image under its heat as a PNG, and the heat ``(H, W)`` as float32 in a ``.npy`` file."""
        import numpy as np
        from PIL import Image

        from vae_anomaly.reports import overlay

        assert self.fitted.image_shape is not None
        known = self.fitted.images
        limits = None if known is None or row.dtype == np.uint8 else (known.low, known.high)
        picture = overlay(row.reshape(self.fitted.image_shape), heat, strongest_heat(self.fitted), limits=limits)
        Image.fromarray(picture).save(path.with_name(f"{path.name}.png"))
        np.save(path.with_name(f"{path.name}.npy"), heat.astype(np.float32))


def strongest_heat(fitted: FittedModel) -> float:
    """Heat from which on the colour of maps is the strongest, by the threshold for places."""
    return STRONGEST * max(fitted.calibrations["local"].threshold, 1.0)


def stem(row: int, name: str | None) -> str:
    """What the files of an image are called: by its number, and the name of its file if it has one."""
    named = "" if name is None else "-" + re.sub(r"[^\w.#-]+", "_", name)[-MOST_NAME:]
    return f"{row:06d}{named}"


@contextlib.contextmanager
def maps_into(fitted: FittedModel, folder: Path | None, *, boxes: bool) -> Iterator[Maps | None]:
    """The maker of maps and boxes, whose folder is there once all is written; None if neither is asked for.

    Raises
    ------
    DataError
        If the model has no heat maps.
    """
    if folder is None and not boxes:
        yield None
        return
    if "local" not in fitted.scores:
        raise DataError("--maps and --boxes need a model of images, fitted by this version: fit one to images")
    from vae_anomaly.storage.atomic import atomic_folder

    with contextlib.nullcontext() if folder is None else atomic_folder(folder, check_maps_folder) as part:
        yield Maps(fitted, part, boxes)
