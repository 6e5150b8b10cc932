"""Pictures and masks from files, for every format: a picture is what a viewer shows, a mask is what its
writer meant."""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 64_000_000  # twice NeRSemble's 3208x2200, ten times over: more is a damaged header or a bomb
# Nothing else is opened, whatever a file is called: some of Pillow's readers start other programs
# (Ghostscript for EPS).
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
_DAMAGE = (
    UnidentifiedImageError,
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    zlib.error,
    struct.error,
    Image.DecompressionBombWarning,
)


def picture_size(path: Path, where: str) -> tuple[int, int, bool]:
    """Height and width as a viewer shows the picture, and whether some of it can be transparent, from the
    header alone.

    Raises FileNotFoundError, or ValueError for a file that is no PNG, JPEG, WebP or BMP, and for one of more
    than MAX_PIXELS."""
    with _opened(path, where) as image, _decoding(path):
        width, height = image.size[::-1] if _lies(image) else image.size
        return height, width, image.has_transparency_data


def read_picture(path: Path) -> np.ndarray:
    """Decode a picture as a viewer shows it: uint8 [H, W, 3] sRGB, or [H, W, 4] where some of it can be
    transparent.

    It is turned as EXIF says; palettes, CMYK, grey and 16 bit become RGB. Errors as `picture_size`, and for
    damage.
    """
    with _opened(path, str(path)) as image, _decoding(path):
        alpha = image.has_transparency_data
        image = _upright(image)
        if not image.mode.startswith(("I", "F")):
            return np.asarray(image.convert("RGBA" if alpha else "RGB"))
        # 16-bit grey, which Pillow's own conversion clips at 255.
        values = np.asarray(image)
        grey = _eight_bits(values)
        seen = [(values != image.info["transparency"]).astype(np.uint8) * np.uint8(255)] if alpha else []
        return np.stack([grey, grey, grey, *seen], -1)


def read_mask(path: Path, *, alpha: bool = False) -> np.ndarray:
    """Decode a mask, uint8 [H, W]: 255 is the head. alpha: the transparency of a picture, else the picture's
    brightness.

    Masks that were saved as 0 and 1, in 8 or 16 bit, are read as 0 and 255, but not from JPEGs, whose
    compression changes such small numbers. Errors as `read_picture`.
    """
    if alpha:
        picture = read_picture(path)
        return picture[..., 3] if picture.shape[2] == 4 else np.full(picture.shape[:2], 255, np.uint8)
    with _opened(path, str(path)) as image, _decoding(path):
        exact = image.format not in ("JPEG", "MPO")
        image = _upright(image)
        if image.mode.startswith(("I", "F")):
            values = np.asarray(image)
            # What is no brighter than 255 of 65,535 was 8-bit before it was stored in 16.
            mask = values.astype(np.uint8) if values.max(initial=0) <= 255 else _eight_bits(values)
        else:
            mask = np.asarray(image.convert("L"))
    return mask * np.uint8(255) if exact and mask.max(initial=0) == 1 else mask


def _opened(path: Path, where: str) -> Image.Image:
    if not path.is_file():
        raise FileNotFoundError(f"{where}: there is no image {path}; copy the capture again")
    try:
        image = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} claims more pixels than any capture has; copy or write it again") from error
    except _DAMAGE as error:
        raise ValueError(
            f"{path} is no readable image of the kinds PNG, JPEG, WebP and BMP ({type(error).__name__}); copy"
            " or write it again"
        ) from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise ValueError(
            f"{path} claims {width}x{height} pixels, more than any capture has; copy or write it again"
        )
    return image


@contextlib.contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Names the file where its pixels cannot be decoded."""
    try:
        yield
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{path} cannot be decoded ({type(error).__name__}); copy or write it again"
        ) from error


def _upright(image: Image.Image) -> Image.Image:
    """The decoded picture, turned as EXIF says; a copy only where it is turned."""
    image.load()
    return ImageOps.exif_transpose(image) if image.getexif().get(ExifTags.Base.Orientation, 1) != 1 else image


def _lies(image: Image.Image) -> bool:
    """Whether EXIF changes width for height, without decoding: to look behind a PNG's pixels too, Pillow
    would decode them."""
    if (
        image.format == "PNG"
        and not {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"} & image.info.keys()
    ):
        return False
    return image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """16-bit grey [H, W] as uint8, rounded to nearest."""
    return ((values.astype(np.int64).clip(0, 65535) + 128) // 257).astype(np.uint8)
