"""Picture files: what a viewer shows is what is read, in every format, and nothing but pictures is opened."""

from __future__ import annotations

import struct
import subprocess
import zlib

import numpy as np
import pytest
from PIL import Image

from raf_lite.captures import open_capture
from raf_lite.captures.pictures import picture_size, read_mask, read_picture

HEIGHT, WIDTH = 24, 32
QUARTERS = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
QUARTERS[:12, :16], QUARTERS[:12, 16:], QUARTERS[12:, :16], QUARTERS[12:, 16:] = (
    (220, 40, 40),
    (40, 200, 40),
    (40, 60, 220),
    230,
)
LAID = {
    1: QUARTERS,
    2: QUARTERS[:, ::-1],
    3: QUARTERS[::-1, ::-1],
    4: QUARTERS[::-1],
    5: QUARTERS.transpose(1, 0, 2),
    6: QUARTERS.transpose(1, 0, 2)[:, ::-1],
    7: QUARTERS.transpose(1, 0, 2)[::-1, ::-1],
    8: QUARTERS.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", LAID)
def test_pictures_are_turned_as_exif_says(tmp_path, ending, orientation):
    path, exif = tmp_path / f"0.{ending}", Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(QUARTERS).save(
        path, exif=exif, **({"lossless": True} if ending == "webp" else {"quality": 98})
    )
    right = LAID[orientation]
    assert picture_size(path, "here")[:2] == right.shape[:2]
    assert np.abs(read_picture(path).astype(int) - right).mean() < 4
    capture = open_capture(tmp_path)
    assert (
        capture.first_frame("video", "0").shape == right.shape
        and capture.cameras["0"].width == right.shape[1]
    )


def test_palettes_and_transparent_colours_are_alpha(tmp_path):
    indices = np.zeros((HEIGHT, WIDTH), np.uint8)
    indices[6:18, 8:24] = 1
    picture = Image.fromarray(indices, "P")
    picture.putpalette([255, 0, 255, 10, 120, 30])
    picture.save(tmp_path / "0.png", transparency=0)
    assert picture_size(tmp_path / "0.png", "here") == (HEIGHT, WIDTH, True)
    read = read_picture(tmp_path / "0.png")
    assert read[0, 0, 3] == 0 and read[12, 16].tolist() == [10, 120, 30, 255]
    capture = open_capture(tmp_path)
    shown = capture.first_frame("video", "0")
    assert shown[0, 0].tolist() == [255, 255, 255] and shown[12, 16].tolist() == [10, 120, 30]
    np.testing.assert_array_equal(capture.first_mask("video", "0"), indices)
    grey = Image.fromarray(indices * np.uint8(200))
    grey.save(tmp_path / "grey.png", transparency=0)
    assert read_picture(tmp_path / "grey.png")[..., 3].tolist() == (indices * 255).tolist()


def test_depths_and_colour_spaces_become_rgb(tmp_path):
    ramp = np.linspace(0, 65535, WIDTH).astype(np.uint16)[None].repeat(HEIGHT, 0)
    Image.fromarray(ramp).save(tmp_path / "grey16.png")
    np.testing.assert_allclose(read_picture(tmp_path / "grey16.png")[..., 1], ramp / 257, atol=0.51)
    Image.fromarray(QUARTERS).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=98, subsampling=0)
    assert np.abs(read_picture(tmp_path / "cmyk.jpg").astype(int) - QUARTERS).mean() < 3
    Image.fromarray(QUARTERS).convert("L").save(tmp_path / "grey.bmp")
    assert (np.ptp(read_picture(tmp_path / "grey.bmp"), axis=2) == 0).all()
    Image.fromarray(QUARTERS[..., 0] > 100).save(tmp_path / "bits.png")
    assert np.unique(read_picture(tmp_path / "bits.png")).tolist() == [0, 255]


@pytest.mark.parametrize(
    "values",
    [
        np.array([0, 1], np.uint8),
        np.array([0, 255], np.uint8),
        np.array([0, 65535], np.uint16),
        np.array([0, 1], np.uint16),
        np.array([0, 255], np.uint16),
        np.array([False, True]),
    ],
)
def test_masks_of_any_unambiguous_scale_are_read(tmp_path, values):
    inside = np.zeros((HEIGHT, WIDTH), int)
    inside[6:18, 8:24] = 1
    Image.fromarray(values[inside]).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), inside * 255)


def test_soft_masks_of_16_bit_stay_soft(tmp_path):
    ramp = np.linspace(0, 65535, WIDTH).astype(np.uint16)[None].repeat(HEIGHT, 0)
    Image.fromarray(ramp).save(tmp_path / "mask.png")
    np.testing.assert_allclose(read_mask(tmp_path / "mask.png"), ramp / 257, atol=0.51)


@pytest.mark.parametrize(
    "start",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n",
        b"%PDF-1.4\n",
        b"BLP1",
        b"GIF89a\1\0\1\0\0\0\0",
        b"P6\n1 1\n255\nabc",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
)
def test_what_is_no_picture_is_not_opened_whatever_its_name(tmp_path, start, monkeypatch):
    def started(*command, **_):
        raise AssertionError(f"a picture started {command}")

    for name in ("Popen", "run", "call", "check_call", "check_output"):
        monkeypatch.setattr(subprocess, name, started)
    (tmp_path / "0.png").write_bytes(start + bytes(100))
    with pytest.raises(
        ValueError, match=r"0.png is no readable image of the kinds PNG, JPEG, WebP and BMP .*; copy or"
    ):
        read_picture(tmp_path / "0.png")


@pytest.mark.parametrize("side", [8_100, 40_000])
def test_a_picture_that_claims_too_much_is_a_sentence(tmp_path, side):
    Image.new("1", (8, 8)).save(tmp_path / "0.bmp")
    data = bytearray((tmp_path / "0.bmp").read_bytes())
    data[18:26] = side.to_bytes(4, "little") * 2
    (tmp_path / "0.bmp").write_bytes(data)
    with pytest.raises(
        ValueError, match=r"0.bmp claims .*more.* than any capture has; copy or write it again"
    ):
        picture_size(tmp_path / "0.bmp", "here")


def test_damage_is_named(tmp_path):
    Image.fromarray(QUARTERS).save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "0.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"0.png cannot be decoded"):
        read_picture(tmp_path / "0.png")
    with pytest.raises(FileNotFoundError, match=r"here: there is no image .*no.png"):
        picture_size(tmp_path / "no.png", "here")


@pytest.mark.parametrize("name", [b"iCCP", b"eXIf", b"IDAT"])
def test_a_chunk_that_is_cut_is_damage_of_the_file(tmp_path, name):
    """Before and behind the pixels, with a checksum that fits."""
    path = tmp_path / "a.png"
    Image.fromarray(np.full((4, 6, 3), 7, np.uint8)).save(path)
    data = path.read_bytes()
    for content in (b"", b"M"):
        chunk = (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )
        for at in (33, len(data) - 12):
            path.write_bytes(data[:at] + chunk + data[at:])
            for read in (read_picture, read_mask, lambda file: picture_size(file, str(file))):
                try:
                    read(path)
                except ValueError as error:
                    assert str(path) in str(error)
    path.write_bytes(
        data[:-12] + struct.pack(">I", 0) + b"iCCP" + struct.pack(">I", zlib.crc32(b"iCCP")) + data[-12:]
    )
    with pytest.raises(ValueError, match=r"a.png cannot be decoded \(IndexError\); copy or write it again"):
        read_picture(path)
