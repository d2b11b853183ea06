"""Pages of image files that Pillow reads: turned as the camera was held, and without transparency.

Grey of up to 8 bits and colours become uint8, 0 to 255. Deeper grey keeps its values. Transparent pixels are shown on
white.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from vae_anomaly.datasets.images.pixels import MAX_PIXELS, TURNED, Kind, Look
from vae_anomaly.datasets.reading import Size
from vae_anomaly.errors import DataError
from vae_anomaly.storage.safe_reading import open_data, parsing

if TYPE_CHECKING:
    from PIL import Image

logging.getLogger("PIL").addHandler(logging.NullHandler())  # it logs what it then raises; else stderr has it too

PILLOW_FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
SHORT = 65_535
GREY = ("1", "L", "LA", "La")
COLOUR = ("RGB", "RGBA", "RGBa", "P", "PA", "CMYK", "YCbCr")
DEEP_GREY = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
BACKGROUND = "white"
ORIENTATION = 0x0112  # of EXIF
WIDTH, HEIGHT, CHANNELS, SAMPLE_FORMAT, SIGNED = 256, 257, 277, 339, 2  # of TIFF


@contextlib.contextmanager
def opened_image(file: Path) -> Iterator[Image.Image]:
    """A file of a known format, open; what is not read of it yet costs little.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    from PIL import Image

    with open_data(file) as data:
        with quietly_parsing(file):
            # only these: Pillow also knows formats that it hands to other programs
            image = Image.open(data, formats=PILLOW_FORMATS)
        with image:
            yield image


@contextlib.contextmanager
def quietly_parsing(file: Path) -> Iterator[None]:
    """What Pillow raises becomes one `DataError`; what it only warns of is left to the result."""
    from PIL import UnidentifiedImageError

    with parsing(f"{file} cannot be read as an image"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except UnidentifiedImageError as error:  # whose words name a Python object
            why = "cannot identify image file" if file.stat().st_size else "it is empty"
            raise DataError(f"{file} cannot be read as an image ({why})") from error


class PillowPages:
    """The pages of an open image.

    Parameters
    ----------
    image, file
        The image, and where it is.
    """

    def __init__(self, image: Image.Image, file: Path) -> None:
        self.image, self.file = image, file
        with quietly_parsing(file):
            self.n_pages: int = getattr(image, "n_frames", 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any, /) -> None:
        self.image.close()

    def look_at(self, number: int) -> Look:
        """What the header of a page says, counted from 0."""
        self._turn_to(number)
        with quietly_parsing(self.file):
            image = self.image
            found = {"alpha": has_alpha(image), "reduced": is_reduced(image), "cmyk": image.mode == "CMYK"}
            traits = tuple(trait for trait, has in found.items() if has)
            return Look(turned_size(image), kind_of(image, self.file), traits)

    def values(self, number: int) -> np.ndarray:
        """The pixels of a page, ``(H, W)`` or, in colour, ``(H, W, 3)``."""
        from PIL import ImageOps

        self._turn_to(number)
        found = kind_of(self.image, self.file)
        arguments = decoder_arguments(self.image)  # they are gone once the pixels are there
        with quietly_parsing(self.file):
            turned = ImageOps.exif_transpose(self.image)
            if found.depth == "8-bit":
                return shallow(turned, colour=found.channels == 3)
            return deep_grey(turned, found.depth, arguments)

    def _turn_to(self, number: int) -> None:
        if self.n_pages > 1:
            with quietly_parsing(self.file):
                self.image.seek(number)


def is_read_in_part(file: Path) -> bool:
    """Whether Pillow does not know, or would lose, what a TIFF holds."""
    from PIL import Image, UnidentifiedImageError

    with open_data(file) as data, warnings.catch_warnings(), parsing(f"{file} cannot be read as an image"):
        warnings.simplefilter("ignore")
        try:
            with Image.open(data, formats=("TIFF",)) as image:
                return loss_of(image) is not None
        except UnidentifiedImageError:
            return True


def kind_of(image: Image.Image, file: Path) -> Kind:
    """What the pixels of the current page are.

    Raises
    ------
    DataError
        If they are too many, or of a kind that would be lost.
    """
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"{file} has {image.width}x{image.height} pixels, more than {MAX_PIXELS:,}")
    if (loss := loss_of(image)) is not None:
        raise DataError(f"{file} has {loss}: save it as .npy")
    if image.mode in GREY:
        return Kind(1, "8-bit")
    if image.mode in COLOUR:
        return Kind(3, "8-bit")
    if image.mode not in DEEP_GREY:
        raise DataError(f"{file} has pixels of kind {image.mode}: convert it to grey or RGB first")
    if image.mode == "F":
        return Kind(1, "float")
    is_short = image.mode != "I" or image.format in ("PNG", "PPM") or "16" in raw_mode(image)
    return Kind(1, "16-bit" if is_short else "32-bit")


