"""Files that are whole or absent: atomic writes, hashes, and the cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


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
        np.savez_compressed(tmp, **arrays)


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
