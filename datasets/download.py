"""Downloads: several mirrors, retries, a hash, and only then a place in the cache."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pooch
import requests

from vae_anomaly.datasets import idx
from vae_anomaly.errors import DataError, DataUnavailableError
from vae_anomaly.storage.atomic import atomic_write

CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 10.0
PROBE_TIMEOUT = 5.0
ATTEMPTS = 2


class WrongHashError(DataError):
    """A file that came through, but is not the one asked for."""


def download(
    files: Mapping[str, str],
    mirrors: Sequence[str],
    folder: Path,
    *,
    hash_of_gzip: bool,
    progress: bool = False,
) -> None:
    """Fetch gzip files into ``folder``; a file appears there only once its hash is right.

    Parameters
    ----------
    files
        File name (without ``.gz``) to the SHA-256 expected.
    mirrors
        Addresses to try in order, each a prefix of ``name.gz``.
    hash_of_gzip
        Whether hashes are of the compressed files rather than of their content.
    progress
        Show a bar on stderr.

    Raises
    ------
    DataUnavailableError
        If no mirror gives a file.
    WrongHashError
        If a file came through, but no mirror had the right one.
    OSError
        If the folder cannot be written to.
    """
    failures = probe(mirrors, next(iter(files)))
    reachable = [mirror for mirror in mirrors if mirror not in failures]
    if not reachable:
        raise DataUnavailableError("; ".join(f"{mirror}: {reason}" for mirror, reason in failures.items()))
    folder.mkdir(parents=True, exist_ok=True)
    for name, expected in files.items():
        fetch(name, expected, reachable, folder, hash_of_gzip=hash_of_gzip, progress=progress)


def probe(mirrors: Sequence[str], name: str) -> dict[str, str]:
    """Mirrors that do not answer within seconds, each with the reason.

    All are asked at once, from threads that may be left behind: looking up a name without a network can hang for far
    longer than any timeout that an HTTP library knows.
    """
    failures = dict.fromkeys(mirrors, f"no answer within {PROBE_TIMEOUT:g} s")

    def ask(mirror: str) -> None:
        try:
            requests.get(f"{mirror}{name}.gz", stream=True, timeout=(CONNECT_TIMEOUT, PROBE_TIMEOUT)).close()
            del failures[mirror]
        except requests.RequestException as error:
            failures[mirror] = type(error).__name__

    threads = [threading.Thread(target=ask, args=(mirror,), daemon=True) for mirror in mirrors]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PROBE_TIMEOUT
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(failures)


def fetch(
    name: str, expected: str, mirrors: Sequence[str], folder: Path, *, hash_of_gzip: bool, progress: bool
) -> None:
    """Fetch one file from the first mirror that has the right one; raises as `download`."""
    responses: list[requests.Response] = []

    def keep(response: requests.Response, *_: object, **__: object) -> None:
        responses.append(response)

    get = pooch.HTTPDownloader(
        progressbar=progress and sys.stderr.isatty(),
        chunk_size=1 << 16,
        timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
        hooks={"response": keep},
    )
    failures: list[Exception] = []
    for mirror in mirrors:
        for _ in range(ATTEMPTS):
            try:
                with atomic_write(folder / f"{name}.gz", "w+b") as file:
                    get(f"{mirror}{name}.gz", file, None)
                    file.flush()
                    verify(Path(file.name), mirror + name, expected, hash_of_gzip=hash_of_gzip)
                return
            except WrongHashError as error:
                failures.append(error)
                break
            except (requests.RequestException, DataError) as error:
                failures.append(error)
                time.sleep(0.2)
            finally:
                for response in responses:  # pooch leaves failed ones open
                    response.close()
    wrong = [error for error in failures if isinstance(error, WrongHashError)]
    if wrong:
        raise wrong[0]
    raise DataUnavailableError(f"{name}.gz: {failures[-1]}")


def verify(path: Path, what: str, expected: str, *, hash_of_gzip: bool) -> None:
    """Compare a downloaded file with its hash; a damaged gzip stream raises `DataError`."""
    content = idx.read_bytes(path)
    found = hashlib.sha256(path.read_bytes() if hash_of_gzip else content).hexdigest()
    if found != expected:
        raise WrongHashError(
            f"{what}.gz has SHA-256 {found}, expected {expected}: nothing was kept. The mirror or the connection "
            "altered it: try again, or put the right files in place by hand and give --data-dir"
        )
