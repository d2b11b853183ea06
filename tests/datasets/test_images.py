"""Image files become samples as they are meant to be seen, and nothing is lost or altered without a note."""

from __future__ import annotations

import shutil
import struct
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from vae_anomaly.datasets import Dataset, chunks, load_file, load_masks
from vae_anomaly.datasets.reading import ImageNote, ImageReading, Reading
from vae_anomaly.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore::vae_anomaly.datasets.reading.ImageNote")

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 9, 3)).astype(np.uint8)
GREY = COLOUR[:, :, 0]
DEEP = RNG.integers(0, 1 << 16, (6, 9)).astype(np.uint16)
TURNS = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, 1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: lambda x: np.rot90(x, -1),
}
"""By orientation, how a camera stores an upright picture."""


def load(path: Path, **said: object) -> Dataset:
    return load_file(path, None, Reading(images=ImageReading(**said)))  # type: ignore[arg-type]


@contextmanager
def noting(*words: str) -> Iterator[None]:
    """Exactly these notes are given."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    notes = [str(warning.message) for warning in caught if warning.category is ImageNote]
    assert len(notes) == len(words), notes
    for note, word in zip(notes, words, strict=True):
        assert word in note


def save(path: Path, array: np.ndarray, **how: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **how)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", TURNS)
def test_a_picture_is_turned_as_the_camera_was_held(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    how = {"lossless": True} if suffix == "webp" else {}
    stored = np.ascontiguousarray(TURNS[orientation](COLOUR))
    path = save(tmp_path / f"a.{suffix}", stored, exif=exif, **how)
    np.testing.assert_array_equal(load(path).X, COLOUR[None])


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_deep_grey_keeps_its_values(tmp_path: Path, suffix: str) -> None:
    X = load(save(tmp_path / f"a.{suffix}", DEEP)).X
    assert X.dtype == np.float32
    np.testing.assert_array_equal(X[0], DEEP)


def test_a_pgm_of_12_bits_keeps_its_values(tmp_path: Path) -> None:
    values = DEEP // 16
    (tmp_path / "a.pgm").write_bytes(b"P5 9 6 4095\n" + values.astype(">u2").tobytes())
    X = load(tmp_path / "a.pgm").X
    assert X.dtype == np.float32
    np.testing.assert_array_equal(X[0], values)


@pytest.mark.parametrize("dtype", ["float32", "int32", "uint8", "bool"])
def test_values_of_a_tiff_are_those_of_the_file(tmp_path: Path, dtype: str) -> None:
    values = (GREY > 100) if dtype == "bool" else (GREY.astype(dtype) * (1 if dtype == "uint8" else 100_003))
    X = load(save(tmp_path / "a.tif", values)).X
    np.testing.assert_array_equal(X[0], values * 255 if dtype == "bool" else values)


@pytest.mark.parametrize(("suffix", "how"), [("tif", {}), ("png", {}), ("webp", {"lossless": True}), ("gif", {})])
def test_each_page_or_frame_is_a_sample(tmp_path: Path, suffix: str, how: dict[str, object]) -> None:
    frames = [np.full((6, 9), 40 * i, np.uint8) for i in range(1, 5)]
    pages = [Image.fromarray(frame) for frame in frames]
    pages[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=pages[1:], **how)
    save(tmp_path / "b.png", np.dstack([frames[0]] * 3) if suffix == "webp" else frames[0])
    data = load(tmp_path, channels=1)
    assert data.row_names == (*(f"a.{suffix}#{i}" for i in range(1, 5)), "b.png")
    np.testing.assert_array_equal(data.X, [*frames, frames[0]])
    for first in range(5):
        reading = Reading(images=ImageReading(channels=1))
        parts = [part.X.copy() for part in chunks(tmp_path, 2, None, first, reading)]
        np.testing.assert_array_equal(np.concatenate(parts), data.X[first:])


def test_a_folder_is_read_at_any_depth_and_lists_what_it_leaves_out(tmp_path: Path) -> None:
    save(tmp_path / "good" / "left" / "a.png", COLOUR)
    save(tmp_path / "good" / "b.JPG", COLOUR)
    save(tmp_path / "bad" / "c.png", COLOUR)
    for name in (".DS_Store", "Thumbs.db", "good/._b.png", "__MACOSX/good/x.png", "good/Desktop.ini", ".git/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "good" / "list.csv").write_text("a")
    (tmp_path / "empty").mkdir()
    (tmp_path / "again").symlink_to("good")
    with noting(
        "left out again (a link to a folder that is read anyway), empty (holds no images), "
        "good/list.csv (no kind of image that can be read)"
    ):
        data = load(tmp_path)
    assert data.row_names == ("bad/c.png", "good/b.JPG", "good/left/a.png")
    assert data.labels is not None
    assert data.labels.tolist() == ["bad", "good", "good"]
    assert data.normal is None


def test_transparent_pixels_are_shown_on_white(tmp_path: Path) -> None:
    alpha = np.full(COLOUR.shape[:2], 255, np.uint8)
    alpha[:2] = 0
    save(tmp_path / "a.png", np.dstack([COLOUR, alpha]))
    save(tmp_path / "b.png", COLOUR)
    save(tmp_path / "c.png", np.dstack([COLOUR, alpha | 255]))
    with noting("2 of 3 images have an alpha channel: transparent pixels are shown on white: a.png, c.png"):
        X = load(tmp_path).X
    assert (X[0, :2] == 255).all()
    np.testing.assert_array_equal(X[0, 2:], COLOUR[2:])
    np.testing.assert_array_equal(X[2], COLOUR)


def test_kinds_of_colour_become_red_green_and_blue(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).quantize(200).save(tmp_path / "palette.png")
    Image.fromarray(COLOUR).convert("CMYK").save(tmp_path / "inks.tif")
    (tmp_path / "deep.ppm").write_bytes(b"P6 9 6 65535\n" + (COLOUR.astype(">u2") * 257).tobytes())
    with noting("1 of 3 images have 16 bits a channel of colour, of which 8 are read", "1 of 3 images have inks"):
        data = load(tmp_path)
    assert data.X.shape == (3, 6, 9, 3)
    np.testing.assert_array_equal(data.X[0], COLOUR)
    np.testing.assert_array_equal(data.X[1], COLOUR)


def test_grey_and_colour_meet_where_nothing_is_lost(tmp_path: Path) -> None:
    save(tmp_path / "a.png", GREY)
    save(tmp_path / "b.png", COLOUR)
    with noting("1 of 2 images are grey, and become colour images of three equal channels: a.png"):
        X = load(tmp_path).X
    np.testing.assert_array_equal(X[0], np.dstack([GREY] * 3))
    save(tmp_path / "b.png", np.dstack([GREY] * 3))
    with noting("1 of 2 images are stored in colour, and become grey where all channels are equal: b.png"):
        X = load(tmp_path, channels=1).X
    np.testing.assert_array_equal(X, [GREY, GREY])
    save(tmp_path / "b.png", COLOUR)
    with (
        noting("stored in colour"),
        pytest.raises(DataError, match=r"b.png is in colour, and grey images are wanted here"),
    ):
        load(tmp_path, channels=1)
    with pytest.raises(DataError, match="the model takes images of 5 channels, and b.png is 8-bit colour"):
        load(tmp_path, channels=5)


def test_resizing_averages_and_cropping_keeps_the_middle(tmp_path: Path) -> None:
    board = np.indices((64, 96)).sum(axis=0) % 2 * 255
    path = save(tmp_path / "a.png", board.astype(np.uint8))
    assert np.abs(load(path, resize=(8, 12)).X.astype(float) - 127.5).max() < 2
    numbers = np.arange(63 * 97).reshape(63, 97).astype(np.uint16)
    path = save(tmp_path / "b.png", numbers)
    np.testing.assert_array_equal(load(path, crop=(3, 5)).X[0], numbers[30:33, 46:51])
    assert load(path, resize=(20, 30), crop=(4, 6)).X.shape == (1, 4, 6)
    ramp = np.tile(np.arange(0, 640, 10), (64, 1)).astype(np.uint16)
    small = load(save(tmp_path / "c.png", ramp), resize=(16, 16)).X[0]
    np.testing.assert_allclose(small[:, 1:-1], ramp[::4, 4:-4].reshape(16, 14, 4).mean(axis=2), rtol=0.01)
    with pytest.raises(DataError, match=r"b.png is 63x97, smaller than --crop 64x64"):
        load(tmp_path / "b.png", crop=(64, 64))


def test_sizes_and_depths_that_differ_are_counted_with_a_proposal(tmp_path: Path) -> None:
    save(tmp_path / "a.png", COLOUR)
    save(tmp_path / "b.png", COLOUR)
    save(tmp_path / "c.png", COLOUR[:, :5])
    with pytest.raises(DataError, match=r"2 sizes .*, 2 of 6x9, 1 of 6x5: a.png is 6x9, c.png is 6x5; .* --resize 6x9"):
        load(tmp_path)
    with pytest.raises(DataError, match=r"c.png is 6x5 .*, but the model takes images of 6x9: fit it with --resize"):
        load(tmp_path, size=(6, 9))
    save(tmp_path / "c.png", DEEP)
    with pytest.raises(DataError, match=r"several depths, 1 16-bit \(such as c.png\), 2 8-bit \(such as a.png\)"):
        load(tmp_path)


def test_what_cannot_be_read_is_refused_or_listed(tmp_path: Path) -> None:
    blob = save(tmp_path / "a.png", COLOUR).read_bytes()
    (tmp_path / "b.png").write_bytes(blob[: len(blob) // 2])
    (tmp_path / "c.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"c.png cannot be read as an image \(it is empty\): --skip-unreadable"):
        load(tmp_path)
    with noting("left out 2 of 3 files that cannot be read: "):
        data = load(tmp_path, skip_unreadable=True)
    assert data.row_names == ("a.png",)
    save(tmp_path / "a.tif", np.full((6, 9), np.nan, np.float32))
    with pytest.raises(DataError, match=r"a.tif has pixels that are NaN or infinite"):
        load(tmp_path / "a.tif")


@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "float32", "float64", "uint32"])
def test_a_tiff_of_any_channels_keeps_its_values(tmp_path: Path, dtype: str, planes: str) -> None:
    values = np.random.default_rng(0).uniform(0, 100, size=(6, 9, 5)).astype(dtype)
    stored = values if planes == "contig" else np.moveaxis(values, 2, 0)
    for name in ("a", "b"):
        tifffile.imwrite(tmp_path / f"{name}.tif", stored, photometric="minisblack", planarconfig=planes)
    X = load(tmp_path).X
    assert X.shape == (2, 6, 9, 5)
    np.testing.assert_array_equal(X[1], values)
    assert load(tmp_path, resize=(3, 3), crop=(2, 3)).X.shape == (2, 2, 3, 5)


@pytest.mark.parametrize("orientation", TURNS)
def test_a_tiff_of_many_channels_is_turned_as_the_camera_was_held(tmp_path: Path, orientation: int) -> None:
    values = np.dstack([COLOUR, COLOUR])
    stored = np.ascontiguousarray(TURNS[orientation](values))
    extra = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="minisblack", planarconfig="contig", extratags=extra)
    np.testing.assert_array_equal(load(tmp_path / "a.tif").X, values[None])


def test_what_pillow_would_drop_of_a_tiff_is_read(tmp_path: Path) -> None:
    save(tmp_path / "signed.tif", GREY, tiffinfo={339: 2})
    np.testing.assert_array_equal(load(tmp_path / "signed.tif").X[0], GREY.view(np.int8))
    (tmp_path / "signed.tif").unlink()
    four = np.dstack([COLOUR, GREY])  # the fourth is no transparency
    Image.frombytes("RGBX", (9, 6), four.tobytes()).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(load(tmp_path / "a.tif").X[0], four)
    save(tmp_path / "b.png", COLOUR)
    with pytest.raises(DataError, match=r"several kinds, a.tif is 8-bit with 4 channels and b.png 8-bit colour"):
        load(tmp_path)


@pytest.mark.parametrize("how", ["raw", "tiff_lzw", "channels", "big"])
def test_a_tiff_that_is_cut_short_never_loses_pages_quietly(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], how: str
) -> None:
    path, pages = tmp_path / "a.tif", [GREY, GREY + 1, GREY + 2]
    if how in ("raw", "tiff_lzw"):
        first, *others = map(Image.fromarray, pages)
        first.save(path, save_all=True, append_images=others, compression=how)
    else:
        with tifffile.TiffWriter(path, bigtiff=how == "big") as file:
            for page in pages:
                file.write(np.dstack([page] * 5), photometric="minisblack", planarconfig="contig", metadata=None)
    whole, reference = path.read_bytes(), load(path).X
    assert len(reference) == 3
    for cut in range(8, len(whole), 11):
        path.write_bytes(whole[:cut])
        with suppress(DataError):
            np.testing.assert_array_equal(load(path).X, reference)
    assert capfd.readouterr().err == ""
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a\.tif cannot be read as an image \("):
        load(path)
    last = {42: struct.Struct("<I"), 43: struct.Struct("<Q")}[whole[2]]
    start = last.unpack_from(whole, 8 if how == "big" else 4)[0]
    (n_entries,) = struct.unpack_from("<Q" if how == "big" else "<H", whole, start)
    link = start + (8 + 20 * n_entries if how == "big" else 2 + 12 * n_entries)
    path.write_bytes(whole[:link] + last.pack(start) + whole[link + last.size :])
    with pytest.raises(DataError, match="its page 2 is one of those before it"):
        load(path)


def test_tiffs_that_cannot_be_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((6, 9, 5), np.uint8), photometric="minisblack", planarconfig="contig")
    whole = (tmp_path / "a.tif").read_bytes()
    width = struct.pack("<HHII", 256, 4, 1, 9)  # the tag, as the file has it
    assert width in whole
    empty = whole.replace(width, struct.pack("<HHII", 256, 4, 1, 0))
    for blob in (whole[:300], whole[:9], empty, b"II*\0 no tiff", b"none"):
        (tmp_path / "b.tif").write_bytes(blob)
        with pytest.raises(DataError, match=r"b\.tif cannot be read as an image \("):
            load(tmp_path / "b.tif")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(DataError, match=r'install tifffile, pip install "vae-anomaly\[tiff\]", or save it as .npy'):
        load(tmp_path / "a.tif")


@pytest.fixture
def bottle(tmp_path: Path) -> Path:
    """A folder in MVTec's layout."""
    for i in range(3):
        save(tmp_path / f"train/good/{i}.png", COLOUR)
        save(tmp_path / f"test/good/{i}.png", COLOUR)
        save(tmp_path / f"test/crack/{i}.png", COLOUR)
    mask = np.zeros(COLOUR.shape[:2], np.uint8)
    mask[2:4, 3:6] = 255
    for i in range(2):
        save(tmp_path / f"ground_truth/crack/{i}_mask.png", mask)
    save(tmp_path / "ground_truth/crack/9_mask.png", mask)
    return tmp_path


