"""Reading an npz that this room wrote, with one clear error for every way in which it can be broken."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError

import numpy as np


def read_npz(path: str | os.PathLike, what: str, fields: tuple[str, ...]) -> list[np.ndarray]:
    """The arrays `fields` of the npz at `path`, in that order.

    Raises FileNotFoundError, or ValueError for a damaged file or one that lacks a field; both name the file and `what` it is.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file; a {what} is written by its save()")
    try:
        with np.load(path, allow_pickle=False) as data:
            return [data[name] for name in fields]
    # An npy under the name of an npz loads as a bare array, which is no context manager: TypeError.
    # SyntaxError and TokenError: NumPy parses the header of an array as Python.
    except (OSError, EOFError, KeyError, ValueError, TypeError, SyntaxError, TokenError, MemoryError, OverflowError,
            NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is not a readable {what} ({error}); write it again with save()") from error
