"""The samples of data sets known by name, from a data folder, the cache, or a download."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from vae_anomaly.datasets import idx
from vae_anomaly.datasets.catalogue import FILES, NAMED, Named
from vae_anomaly.datasets.dataset import Dataset
from vae_anomaly.errors import DataError, DataUnavailableError

DATA_DIR_VARIABLE = "VAE_ANOMALY_DATA"
CACHE_VARIABLE = "VAE_ANOMALY_CACHE"


def load_named(name: str, data_dir: Path | None = None, *, progress: bool = False) -> tuple[Dataset, Dataset]:
    """The training and the test part of a named data set.

    IDX files are looked for in ``data_dir`` (or the folder ``VAE_ANOMALY_DATA`` names), each data set in a subfolder of
    its name; then in the user's cache (``VAE_ANOMALY_CACHE`` moves it); then downloaded into it. ``digits`` has no test
    part of its own: a fixed random third of it is used.

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
        missing = [file for file in FILES if find_file(folder, file) is None]
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
        if all(find_file(folder, file) for file in FILES):
            return folder
    return None


def cache_dir() -> Path:
    """Where downloads are kept."""
    variable = os.environ.get(CACHE_VARIABLE)
    if variable:
        return Path(variable)
    from pooch import os_cache

    return Path(os_cache("vae-anomaly"))


def find_file(folder: Path, file: str) -> Path | None:
    """A file of a data set, compressed or plain, if it is there."""
    for path in (folder / f"{file}.gz", folder / file):
        if path.is_file():
            return path
    return None


def read_file(named: Named, folder: Path, file: str, ndim: int) -> np.ndarray:
    """A file of a named data set, after making sure that it is the one its name says."""
    path = find_file(folder, file)
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
