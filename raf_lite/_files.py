"""Files that are whole or absent: atomic writes, the only npz reader, hashes, and the cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

# What NumPy, zipfile and zlib raise for a damaged file depends on where the damage is. SyntaxError and TokenError: NumPy parses
# the header of an array as Python.
_DAMAGE = (OSError, EOFError, KeyError, ValueError, TypeError, SyntaxError, TokenError, MemoryError, OverflowError,
           NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, delete it on failure.

    The file that stood at `path` before stays whole if the body raises, the disk fills up or the process is killed.
    The temporary name keeps the suffix, since some writers choose a format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(fd)
    tmp = Path(name)
    try:
        yield tmp
        # mkstemp makes private files; give the result the permissions any other new file would have.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(tmp, 0o666 & ~umask)
        os.replace(tmp, path)
    finally:
        tmp.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write `value` as indented JSON, atomically; the same bytes on every system."""
    with atomic_path(path) as tmp:
        tmp.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")


def write_npz(path: str | os.PathLike, **arrays: np.ndarray) -> None:
    """Write a compressed npz, atomically. Object arrays are refused: they would need pickle to be read."""
    for name, array in arrays.items():
        if np.asarray(array).dtype == object:
            raise ValueError(f"{path}: field '{name}' is an object array; store numbers or fixed-width strings instead")
    with atomic_path(path) as tmp:
        np.savez_compressed(tmp, **arrays)  # pyright: ignore[reportArgumentType] (no field is called allow_pickle)


def read_npz(path: str | os.PathLike, fields: Sequence[str] | None = None, *, optional: Sequence[str] = (),
             mend: str = "copy or write it again", most_bytes: int | None = None) -> dict[str, np.ndarray]:
    """The arrays `fields` of an npz, by name and in this order (default: all that it holds), without pickle.

    optional: further fields, read where they are there. mend: how whoever reads an error gets a whole file; ends every sentence.
    most_bytes: what one array may unpack to by the file's own directory (None: any size), asked before anything is unpacked.

    Raises FileNotFoundError, or ValueError that names the file and the field: damaged, object arrays, a field that is missing or
    too large.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; {mend}")
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()}
    except _DAMAGE as error:
        raise ValueError(f"{path} cannot be read ({type(error).__name__}); {mend}") from error
    fields = [*(sizes if fields is None else fields), *(name for name in optional if name in sizes)]
    for name in fields:
        if name not in sizes:
            raise ValueError(f"{path} has no array '{name}'; {mend}")
        if most_bytes is not None and sizes[name] > most_bytes:
            raise ValueError(f"{path}: the array '{name}' would unpack to {sizes[name]} bytes, not {most_bytes} at most; {mend}")
    arrays = {}
    try:
        with np.load(path, allow_pickle=False) as stored:
            for name in fields:
                arrays[name] = np.asarray(stored[name])
    except _DAMAGE as error:
        at = next((f"'{name}': " for name in fields if name not in arrays), "")  # the first that was not read
        reason = "an object array or damage" if isinstance(error, ValueError) else type(error).__name__
        raise ValueError(f"{path} cannot be read ({at}{reason}); {mend}") from error
    return arrays


def sha256_file(path: str | os.PathLike) -> str:
    """Hex sha256 of a file's bytes, read in blocks."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def cache_path(*parts: str) -> Path:
    """`$RAF_LITE_CACHE` or the system's cache folder, with `parts` below it, whether it is there or not."""
    root = os.environ.get("RAF_LITE_CACHE")
    if not root:
        import pooch

        root = pooch.os_cache("raf_lite")
    return Path(root, *parts)


def cache_dir(*parts: str) -> Path:
    """`cache_path(*parts)`, created."""
    folder = cache_path(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
