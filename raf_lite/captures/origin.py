"""What a derived file was made from: the sha256 of its sources, and their sizes and times of change.

Both are kept in the derived file. The state is compared first, which saves the reading of films that nobody
touched; where it is another, as after a copy, the content decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from raf_lite._files import sha256_file

ORIGIN = ("source", "source_state")


def origin(files: Sequence[Path]) -> dict[str, np.ndarray]:
    """What to keep of `files`: the strings `source` and `source_state`. One file may be renamed, several may
    not."""
    return {"source": np.array(_content(files)), "source_state": np.array(source_state(files))}


def is_made_from(files: Sequence[Path], kept: Mapping[str, np.ndarray] | Mapping[str, str]) -> bool:
    """Whether `files` are those of which `kept` was made by `origin`; they are read only where their state is
    another."""
    return str(kept["source_state"]) == source_state(files) or str(kept["source"]) == _content(files)


def source_state(files: Sequence[Path]) -> str:
    """Sizes and times of change of files, and the names of several, as one word."""
    return _digest([(*_state(file), file.name if len(files) > 1 else "") for file in files])


def _content(files: Sequence[Path]) -> str:
    hashes = [_sha256(file, *_state(file)) for file in files]
    return (
        hashes[0]
        if len(files) == 1
        else _digest([(file.name, h) for file, h in zip(files, hashes, strict=True)])
    )


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()


def _state(file: Path) -> tuple[int, int]:
    state = file.stat()
    return state.st_size, state.st_mtime_ns


@lru_cache(maxsize=1 << 16)
def _sha256(file: Path, size: int, modified: int) -> str:
    """Of a file in this state: asked again, it is not read again."""
    return sha256_file(file)