def loss_of(image: Image.Image) -> str | None:
    """What Pillow reads of a TIFF in part, or as other numbers; None if it reads all."""
    from PIL.TiffImagePlugin import TiffImageFile

    if not isinstance(image, TiffImageFile):
        return None
    n_channels, n_read = image.tag_v2.get(CHANNELS, 1), len(image.getbands())
    if n_channels > n_read:
        return f"{n_channels} channels, of which {n_read} would be read"
    if image.mode in ("L", "1") and SIGNED in image.tag_v2.get(SAMPLE_FORMAT, ()):
        return "signed numbers of 8 bits, which would be read as unsigned"
    return None


def raw_mode(image: Image.Image) -> str:
    """How the pixels lie in the file, as Pillow names it; empty where it does not."""
    first = next(iter(decoder_arguments(image)), "")
    return first if isinstance(first, str) else ""


def decoder_arguments(image: Image.Image) -> tuple[Any, ...]:
    """What Pillow gives the decoder of the current page, before it is decoded."""
    tiles = getattr(image, "tile", ())
    found = tiles[0][3] if tiles else ()
    return found if isinstance(found, tuple) else (found,)


def is_reduced(image: Image.Image) -> bool:
    """Whether the file has 16 bits a channel of colour, of which Pillow gives 8."""
    largest = next(reversed(decoder_arguments(image)), None)
    is_deep_ppm = image.format == "PPM" and isinstance(largest, int) and largest > 255
    return image.mode not in DEEP_GREY and (";16" in raw_mode(image) or is_deep_ppm)


def has_alpha(image: Image.Image) -> bool:
    """Whether pixels may be transparent."""
    return image.mode not in DEEP_GREY and image.has_transparency_data


def turned_size(image: Image.Image) -> Size:
    """Height and width of the current page once it is turned as the camera was held, by its header."""
    from PIL.TiffImagePlugin import TiffImageFile

    width, height = image.size
    if isinstance(image, TiffImageFile):  # which is turned by Pillow, or not, depending on its version
        width, height = image.tag_v2.get(WIDTH, width), image.tag_v2.get(HEIGHT, height)
        orientation = image.tag_v2.get(ORIENTATION)
    elif image.format == "PNG" and not {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"} & set(image.info):
        orientation = None  # Pillow would decode the whole image to find out
    else:
        orientation = image.getexif().get(ORIENTATION)
    return (width, height) if orientation in TURNED else (height, width)


def shallow(image: Image.Image, *, colour: bool) -> np.ndarray:
    """Grey of up to 8 bits or colour as uint8, without transparency."""
    from PIL import Image

    if has_alpha(image):
        shown = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", shown.size, BACKGROUND), shown)
    return np.asarray(image.convert("RGB" if colour else "L"))


def deep_grey(image: Image.Image, depth: str, arguments: tuple[Any, ...]) -> np.ndarray:
    """Grey of more than 8 bits with the values that it has in the file, of what the decoder was given."""
    values = np.asarray(image)
    if depth == "32-bit":
        bits = str(arguments[0]) if arguments else ""
        is_unsigned = bits.startswith("I;32") and not bits.endswith("S")
        return (values.view(np.uint32) if is_unsigned else values).astype(np.float64)
    if depth == "16-bit" and len(arguments) == 2 and isinstance(arguments[1], int):
        return np.round(values * (arguments[1] / SHORT)).astype(np.float32)  # of PGM, which Pillow spreads to 16 bits
    return values.astype(np.float32)
