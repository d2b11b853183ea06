"""NumPy files, opened within bounds: mapped rather than loaded, and never unpickled."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vae_anomaly.errors import DataError


def open_npy(path: Path) -> np.ndarray:
    """A ``.npy`` array, mapped into memory; never unpickled."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (ValueError, EOFError, OverflowError, SyntaxError) as error:
        raise DataError(f"{path}: {explain_numpy(error)}") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise DataError(f"{path}: not a .npy file (is it an .npz?)")
    return array


def explain_numpy(error: Exception) -> str:
    """What a failure to read a NumPy file means for its owner."""
    text = str(error)
    if "pickle" in text or "Python objects" in text:
        return "holds Python objects (or is no NumPy file), which could run code and are never read: save plain numbers"
    if "mmap length" in text or "reshape" in text or isinstance(error, EOFError):
        return f"cut short ({text})"
    return f"not a readable NumPy file ({text})"
