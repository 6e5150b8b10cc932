"""One array of an npz file, looked at before it is unpacked.

A few bytes can claim any shape, and a few kilobytes unpack to gigabytes. So the claims come first: the
member's size by the zip's directory and the array's by its own header must be equal, and within what the
caller allows; only then is memory taken, and no more than that. Nothing is evaluated or unpickled.
"""

from __future__ import annotations

import io
import math
import zipfile
from typing import IO

import numpy as np

MOST_HEADER = 1024  # bytes; those of plain arrays have 118
BLOCK = 1 << 20  # unpacked at a time
_METHODS = (
    zipfile.ZIP_STORED,
    zipfile.ZIP_DEFLATED,
)  # zipfile unpacks the others in one piece, however long that gets
_ENCRYPTED = 1


class RefusedArray(ValueError):
    """Its text is what follows "the array 'name' "."""


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most_bytes: int) -> np.ndarray:
    """The array of a member: numbers, text, dates or booleans, in this machine's byte order. No objects, no
    records.

    Raises RefusedArray, and for damage what zipfile, zlib and NumPy raise.
    """
    if info.file_size > most_bytes:
        raise RefusedArray(f"would unpack to {info.file_size} bytes, not {most_bytes} at most")
    if info.compress_type not in _METHODS or info.flag_bits & _ENCRYPTED:
        raise RefusedArray("is compressed in a way that NumPy does not write")
    with archive.open(info) as member:
        start, shape, fortran, dtype = _header(member)
        count = math.prod(shape)  # of Python's integers, which do not overflow
        if (
            start + count * dtype.itemsize != info.file_size
            or math.prod(max(n, 1) for n in shape) * dtype.itemsize > most_bytes
        ):
            raise RefusedArray(
                f"claims a shape, {_short(shape)} of {dtype}, that its {info.file_size} bytes do not hold"
            )
        flat = np.empty(count, dtype)
        view = flat.view(np.uint8)
        at = 0
        while at < view.size:
            block = member.read(min(BLOCK, view.size - at))
            if not block:
                raise RefusedArray("ends too early")
            view[at : at + len(block)] = np.frombuffer(block, np.uint8)
            at += len(block)
        member.read(1)  # the end, where zipfile compares the checksum
    if flat.dtype.kind == "b" and (view > 1).any():
        raise RefusedArray("holds booleans that are neither true nor false")
    flat = flat.astype(dtype.newbyteorder("="), copy=False)
    if flat.dtype.kind == "U":
        letters = flat.view(np.uint32)
        if ((letters > 0x10FFFF) | ((letters >= 0xD800) & (letters < 0xE000))).any():
            raise RefusedArray("holds text that is no Unicode")
    return flat.reshape(shape[::-1]).transpose() if fortran else flat.reshape(shape)


def _header(member: IO[bytes]) -> tuple[int, tuple[int, ...], bool, np.dtype]:
    """(how many bytes stand before the numbers, shape, Fortran order, dtype)."""
    version = np.lib.format.read_magic(member)
    size = 2 if version == (1, 0) else 4
    length = member.read(size)
    claimed = int.from_bytes(length, "little")
    if version not in ((1, 0), (2, 0)) or claimed > MOST_HEADER:
        raise RefusedArray("is no plain array")
    text = io.BytesIO(length + member.read(claimed))
    read = np.lib.format.read_array_header_1_0 if size == 2 else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(text)
    if dtype.kind not in "biufcSUmM" or dtype.itemsize == 0 or (dtype.kind == "f" and dtype.itemsize > 8):
        raise RefusedArray(f"holds {dtype} where numbers or text belong")
    if any(isinstance(n, bool) or n < 0 for n in shape) or len(shape) > 32:
        raise RefusedArray(f"claims the shape {_short(shape)}")
    return np.lib.format.MAGIC_LEN + size + claimed, shape, fortran, dtype


def _short(shape: tuple[int, ...]) -> str:
    text = str(list(shape))
    return text if len(text) <= 60 else text[:57] + "..."
