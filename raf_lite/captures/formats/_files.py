"""What every reader needs: JSON and arrays that are checked field by field, paths that stay inside the capture, image headers."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from raf_lite import _files

MAX_PIXELS = 64_000_000  # twice NeRSemble's 3208x2200, ten times over: more is a damaged header or a bomb
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
    if isinstance(value, bool) or not isinstance(value, (int, float)) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError(f"{where} is {value!r}, not a whole number; write it again")
    return int(value)


def inside(root: Path, relative: Any, where: str, base: Path | None = None) -> Path:
    """The file that a path relative to `base` (default: `root`) names. ValueError where it leads out of `root`, through `..` or
    through a link."""
    if not isinstance(relative, str) or not relative or "\0" in relative:
        raise ValueError(f"{where} is {relative!r}, not a path; write it again")
    path = (base or root) / relative
    try:
        real = path.resolve()
        real.is_file()  # asks the system, which refuses names that are too long
        outside = not real.is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError) as error:  # too long, a ring of links, half a Unicode pair
        raise ValueError(f"{where} is {relative!r}, which cannot be followed ({type(error).__name__}); write it again") from error
    if outside:
        raise ValueError(f"{where} is {relative!r}, which leads out of {root}; put the file inside the capture")
    return real


def image_size(path: Path, where: str) -> tuple[int, int, bool]:
    """Height, width, and whether there is an alpha channel, from the header alone."""
    if not path.is_file():
        raise FileNotFoundError(f"{where}: there is no image {path}; copy the capture again")
    try:
        with Image.open(path) as image:
            width, height = image.size
            alpha = "A" in image.getbands()
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is no readable image ({type(error).__name__}); copy or write it again") from error
    if width * height > MAX_PIXELS:
        raise ValueError(f"{path} claims {width}x{height} pixels, more than any capture has; copy or write it again")
    return height, width, alpha


def read_image(path: Path, mode: str) -> np.ndarray:
    """Decode one image: mode "RGB", "RGBA" or "L" -> uint8. ValueError that names a damaged file."""
    image_size(path, str(path))
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert(mode))
    except (OSError, ValueError, SyntaxError, zlib.error, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be decoded ({type(error).__name__}); copy or write it again") from error


def read_arrays(path: Path, names: tuple[str, ...] | None = None) -> dict[str, np.ndarray]:
    """`read_npz` for files of captures, which strangers write: no array of more than MAX_ARRAY_BYTES is unpacked."""
    return _files.read_npz(path, names, most_bytes=MAX_ARRAY_BYTES)
