"""All headers of a set of images before the first pixel is read: one size, one kind, and what has to be known of them.

A file of several pages or frames gives one sample for each, named ``file#page``, with pages counted from 1. What is
left out, and what is not as it is in the file, is noted once, with how many images it is about.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

import numpy as np

from vae_anomaly.datasets.images.files import ImageFile, listed
from vae_anomaly.datasets.images.opened import MAX_PAGES, opened_pages
from vae_anomaly.datasets.images.pillow_pages import BACKGROUND
from vae_anomaly.datasets.images.pixels import Kind, described, final_size, fitted
from vae_anomaly.datasets.reading import ImageNote, ImageReading, Size
from vae_anomaly.errors import DataError
from vae_anomaly.progress import progress_bar

CONVERTED = {
    "alpha": f"an alpha channel: transparent pixels are shown on {BACKGROUND}",
    "reduced": "16 bits a channel of colour, of which 8 are read",
    "cmyk": "inks (CMYK), which are read as red, green and blue without a colour profile",
}


class Page(NamedTuple):
    """One image of a file.

    Parameters
    ----------
    file
        Where it is.
    number
        Its page, from 0.
    name
        What it is called in every output.
    size
        Height and width, turned.
    kind
        What its pixels are.
    traits
        Keys of `CONVERTED`.
    """

    file: ImageFile
    number: int
    name: str
    size: Size
    kind: Kind
    traits: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images that become samples of one shape.

    Parameters
    ----------
    pages
        In order.
    kind, size
        What the samples are, and their height and width.
    reading
        How they are made.
    """

    pages: list[Page] = field(repr=False)
    kind: Kind
    size: Size
    reading: ImageReading

    def arrays(self, first: int = 0) -> Iterator[np.ndarray]:
        """The samples from one on, each ``(H, W)``, or ``(H, W, C)`` of several channels."""
        for _, pages in groupby(self.pages[first:], key=lambda page: page.file):
            yield from self._of_file(list(pages))

    def _of_file(self, pages: list[Page]) -> Iterator[np.ndarray]:
        path = pages[0].file.path
        with opened_pages(path) as opened:
            for page in pages:
                values = fitted(opened.values(page.number), page.kind, self.kind, self.reading, path)
                if values.shape[:2] != self.size:
                    raise DataError(f"{path} is {described(values.shape)}, and its header says {described(page.size)}")
                yield values


def survey(files: Sequence[ImageFile], source: str, reading: ImageReading, left_out: Sequence[str] = ()) -> ImageSet:
    """What the headers say; notes are warnings, `ImageNote`.

    Parameters
    ----------
    files
        In order.
    source
        What messages call them.
    reading
        How samples are made.
    left_out
        What is noted as left out, beside files that cannot be read.

    Raises
    ------
    DataError
        If a file cannot be read, or sizes or kinds differ.
    """
    pages: list[Page] = []
    unread: list[str] = []
    with progress_bar("looking at images", len(files), unit="files", shown=len(files) > 1) as bar:
        for file in files:
            try:
                pages += pages_of(file, whole=reading.skip_unreadable)
            except DataError as error:
                if not reading.skip_unreadable:
                    hint = "--skip-unreadable leaves out what cannot be read" if len(files) > 1 else ""
                    raise DataError(f"{error}: {hint}" if hint else str(error)) from error
                unread.append(str(error))
            bar.update()
    if left_out:
        note(f"{source}: left out {listed(list(left_out))}")
    if unread:
        note(f"{source}: left out {len(unread):,} of {len(files):,} files that cannot be read: {listed(unread)}")
    if not pages:
        raise DataError(f"{source}: none of {len(files):,} files can be read as an image")
    kind = one_kind(pages, source, reading)
    note_conversions(pages, source, kind)
    return ImageSet(pages=pages, kind=kind, size=one_size(pages, source, reading), reading=reading)


