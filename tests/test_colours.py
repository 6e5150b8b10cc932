"""Colours of films: planes of known Y, Cb and Cr, tagged as films are found, and the RGB that the standards
give for them.

The right values below are worked out from ITU-R BT.601 (Kr 0.299, Kb 0.114) and BT.709 (Kr 0.2126, Kb
0.0722), Kg = 1 - Kr - Kb:

    limited range  y = (Y - 16) / 219   b = (Cb - 128) / 224   r = (Cr - 128) / 224
    full range     y = Y / 255          b = (Cb - 128) / 255   r = (Cr - 128) / 255
    R = 255 (y + 2 (1 - Kr) r)   B = 255 (y + 2 (1 - Kb) b)   G = (255 y - Kr R - Kb B) / Kg   clipped to
    0..255

as in, for (150, 110, 160), BT.601, limited: y = 134 / 219 = 0.61187, b = -18 / 224 = -0.08036, r = 32 / 224 =
0.14286, thus R = 255 (0.61187 + 1.402 x 0.14286) = 207.1, B = 255 (0.61187 - 1.772 x 0.08036) = 119.7,
G = (156.03 - 0.299 x 207.1 - 0.114 x 119.7) / 0.587 = 137.1.
"""

from __future__ import annotations

import itertools

import av
import numpy as np
import pytest

from raf_lite.captures.video import read_video, write_video

BLOCK = 32  # so wide that no chroma of the next block reaches its middle
YCC = [(16, 128, 128), (126, 128, 128), (235, 128, 128), (81, 90, 240), (150, 110, 160), (100,
    150, 100), (180, 120, 140), (85, 141, 107), (200, 100, 150)]  # fmt: skip
RIGHT = {
    ("BT.601", "limited"): [
        (0, 0, 0),
        (128.1, 128.1, 128.1),
        (255, 255, 255),
        (254.4, 0, 0),
        (207.1, 137.1, 119.7),
        (53.1, 112.0, 142.2),
        (210.1, 184.3, 174.8),
        (46.8, 92.3, 106.6),
        (249.4, 207.3, 157.8),
    ],
    ("BT.709", "limited"): [
        (0, 0, 0),
        (128.1, 128.1, 128.1),
        (255, 255, 255),
        (255, 24.1, 0),
        (213.4, 142.8, 118.0),
        (47.6, 108.0, 144.3),
        (212.5, 186.3, 174.1),
        (42.7, 88.8, 107.8),
        (253.7, 208.5, 155.1),
    ],
    ("BT.601", "full"): [
        (16, 16, 16),
        (126, 126, 126),
        (235, 235, 235),
        (238.0, 14.1, 13.7),
        (194.9, 133.3, 118.1),
        (60.7, 112.4, 139.0),
        (196.8, 174.2, 165.8),
        (55.6, 95.5, 108.0),
        (230.8, 193.9, 150.4),
    ],
    ("BT.709", "full"): [
        (16, 16, 16),
        (126, 126, 126),
        (235, 235, 235),
        (255, 35.7, 10.5),
        (200.4, 138.4, 116.6),
        (55.9, 109.0, 140.8),
        (198.9, 175.9, 165.2),
        (51.9, 92.4, 109.1),
        (234.6, 194.9, 148.0),
    ],
}
# FFmpeg's fast conversion, which limited range takes, rounds each of a channel's two or three terms down.
# Full range is rounded to nearest: half a level, and what a literal above leaves out.
WITHIN = {"limited": 3, "full": 0.6}
# H.273's numbers of matrices (2: not told) and FFmpeg's of ranges (0: not told, 1: limited, 2: full), as a
# header tells them.
BT709, UNTOLD, BT601 = 1, 2, 6


