"""Data sets known by name, and where their files are found: a data folder, the cache, a download."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vae_anomaly.datasets import idx
from vae_anomaly.datasets.dataset import Dataset
from vae_anomaly.errors import DataError, DataUnavailableError

DATA_DIR_VARIABLE = "VAE_ANOMALY_DATA"
CACHE_VARIABLE = "VAE_ANOMALY_CACHE"
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True)
class Named:
    """A data set known by name.

    Parameters
    ----------
    about
        One line for people.
    mirrors
        Addresses that a file's name plus ``.gz`` is appended to, in order of preference. Empty: built in.
    sha256
        File name to hash.
    hash_of_gzip
        Whether the hash is of the compressed file rather than of its content.
    """

    about: str
    mirrors: tuple[str, ...] = ()
    sha256: dict[str, str] | None = None
    hash_of_gzip: bool = False


def hashes(*values: str) -> dict[str, str]:
    """Hashes by file name, in the order of `FILES`."""
    return dict(zip(FILES, values, strict=True))


NAMED: dict[str, Named] = {
    "mnist": Named(
        about="handwritten digits, 28x28 grey, 60,000 to train and 10,000 to test, classes 0 to 9",
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        sha256=hashes(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    "fashion-mnist": Named(
        about="articles of clothing, 28x28 grey, 60,000 and 10,000, classes 0 to 9",
        mirrors=(
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
        ),
        sha256=hashes(
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
        hash_of_gzip=True,
    ),
    "kmnist": Named(
        about="cursive Japanese characters, 28x28 grey, 60,000 and 10,000, classes 0 to 9",
        mirrors=("https://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        sha256=hashes(
            "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        ),
        hash_of_gzip=True,
    ),
    "digits": Named(about="scikit-learn's handwritten digits, 8x8 grey, 1,797 in all, classes 0 to 9"),
}


def load_named(name: str, data_dir: Path | None = None, *, progress: bool = False) -> tuple[Dataset, Dataset]:
    """The training and the test part of a named data set.

    IDX files are looked for in ``data_dir`` (or the folder ``VAE_ANOMALY_DATA`` names), each data set in a subfolder of
    its name; then in the user's cache (``VAE_ANOMALY_CACHE`` moves it); then downloaded into it. ``digits`` has no test
    part of its own: a fixed random third serves as one.

    Parameters
    ----------
    name
        A key of `NAMED`.
    data_dir
        Folder of data sets; overrides the environment variable.
    progress
        Show download progress on stderr.

    Raises
    ------
    DataUnavailableError
        If a file is neither on disk nor reachable.
    DataError
        If a file is damaged or not the one its name says.
    """
    named = NAMED[name]
    if not named.mirrors:
        return load_digits()
    folder = locate(name, data_dir)
    if folder is None:
        folder = cache_dir() / name
        missing = [file for file in FILES if stored(folder, file) is None]
        try:
            from vae_anomaly.datasets.download import download  # a quarter of a second, seldom needed

            download(
                {file: (named.sha256 or {})[file] for file in missing},
                named.mirrors,
                folder,
                hash_of_gzip=named.hash_of_gzip,
                progress=progress,
            )
        except DataUnavailableError as error:
            raise DataUnavailableError(
                f"{name} is not on disk and could not be downloaded ({error}). Connect to the network, or put its four "
                f"files ({FILES[0]}.gz, ...) into DIR/{name} and give --data-dir DIR or set {DATA_DIR_VARIABLE}=DIR"
            ) from error
    arrays = [read_file(named, folder, file, 3 if "images" in file else 1) for file in FILES]
    source = f"{name} ({folder})"
    training, test = (Dataset(arrays[i], source, arrays[i + 1].astype(str)) for i in (0, 2))
    for part in (training, test):
        if part.labels is None or len(part) != len(part.labels):
            raise DataError(f"{folder}: images and labels differ in number")
    return training, test


def locate(name: str, data_dir: Path | None = None) -> Path | None:
    """The folder that holds all files of a named data set, or None.

    Raises
    ------
    DataError
        If ``data_dir``, or the folder that the environment variable names, does not exist.
    """
    variable = os.environ.get(DATA_DIR_VARIABLE)
    root = data_dir or (Path(variable) if variable else None)
    if root is not None and not root.is_dir():
        origin = "--data-dir" if data_dir else DATA_DIR_VARIABLE
        raise DataError(f"{origin} names {root}, which is not a folder")
    for folder in (*([root / name] if root else []), cache_dir() / name):
        if all(stored(folder, file) for file in FILES):
            return folder
    return None


def cache_dir() -> Path:
    """Where downloads are kept."""
    variable = os.environ.get(CACHE_VARIABLE)
    if variable:
        return Path(variable)
    from pooch import os_cache

    return Path(os_cache("vae-anomaly"))


def stored(folder: Path, file: str) -> Path | None:
    """A file of a data set, compressed or plain, if it is there."""
    for path in (folder / f"{file}.gz", folder / file):
        if path.is_file():
            return path
    return None


def read_file(named: Named, folder: Path, file: str, ndim: int) -> np.ndarray:
    """A file of a named data set, after making sure that it is the one its name says."""
    path = stored(folder, file)
    if path is None:
        raise DataUnavailableError(f"{folder / file}.gz is missing")
    data = idx.read_bytes(path)
    expected = (named.sha256 or {}).get(file)
    if not named.hash_of_gzip:
        found = hashlib.sha256(data).hexdigest()
    elif path.suffix == ".gz":
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    else:
        found = expected = ""  # only the compressed file has a known hash
    if found != expected:
        idx.parse(data, ndim, str(path))  # a malformed file deserves the better message
        raise DataError(
            f"{path} is not the file its name says: SHA-256 {found}, expected {expected}. Delete it to have it fetched "
            "again, or pass your own data with --data"
        )
    return idx.parse(data, ndim, str(path))


def load_digits() -> tuple[Dataset, Dataset]:
    """scikit-learn's digits, values 0 to 16 as float32 images; a fixed random third for the test.

    The file is ordered by writers. Splitting it at random makes both parts alike, which is what a promised
    false-alarm rate presupposes.
    """
    from sklearn.datasets import load_digits as builtin

    digits = builtin()
    whole = Dataset(digits.images.astype(np.float32), "digits (built into scikit-learn)", digits.target.astype(str))
    order = np.random.default_rng(0).permutation(len(whole))
    n_test = len(whole) // 3
    return whole.take(np.sort(order[n_test:])), whole.take(np.sort(order[:n_test]))
