"""Which files of a folder are images, what class each has, and what is left out and why.

A folder is read with all that lies in it. Without subfolders the images have no classes; otherwise the class of an
image is the subfolder that it lies in, at whatever depth; the only subfolder, if it is called good, ok or normal, is of
normals. Files and folders whose names begin with a dot, and what
operating systems leave behind, do not count. All others that are no images are listed.

One layout is known, that of MVTec AD: ``train/CLASS/`` has normals of one class, ``test/`` has a subfolder for that
class and for each kind of defect, and ``ground_truth/DEFECT/NAME_mask.png`` shows where the defect of
``test/DEFECT/NAME.png`` is. There the class is the second level, and each image belongs to a part.

References
----------
The MVTec Anomaly Detection Dataset (Bergmann et al., 2021), https://doi.org/10.1007/s11263-020-01400-4
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vae_anomaly.errors import DataError
from vae_anomaly.registry import FORMATS

SUFFIXES: tuple[str, ...] = FORMATS.entry("image_file").facts["suffixes"]
IGNORED = ("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini")
NORMAL = {"good", "ok", "normal"}  # what the only class of a folder is called if it is normal
TRAINING_PARTS, TEST, MASKS = ("train", "validation"), "test", "ground_truth"


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """An image file, and what its place says of it.

    Parameters
    ----------
    path
        Of the file.
    name
        Relative to the folder that was given.
    label
        Its class, if it has one.
    part
        "train" or "test", where the layout says so.
    mask
        A file that shows where its defect is, if there is one.
    """

    path: Path
    name: str
    label: str | None = None
    part: str | None = None
    mask: Path | None = None


@dataclass(frozen=True, kw_only=True)
class FoundFiles:
    """The images of a folder.

    Parameters
    ----------
    files
        In order of their names.
    normal
        The normal class, where the layout says it.
    left_out
        Each file that is no image, with the reason.
    """

    files: list[ImageFile]
    normal: tuple[str, ...] | None = None
    left_out: list[str] = field(default_factory=list)


def find_images(folder: Path) -> FoundFiles:
    """The images in a folder, at any depth.

    Raises
    ------
    DataError
        If there are none, some lie directly in it and others in subfolders, or a link leads out of it.
    """
    left_out: list[str] = []
    paths = [path.relative_to(folder) for path in walked(folder, folder, left_out)]
    flat = [path for path in paths if len(path.parts) == 1]
    if not paths:
        others = f"; left out: {listed(left_out)}" if left_out else ""
        raise DataError(f"{folder} holds no images ({', '.join(SUFFIXES)}), at any depth{others}")
    if flat and len(flat) < len(paths):
        nested = next(path for path in paths if len(path.parts) > 1)
        raise DataError(
            f"{folder} has images both directly in it ({text(str(flat[0]))}) and in subfolders ({text(str(nested))}), "
            "which are classes: move those that lie directly in it into a subfolder of their own, or name one subfolder"
        )
    if flat:
        return FoundFiles(files=[image_file(folder, path) for path in flat], left_out=left_out)
    classes = {path.parts[0] for path in paths}
    normal = tuple(classes) if len(classes) == 1 and classes <= NORMAL else None
    return of_parts(folder, paths, left_out) or FoundFiles(
        files=[image_file(folder, path, label=path.parts[0]) for path in paths], normal=normal, left_out=left_out
    )


def of_parts(folder: Path, paths: list[Path], left_out: list[str]) -> FoundFiles | None:
    """The images of a folder in MVTec's layout; None if it has another one."""
    used = {*TRAINING_PARTS, TEST, MASKS}
    training = {path.parts[1] for path in paths if path.parts[0] in TRAINING_PARTS and len(path.parts) > 2}
    tested = {path.parts[1] for path in paths if path.parts[0] == TEST and len(path.parts) > 2}
    in_parts = all(path.parts[0] in used and len(path.parts) > 2 for path in paths)
    if len(training) != 1 or not in_parts:
        return None
    masks = {
        (*path.parts[1:-1], path.stem.removesuffix("_mask")): folder / path for path in paths if path.parts[0] == MASKS
    }
    files = [
        image_file(
            folder,
            path,
            label=path.parts[1],
            part=None if not tested else TEST if path.parts[0] == TEST else "train",
            mask=masks.pop((*path.parts[1:-1], path.stem), None) if path.parts[0] == TEST else None,
        )
        for path in paths
        if path.parts[0] != MASKS
    ]
    left_out += [f"{name_in(folder, path)} (a mask of no image in {TEST})" for path in masks.values()]
    return FoundFiles(files=files, normal=tuple(training), left_out=left_out)


def image_file(folder: Path, path: Path, label: str | None = None, **known: str | Path | None) -> ImageFile:
    """An image by its path in the folder."""
    return ImageFile(
        path=folder / path,
        name=text(str(path)),
        label=None if label is None else text(label),
        **known,  # type: ignore[arg-type]  # as they are above
    )


def walked(place: Path, root: Path, left_out: list[str]) -> Iterator[Path]:
    """Image files at any depth, in order of their names; what else there is joins ``left_out``."""
    outside = root.resolve()
    for path in sorted(place.iterdir()):
        if is_ignored(path.name):
            continue
        if path.is_symlink() and not path.exists():
            left_out.append(f"{name_in(root, path)} (a link that leads nowhere)")
            continue
        if path.is_symlink() and not path.resolve().is_relative_to(outside):
            raise DataError(f"{path} is a link that leads out of {root}: copy what is to be read into the folder")
        if path.is_dir():
            if path.is_symlink():
                left_out.append(f"{name_in(root, path)} (a link to a folder that is read anyway)")
                continue
            inside: list[str] = []
            images = list(walked(path, root, inside))
            yield from images
            left_out += inside
            if not images and not inside:
                left_out.append(f"{name_in(root, path)} (holds no images)")
        elif path.suffix.lower() not in SUFFIXES:
            left_out.append(f"{name_in(root, path)} (no kind of image that can be read)")
        elif not path.is_file():
            left_out.append(f"{name_in(root, path)} (no regular file)")
        else:
            yield path


def is_ignored(name: str) -> bool:
    """Whether a file or folder is hidden, or left behind by an operating system."""
    return name.startswith(".") or name.lower() in IGNORED


def name_in(root: Path, path: Path) -> str:
    """A path in a folder, for people."""
    return text(str(path.relative_to(root)))


def listed(names: list[str], most: int = 10) -> str:
    """The first of some names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def text(name: str) -> str:
    """A file's name as text that UTF-8 can hold; other bytes become backslash escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