def pages_of(file: ImageFile, *, whole: bool) -> list[Page]:
    """The pages of a file, by their headers or, ``whole``, decoded to see that they can be read."""
    path, pages = file.path, []
    with opened_pages(path) as opened:
        if opened.n_pages > MAX_PAGES:
            raise DataError(f"{path} has {opened.n_pages:,} pages, more than {MAX_PAGES:,}")
        for number in range(opened.n_pages):
            size, kind, traits = opened.look_at(number)
            if whole:
                opened.values(number)
            name = file.name if opened.n_pages == 1 else f"{file.name}#{number + 1}"
            pages.append(Page(file, number, name, size, kind, traits))
    return pages


def one_kind(pages: list[Page], source: str, reading: ImageReading) -> Kind:
    """The kind of all samples: that of the model's or, without one, in colour if some image is.

    Raises
    ------
    DataError
        If they differ in depth, or a model takes other channels than images have.
    """
    by_depth = {page.kind.depth: page for page in reversed(pages)}
    if len(by_depth) > 1:
        counts = Counter(page.kind.depth for page in pages)
        parts = [f"{counts[depth]:,} {depth} (such as {page.name})" for depth, page in sorted(by_depth.items())]
        raise DataError(
            f"{source} holds images of several depths, {', '.join(parts)}: their values cannot be compared; bring all "
            "images to one, or read those of one depth at a time"
        )
    found = {page.kind.channels: page for page in reversed(pages)}
    wanted = max(found) if reading.channels is None else reading.channels
    odd = next((page for n, page in found.items() if n != wanted and {n, wanted} != {1, 3}), None)
    if odd is None:
        return Kind(wanted, pages[0].kind.depth)
    if reading.channels is None:
        raise DataError(
            f"{source} holds images of several kinds, {pages[0].name} is {pages[0].kind} and {odd.name} {odd.kind}: "
            "read those of one kind at a time"
        )
    raise DataError(
        f"{source}: the model takes images of {wanted} channels, and {odd.name} is {odd.kind}: give images like those "
        "of the training"
    )


def one_size(pages: list[Page], source: str, reading: ImageReading) -> Size:
    """Height and width of all samples.

    Raises
    ------
    DataError
        If they differ, or a model takes others; with what to do about it.
    """
    sizes = Counter(final_size(page.size, reading) for page in pages)
    (usual, _), *others = sizes.most_common()
    wanted = reading.size or usual
    odd = next((page for page in pages if final_size(page.size, reading) != wanted), None)
    if odd is None:
        return wanted
    if reading.size is not None:
        raise DataError(
            f"{odd.file.path} is {described(odd.size)} (height x width), but the model takes images of "
            f"{described(wanted)}: fit it with --resize {described(wanted)}, which it then does by itself, or bring "
            "the images to that size first"
        )
    shown = [f"{n:,} of {described(size)}" for size, n in sizes.most_common(3)]
    more = f" and {len(sizes) - 3} more sizes" if len(sizes) > 3 else ""
    first = next(page for page in pages if page.size == usual)
    raise DataError(
        f"{source} holds images of {len(others) + 1} sizes (height x width), {', '.join(shown)}{more}: {first.name} is "
        f"{described(usual)}, {odd.name} is {described(odd.size)}; bring them to one with --resize {described(usual)}, "
        "or keep their middle with --crop"
    )


def note_conversions(pages: list[Page], source: str, kind: Kind) -> None:
    """Note what is read otherwise than it is in the files."""
    for trait, words in CONVERTED.items():
        if found := [page.name for page in pages if trait in page.traits]:
            note(f"{source}: {len(found):,} of {len(pages):,} images have {words}: {listed(found, 3)}")
    if other := [page.name for page in pages if page.kind.channels != kind.channels]:
        how = (
            "are grey, and become colour images of three equal channels"
            if kind.channels == 3
            else "are stored in colour, and become grey where all channels are equal"
        )
        note(f"{source}: {len(other):,} of {len(pages):,} images {how}: {listed(other, 3)}")


def note(text: str) -> None:
    """Say something that a user should know of the images."""
    warnings.warn(ImageNote(text), stacklevel=2)
