"""What every reader needs: JSON and arrays that are checked field by field, paths that stay inside the
capture."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raf_lite import _files

MAX_ARRAY_BYTES = 256 << 20  # of one array in an npz file, before it is unpacked


def read_json(path: Path) -> dict:
    """An object from a JSON file. FileNotFoundError or ValueError that names the file."""
    return _files.read_json(path, dict)


def field(container: Any, name: str, where: str) -> Any:
    """`container[name]`, or a ValueError that says where it is missing."""
    if not isinstance(container, Mapping) or name not in container:
        raise ValueError(f"{where} has no field '{name}'; write it again")
    return container[name]


def numbers(value: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    """`value` as a finite float64 array of this shape (-1: any length), or a ValueError that says where."""
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{where} is not an array of numbers; write it again") from error
    if array.ndim != len(shape) or any(n not in (-1, m) for n, m in zip(shape, array.shape, strict=True)):
        wanted = "x".join("n" if n < 0 else str(n) for n in shape) or "one number"
        raise ValueError(f"{where} has shape {list(array.shape)}, not {wanted}; write it again")
    if not np.isfinite(array).all():
        raise ValueError(f"{where} has values that are not finite; write it again")
    return array


def whole(value: Any, where: str) -> int:
    """`value` as a whole number, or a ValueError that says where."""
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or (isinstance(value, float) and not value.is_integer())
    ):
        raise ValueError(f"{where} is {value!r}, not a whole number; write it again")
    return int(value)


def natural(name: str) -> list[tuple[int, str]]:
    """Sorts "frame10" after "frame9"."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def check_order(names: Sequence[str], where: str) -> None:
    """ValueError for two names, in natural order, of one number: nobody knows which is first, or which is
    right."""
    for one, other in itertools.pairwise(names):
        if natural(one) == natural(other):
            raise ValueError(f"{where} {one} and {other}, which are one time step twice; remove one of them")


def in_time(frames: Sequence[Any], name: str, file: Path) -> list[tuple[int, Any]]:
    """Frames of a JSON file with the number of each in it, in the natural order of the path that their field
    `name` holds.

    ValueError where two name the same picture.
    """
    paths = [str(field(frame, name, f"{file} frame {number}")) for number, frame in enumerate(frames)]
    order = sorted(range(len(paths)), key=lambda number: natural(paths[number]))
    check_order([paths[number] for number in order], f"{file}: its frames name")
    return [(number, frames[number]) for number in order]


def inside(root: Path, relative: Any, where: str, base: Path | None = None) -> Path:
    """The file that a path relative to `base` (default: `root`) names. ValueError where it leads out of
    `root`, through `..` or through a link."""
    if not isinstance(relative, str) or not relative or "\0" in relative:
        raise ValueError(f"{where} is {relative!r}, not a path; write it again")
    path = (base or root) / relative
    try:
        real = path.resolve()
        real.is_file()  # asks the system, which refuses names that are too long
        outside = not real.is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError) as error:  # too long, a ring of links, half a Unicode pair
        raise ValueError(
            f"{where} is {relative!r}, which cannot be followed ({type(error).__name__}); write it again"
        ) from error
    if outside:
        raise ValueError(
            f"{where} is {relative!r}, which leads out of {root}; put the file inside the capture"
        )
    return real


def read_arrays(path: Path, names: tuple[str, ...] | None = None) -> dict[str, np.ndarray]:
    """`read_npz` for files of captures, which strangers write: no array of more than MAX_ARRAY_BYTES is
    unpacked."""
    return _files.read_npz(path, names, most_bytes=MAX_ARRAY_BYTES)
