"""One page of an image file as an array: turned, without transparency, at the size and of the kind that is wanted.

Grey of up to 8 bits and colours become uint8, 0 to 255. Deeper grey keeps its values: 16 bits in float32, which holds
them exactly, 32 bits in float64, floats in float32. Transparent pixels are shown on white. A size is reached by
averaging all pixels that fall on a new one (a triangle as wide as the new pixel, as antialiasing has it).
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vae_anomaly.datasets.reading import ImageReading, Size
from vae_anomaly.errors import DataError
from vae_anomaly.storage.safe_reading import open_data, parsing

if TYPE_CHECKING:
    from PIL import Image

PILLOW_FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 1 << 26
SHORT = 65_535
GREY = ("1", "L", "LA", "La")
COLOUR = ("RGB", "RGBA", "RGBa", "P", "PA", "CMYK", "YCbCr")
DEEP_GREY = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
BACKGROUND = "white"
ORIENTATION = 0x0112  # of EXIF
WIDTH, HEIGHT, CHANNELS, SAMPLE_FORMAT, SIGNED = 256, 257, 277, 339, 2  # of TIFF
TURNED = range(5, 9)  # orientations that swap width and height


class Kind(NamedTuple):
    """What the pixels of a file are.

    Parameters
    ----------
    is_colour
        Whether there are three channels.
    depth
        "8-bit", "16-bit", "32-bit" or "float".
    """

    is_colour: bool
    depth: str

    def __str__(self) -> str:
        return f"{self.depth} {'colour' if self.is_colour else 'grey'}"


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
            if file.suffix.lower() in (".tif", ".tiff") and file.stat().st_size:
                why += "; of TIFFs with other numbers of channels or bits save .npy"
            raise DataError(f"{file} cannot be read as an image ({why})") from error


def kind_of(image: Image.Image, file: Path) -> Kind:
    """What the pixels of the current page are.

    Raises
    ------
    DataError
        If they are too many, or of a kind that would be lost.
    """
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"{file} has {image.width}x{image.height} pixels, more than {MAX_PIXELS:,}")
    check_tiff(image, file)
    if image.mode in GREY:
        return Kind(is_colour=False, depth="8-bit")
    if image.mode in COLOUR:
        return Kind(is_colour=True, depth="8-bit")
    if image.mode not in DEEP_GREY:
        raise DataError(f"{file} has pixels of kind {image.mode}: convert it to grey or RGB first")
    if image.mode == "F":
        return Kind(is_colour=False, depth="float")
    is_short = image.mode != "I" or image.format in ("PNG", "PPM") or "16" in raw_mode(image)
    return Kind(is_colour=False, depth="16-bit" if is_short else "32-bit")


def check_tiff(image: Image.Image, file: Path) -> None:
    """Refuse what Pillow reads of a TIFF in part, or as other numbers."""
    from PIL.TiffImagePlugin import TiffImageFile

    if not isinstance(image, TiffImageFile):
        return
    n_channels, n_read = image.tag_v2.get(CHANNELS, 1), len(image.getbands())
    if n_channels > n_read:
        raise DataError(f"{file} has {n_channels} channels, of which {n_read} would be read: save it as .npy")
    if image.mode in ("L", "1") and SIGNED in image.tag_v2.get(SAMPLE_FORMAT, ()):
        raise DataError(f"{file} has signed numbers of 8 bits, which would be read as unsigned: save it as .npy")


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


def final_size(size: Size, reading: ImageReading) -> Size:
    """Height and width of an image of this size once it is resized and cropped."""
    return reading.crop or reading.resize or size


def pixels_of(image: Image.Image, file: Path, kind: Kind, reading: ImageReading) -> np.ndarray:
    """The current page as ``(H, W)`` or, in colour, ``(H, W, 3)``.

    Parameters
    ----------
    kind
        What is wanted: grey in colour is repeated; colour in grey must be grey in fact.

    Raises
    ------
    DataError
        If it cannot be read, is in colour where grey is wanted, smaller than what is cropped, or not finite.
    """
    from PIL import Image, ImageOps

    found = kind_of(image, file)
    if found.depth != kind.depth:
        raise DataError(f"{file} is {found}, but other images are {kind}: bring all images to one kind first")
    arguments = decoder_arguments(image)  # they are gone once the pixels are there
    with quietly_parsing(file):
        turned = ImageOps.exif_transpose(image)
        values = (
            shallow(turned, colour=found.is_colour)
            if found.depth == "8-bit"
            else deep_grey(turned, found.depth, arguments)
        )
    if not np.isfinite(values).all():
        raise DataError(f"{file} has pixels that are NaN or infinite: fill them in first")
    if reading.resize:
        shown = Image.fromarray(values if found.depth == "8-bit" else values.astype(np.float32))
        values = np.asarray(shown.resize(reading.resize[::-1], Image.Resampling.BILINEAR))
    values = cropped(values, reading.crop, file)
    if values.ndim == 3 and not kind.is_colour:
        if (values != values[:, :, :1]).any():
            raise DataError(
                f"{file} is in colour, and grey images are wanted here: convert it to grey first, as the others were"
            )
        values = values[:, :, 0]
    return np.repeat(values[:, :, None], 3, axis=2) if kind.is_colour and values.ndim == 2 else values


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


def cropped(values: np.ndarray, crop: Size | None, file: Path) -> np.ndarray:
    """The middle of an image ``(H, W, ...)``.

    Raises
    ------
    DataError
        If it is smaller.
    """
    if crop is None:
        return values
    rooms = [have - want for have, want in zip(values.shape, crop, strict=False)]
    if min(rooms) < 0:
        raise DataError(
            f"{file} is {described(values.shape[:2])}, smaller than --crop {crop[0]}x{crop[1]} (height x width): "
            "crop less, or --resize first"
        )
    top, left = (room // 2 for room in rooms)
    return values[top : top + crop[0], left : left + crop[1]]


def described(size: tuple[int, ...]) -> str:
    """Height x width, as --resize takes it."""
    return f"{size[0]}x{size[1]}"