def test_the_layout_of_mvtec_says_what_is_normal_and_what_is_tested(bottle: Path) -> None:
    (bottle / "readme.txt").write_text("x")
    with noting("readme.txt (no kind of image that can be read), ground_truth/crack/9_mask.png (a mask of no image"):
        data = load(bottle)
    assert data.labels is not None
    assert data.parts is not None
    assert data.masks is not None
    assert data.normal == ("good",)
    assert sorted(set(zip(data.parts.tolist(), data.labels.tolist(), strict=True))) == [
        ("test", "crack"),
        ("test", "good"),
        ("train", "good"),
    ]
    known = {name: mask.name for name, mask in zip(data.row_names or (), data.masks, strict=True) if mask}
    assert known == {"test/crack/0.png": "0_mask.png", "test/crack/1.png": "1_mask.png"}
    assert load(bottle / "train").normal == ("good",)
    shutil.rmtree(bottle / "test")
    shutil.rmtree(bottle / "ground_truth")
    alone = load(bottle)
    assert (alone.normal, alone.parts, set(alone.labels)) == (("good",), None, {"good"})


def test_masks_come_at_the_size_of_the_samples_and_are_not_averaged(bottle: Path) -> None:
    masks = [bottle / "ground_truth/crack/0_mask.png", None]
    plain = load_masks(masks, ImageReading(), (6, 9))
    assert plain.dtype == bool
    assert plain[0, 2:4, 3:6].all()
    assert plain.sum() == 6
    resized = load_masks(masks, ImageReading(resize=(12, 18), crop=(8, 8)), (8, 8))
    np.testing.assert_array_equal(resized[0], np.kron(plain[0], np.ones((2, 2), bool))[2:10, 5:13])
    with pytest.raises(DataError, match=r"0_mask.png is 6x9, but its image is 7x9"):
        load_masks(masks, ImageReading(), (7, 9))