def write_planes(path, colours, pix_fmt="yuv420p", size=None, **tags):
    """A film of two frames without loss: `colours`, (Y, Cb, Cr) of 0..255 each, as upright bands. size:
    (height, width)."""
    height, width = size or (BLOCK, BLOCK * len(colours))
    picture = av.VideoFrame(width, height, pix_fmt)
    for plane, values in zip(picture.planes, zip(*colours)):
        row = np.zeros(plane.line_size, np.uint8)
        row[: plane.width] = np.repeat(np.array(values, np.uint8), plane.width // len(colours))
        plane.update(np.tile(row, plane.height).tobytes())
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.options = (
            width,
            height,
            pix_fmt,
            {"qp": "0", **tags},
        )
        for number in range(2):
            picture.pts = number
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def header(path):
    """The matrix and the range that the header tells."""
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        return int(context.colorspace), int(context.color_range)


def middles(film, count):
    """The pixel in the middle of each band of a film's last frame, float [count, ...]."""
    band = film.shape[2] // count
    return film[-1, film.shape[1] // 2, band // 2 :: band][:count].astype(float)


@pytest.mark.parametrize(
    ("tags", "told", "matrix", "levels"),
    [
        ({"colorspace": "smpte170m", "color_range": "tv"}, (BT601, 1), "BT.601", "limited"),
        ({"colorspace": "bt709", "color_range": "tv"}, (BT709, 1), "BT.709", "limited"),
        ({"colorspace": "smpte170m", "color_range": "pc"}, (BT601, 2), "BT.601", "full"),
        ({"colorspace": "bt709", "color_range": "pc"}, (BT709, 2), "BT.709", "full"),
        ({"pix_fmt": "yuvj420p"}, (UNTOLD, 2), "BT.601", "full"),
        ({"pix_fmt": "yuvj420p", "colorspace": "bt709"}, (BT709, 2), "BT.709", "full"),
        ({}, (UNTOLD, 0), "BT.601", "limited"),
        (
            {"size": (720, 1260)},
            (UNTOLD, 0),
            "BT.601",
            "limited",
        ),  # the rule does not change with the size, as some players' does
    ],
)
def test_the_tags_of_a_film_are_obeyed(tmp_path, tags, told, matrix, levels):
    path = tmp_path / "film.mp4"
    write_planes(path, YCC, **tags)
    assert header(path) == told, "the film of this test is not what its row says"
    film = read_video(path)
    off = middles(film, len(YCC)) - RIGHT[matrix, levels]
    assert np.abs(off).max() <= WITHIN[levels], off.round(1)
    np.testing.assert_array_equal(film[0], film[1])


def test_the_cases_are_further_apart_than_the_tolerance():
    """A film read by another row's rule fails the test above."""
    for (one, right), (other, wrong) in itertools.permutations(RIGHT.items(), 2):
        assert (np.abs(np.subtract(wrong, right)) > WITHIN[one[1]] + 2).any(), (one, other)


@pytest.mark.parametrize("colorspace", ["smpte170m", "bt709"])
@pytest.mark.parametrize(
    ("color_range", "right"),
    [
        ("tv", [0, 0, 55.9, 128.1, 192.1, 255, 255]),  # (Y - 16) 255 / 219, clipped
        ("pc", [0, 16, 64, 126, 181, 235, 255]),
    ],
)
def test_masks_obey_the_range(tmp_path, colorspace, color_range, right):
    path = tmp_path / "mask.mp4"
    write_planes(
        path,
        [(y, 128, 128) for y in (0, 16, 64, 126, 181, 235, 255)],
        colorspace=colorspace,
        color_range=color_range,
    )
    off = middles(read_video(path, gray=True), 7) - right
    assert np.abs(off).max() <= 1, off.round(1)


def test_what_is_written_is_bt601_limited_and_reads_back(tmp_path):
    # Y = 16 + 219 y, Cb = 128 + 224 (b - y) / 1.772, Cr = 128 + 224 (r - y) / 1.402 with y = 0.299 r + 0.587
    # g + 0.114 b, as in, for red: y = 0.299, Y = 81.5, Cb = 128 - 37.8, Cr = 128 + 112.
    colours = {
        (0, 0, 0): (16, 128, 128),
        (255, 255, 255): (235, 128, 128),
        (255, 0, 0): (81.5, 90.2, 240),
        (0, 255, 0): (144.6, 53.8, 34.2),
        (0, 0, 255): (41.0, 240, 109.8),
        (220, 170, 140): (171.9, 107.4, 152.1),
        (60, 90, 120): (88.5, 145.6, 112.7),
    }
    path = tmp_path / "film.mp4"
    frame = np.repeat(np.array(list(colours), np.uint8), BLOCK, 0)[None].repeat(BLOCK, 0)
    write_video(path, [frame, frame], 10, crf=1)
    assert header(path) == (BT601, 1)
    with av.open(str(path)) as container:
        planes = list(container.decode(video=0))[-1].planes
        stored = [
            np.frombuffer(p, np.uint8).reshape(1, p.height, p.line_size)[..., : p.width] for p in planes
        ]
    off = np.stack([middles(plane, len(colours)) for plane in stored], -1) - list(colours.values())
    assert np.abs(off).max() <= 1.5, off.round(1)
    off = middles(read_video(path), len(colours)) - list(colours)
    assert np.abs(off).max() <= 4, off  # the planes' rounding and the reader's
