"""How a file is to be read, as far as somebody says it; needs no NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

Size: TypeAlias = tuple[int, int]
"""Height and width."""


class TableNote(UserWarning):
    """What was inferred of a file, or left out of it; commands print it as a note."""


class ImageNote(UserWarning):
    """What was left out of image files, or is not as it is in them; commands print it as a note."""


@dataclass(frozen=True, kw_only=True)
class ImageReading:
    """How images become samples: files first turned as the camera was held; then resized, then cropped.

    Parameters
    ----------
    resize
        Height and width that images are brought to, whatever their shape, with the pixels between averaged.
    crop
        Height and width of the middle part that is kept.
    size, channels
        Height and width, and how many channels, of the images that a model takes; None: as the files have them.
    skip_unreadable
        Whether files that cannot be read are left out, and listed, or refused.
    further
        Image files that follow the one that is named.
    """

    resize: Size | None = None
    crop: Size | None = None
    size: Size | None = None
    channels: int | None = None
    skip_unreadable: bool = False
    further: tuple[Path, ...] = ()

    @property
    def changes_size(self) -> bool:
        """Whether images are resized or cropped."""
        return self.resize is not None or self.crop is not None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What is said of a file; None where it is to be inferred. All but ``images`` is about tables.

    Parameters
    ----------
    sep
        The character between cells.
    decimal
        The decimal mark: ``.`` or ``,``.
    encoding
        A name that Python knows, such as ``latin-1``.
    header
        Whether the first line (after those that are skipped) has the names of the columns.
    skip_rows
        How many lines before that are no part of the table.
    columns
        The kinds of the columns that a model has, by name: number, category, date, identifier or constant. A column
        without a name is named by its number. With it nothing is inferred of columns, and names decide whether there
        is a header.
    missing_columns
        "as-gaps": columns that the model has and the table lacks are all gaps. "refuse": that is the model's to refuse.
    images
        How image files become samples.
    """

    sep: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    header: bool | None = None
    skip_rows: int | None = None
    columns: Mapping[str, str] | None = None
    missing_columns: str = "refuse"
    images: ImageReading = ImageReading()

    def to_json(self) -> dict[str, Any]:
        """What is said, but for the columns, which a model has too."""
        said = {name: value for name, value in vars(self).items() if name not in ("columns", "images")}
        images = asdict(self.images) | {"further": [str(path) for path in self.images.further]}
        return said | {"images": images}


INFERRED = Reading()
"""Nothing is said."""
