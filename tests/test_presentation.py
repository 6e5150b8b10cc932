"""Films as players show them: stream, mirror, turns, square pixels, HDR, times; a path is one file and opens
no other."""

from __future__ import annotations

import io
import shutil
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from raf_lite.captures import open_capture
from raf_lite.captures.video import (
    count_frames,
    frame_times,
    iter_video,
    probe_video,
    read_video,
    sample_video,
    steady,
    write_video,
)
from raf_lite.descriptors.encode_video import VideoDetections

HEIGHT, WIDTH = 48, 64
HUNDREDTH = Fraction(1, 100)
QUARTERS = np.zeros(
    (HEIGHT, WIDTH, 3), np.uint8
)  # four colours, so that each of the eight ways to lay a picture is another one
QUARTERS[:24, :32], QUARTERS[:24, 32:], QUARTERS[24:, :32], QUARTERS[24:, 32:] = (
    (220, 40, 40),
    (40, 200, 40),
    (40, 60, 220),
    230,
)


def film(path, pictures, *, times=None, **settings):
    """An H.264 film of pictures [T, H, W, 3]; times: in hundredths of a second."""
    with av.open(f"file:{path}", "w") as container:
        stream = container.add_stream("libx264", rate=settings.pop("rate", 10))
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], "yuv420p"
        stream.options = {"crf": "6", **settings}
        if times is not None:
            stream.codec_context.time_base = HUNDREDTH
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], HUNDREDTH
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def with_matrix(path, a, b, c, d):
    """Write the display matrix of an mp4's track: its place is 40 bytes into the header's box, 16.16 fixed
    point."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    assert struct.unpack(">9i", data[at : at + 36]) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    data[at : at + 36] = struct.pack(">9i", *(int(v * 65536) for v in (a, b, 0, c, d, 0, 0, 0)), 1 << 30)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((1, 0, 0, 1), QUARTERS),
        ((-1, 0, 0, 1), QUARTERS[:, ::-1]),
        ((1, 0, 0, -1), QUARTERS[::-1]),
        ((-1, 0, 0, -1), QUARTERS[::-1, ::-1]),
        # x' = c y, y' = b x: with b and c positive the picture is its own transpose
        ((0, 1, 1, 0), QUARTERS.transpose(1, 0, 2)),
        ((0, -1, 1, 0), QUARTERS.transpose(1, 0, 2)[::-1]),
        ((0, 1, -1, 0), QUARTERS.transpose(1, 0, 2)[:, ::-1]),
        ((0, -1, -1, 0), QUARTERS.transpose(1, 0, 2)[::-1, ::-1]),
    ],
)
def test_a_film_is_mirrored_and_turned_by_its_display_matrix(tmp_path, matrix, shown):
    path = film(tmp_path / "phone.mp4", [QUARTERS] * 2)
    with_matrix(path, *matrix)
    info = probe_video(path)
    assert (info.height, info.width) == shown.shape[:2]
    assert np.abs(read_video(path)[1].astype(int) - shown).mean() < 3
    capture = open_capture(path)
    camera = capture.cameras["0"]
    assert (camera.height, camera.width) == shown.shape[:2]
    np.testing.assert_array_equal(capture.first_frame("video", "0"), read_video(path)[0])
    np.testing.assert_array_equal(read_video(path, crop=(4, 2, 20, 30)), read_video(path)[:, 2:32, 4:24])


def test_pixels_that_are_not_square_are_made_square(tmp_path):
    path = film(tmp_path / "camcorder.mp4", [QUARTERS], **{"x264-params": "sar=4/3"})
    picture = read_video(path)[0]
    assert picture.shape == (48, 85, 3) and (probe_video(path).width, probe_video(path).height) == (85, 48)
    np.testing.assert_allclose(picture[10, [10, 70]], QUARTERS[10, [10, 60]], atol=6)


@pytest.mark.parametrize("ending", ["mp4", "mkv"])  # Matroska's writer makes a track of one picture of it
def test_no_cover_picture_is_taken_for_the_film(tmp_path, ending):
    path = tmp_path / f"covered.{ending}"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 320, 240, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic.value
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        container.mux(
            cover.encode(av.VideoFrame.from_ndarray(np.zeros((240, 320, 3), np.uint8), format="rgb24"))
        )
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(QUARTERS, format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 2, "the film of this test has no cover"
    assert read_video(path).shape == (3, HEIGHT, WIDTH, 3) and count_frames(path) == 3


def test_the_default_stream_is_shown_and_not_the_first(tmp_path):
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=10) for _ in range(2)]
        for stream, (width, height), default in zip(
            streams, ((96, 80), (64, 48)), (0, av.stream.Disposition.default.value)
        ):
            stream.width, stream.height, stream.pix_fmt, stream.disposition = (
                width,
                height,
                "yuv420p",
                default,
            )
        for _ in range(3):
            for stream, level in zip(streams, (30, 200)):
                picture = np.full((stream.height, stream.width, 3), level, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode(None))
    shown = read_video(path)
    assert shown.shape == (3, 48, 64, 3) and np.abs(shown.astype(int) - 200).max() <= 3


# ------------------------------------------------------------------------------------------------------ HDR


def hdr_film(path, transfer, signals):
    """10-bit BT.2020, limited range; signals: grey levels in [0, 1], a band each."""
    number = {"arib-std-b67": 18, "smpte2084": 16}[transfer]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32 * len(signals), 64, "yuv420p10le"
        stream.options = {
            "crf": "1",
            "color_primaries": "bt2020",
            "colorspace": "bt2020nc",
            "color_range": "tv",
            "color_trc": transfer,
        }
        frame = av.VideoFrame(stream.width, 64, "yuv420p10le")
        for k, plane in enumerate(frame.planes):
            row = np.zeros(plane.line_size // 2, np.uint16)
            values = [round(64 + 876 * s) for s in signals] if k == 0 else [512] * len(signals)
            row[: plane.width] = np.repeat(values, plane.width // len(signals))
            plane.update(np.tile(row, plane.height).tobytes())
        for frame.pts in range(2):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        assert int(next(container.decode(video=0)).color_trc) == number, "the film of this test is no HDR"


@pytest.mark.parametrize(
    ("transfer", "signals", "light"),
    [
        # By BT.2100: a grey HLG signal of 0.5 is scene light 1/12 and, on 1,000 cd/m2, 1000 (1/12)^1.2 = 50.7
        # cd/m2; 0.75 is 203.
        ("arib-std-b67", (0, 0.5, 0.75, 1), (0, 50.7, 203, 1000)),
        # PQ's table in BT.2408: 0.5807 is 203 cd/m2, 0.5081 is 100, 0.7518 is 1,000.
        ("smpte2084", (0, 0.5081, 0.5807, 0.7518), (0, 100, 203, 1000)),
    ],
)
def test_hdr_films_are_brought_to_srgb(tmp_path, transfer, signals, light):
    path = tmp_path / "hdr.mp4"
    hdr_film(path, transfer, signals)
    share = np.clip(np.array(light) / 203, 0, 1)
    right = 255 * np.where(share <= 0.0031308, 12.92 * share, 1.055 * share ** (1 / 2.4) - 0.055)
    got = read_video(path)[1][32, 16::32]
    assert np.abs(got - right[:, None]).max() <= 4, (got.tolist(), right)


# ---------------------------------------------------------------------------------------------------- times


def test_times_are_those_at_which_frames_are_shown(tmp_path):
    times = [0, 10, 20, 60, 65, 70, 100]
    path = film(tmp_path / "browser.mkv", [QUARTERS] * 7, times=times)
    np.testing.assert_allclose(frame_times(path), np.array(times) / 100, atol=1e-3)
    write_video(tmp_path / "even.mp4", [QUARTERS] * 5, 24.3)
    np.testing.assert_allclose(frame_times(tmp_path / "even.mp4"), np.arange(5) / 24.3, atol=1e-4)


def test_a_film_of_constant_rate_shows_each_frame_as_long_as_it_was():
    assert steady(np.arange(6) / 24.3, 24.3)[0] == 24.3 and (steady(np.arange(6) / 24.3, 24.3)[1] == 1).all()
    jitter = np.arange(200) / 30 + np.random.default_rng(0).uniform(-0.004, 0.004, 200)
    fps, repeats = steady(np.sort(jitter), 30)
    assert fps == 30 and (repeats[:-1] == 1).mean() > 0.95
    times = np.cumsum([0, *[0.05] * 20, *[0.2] * 10])
    fps, repeats = steady(times, len(times) / times[-1])
    shown = np.repeat(np.arange(len(times)), repeats)
    for frame, time in enumerate(times[:-1]):
        middle = (time + times[frame + 1]) / 2
        assert shown[int(middle * fps)] == frame, "at each frame's middle, the film shows it"
    assert len(steady(np.zeros(1), 25)[1]) == 1


def test_smoothing_goes_by_time_where_the_rate_varies():
    times = np.sort(np.random.default_rng(0).uniform(0, 4, 200))
    found, pose = np.ones(200, bool), np.tile(np.eye(4, dtype=np.float32), (200, 1, 1))
    ramp = np.repeat(times[:, None], 52, 1).astype(np.float32)
    encoding = VideoDetections(
        ramp,
        np.zeros((200, 478, 3), np.float32),
        pose,
        found,
        faces=found.astype(np.uint8),
        fps=50.0,
        size=(64, 64),
        times=times,
    )
    smooth = encoding.smoothed(0.1).blendshapes[:, 0]
    # By hand, of one frame: the mean of all within four deviations, weighted by the normal curve of their
    # distance in time.
    weight = np.exp(-0.5 * ((times - times[100]) / 0.1) ** 2) * (np.abs(times - times[100]) <= 0.4)
    assert smooth[100] == pytest.approx((weight * times).sum() / weight.sum(), abs=1e-5)


def test_what_an_edit_list_cuts_is_in_no_count(tmp_path):
    path = film(
        tmp_path / "cut.mp4",
        [np.full((HEIGHT, WIDTH, 3), 20 * k, np.uint8) for k in range(10)],
        bf="0",
        g="1",
    )
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 4  # version and flags, count, then duration, media time, rate
    _, count, duration, start = struct.unpack(">IIIi", data[at : at + 16])
    assert count == 1 and start == 0
    scale = struct.unpack(">I", data[data.index(b"mdhd") + 16 : data.index(b"mdhd") + 20])[0]
    data[at + 12 : at + 16] = struct.pack(">i", 3 * scale // 10)  # three frames of ten a second later
    data[at + 8 : at + 12] = struct.pack(">I", duration * 7 // 10)
    path.write_bytes(data)
    shown = read_video(path)
    assert len(shown) == count_frames(path) == len(frame_times(path)) == 7
    assert np.abs(shown[:, 0, 0, 0].astype(int) - np.arange(3, 10) * 20).max() <= 3
    np.testing.assert_allclose(frame_times(path), np.arange(7) / 10, atol=1e-3)


def test_a_sample_is_frames_of_the_film_at_their_numbers(tmp_path):
    levels = np.random.default_rng(0).permutation(np.arange(40) * 6).astype(np.uint8)
    path = film(tmp_path / "long.mp4", [np.full((HEIGHT, WIDTH, 3), v, np.uint8) for v in levels], g="5")
    whole, sample = (
        read_video(path, gray=True, downscale=2),
        list(sample_video(path, 4, gray=True, downscale=2)),
    )
    assert (
        3 <= len(sample) <= 4 and sample[0][0] == 0 and len({number for number, _ in sample}) == len(sample)
    )
    for number, picture in sample:
        assert np.abs(whole[number].astype(int) - picture).max() <= 1


# ---------------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize(
    "name", ["12:30.mp4", "concat:a|b.mp4", "http:x.mp4", "pipe:0.mp4", "%03d.mp4", "a#b?c.mp4"]
)
def test_a_path_is_a_file(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video("plain.mp4", [QUARTERS] * 2, 10)
    shutil.copy("plain.mp4", name)
    assert read_video(name).shape == (2, HEIGHT, WIDTH, 3) and probe_video(name).fps == 10
    write_video(f"new {name}", [QUARTERS] * 2, 10)
    assert (tmp_path / f"new {name}").read_bytes() == (tmp_path / "plain.mp4").read_bytes()


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile secret.mp4\n",
        (
            "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP"
            " 96\na=rtpmap:96 H264/90000\n"
        ),
        (
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"'
            ' mediaPresentationDuration="PT5S"><Period><AdaptationSet mimeType="video/mp4"><Representation'
            ' id="0"'
            ' bandwidth="1"><BaseURL>secret.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>'
        ),
    ],
)
def test_a_film_shows_no_other_file(tmp_path, text):
    write_video(tmp_path / "secret.mp4", [QUARTERS] * 2, 10)
    (tmp_path / "list.mp4").write_text(text)
    with pytest.raises(
        ValueError, match=r"list.mp4 cannot be opened as a video .*no film in a file of its own"
    ):
        read_video(tmp_path / "list.mp4")


def test_a_picture_that_changes_its_size_is_named(tmp_path):
    """As browsers record a phone that is turned while it films."""
    path = tmp_path / "turned.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for number, size in enumerate([(64, 48)] * 3 + [(96, 80)] * 2):
            jpeg = io.BytesIO()
            Image.new("RGB", size, (90, 90, 90)).save(jpeg, "JPEG")
            packet = av.Packet(jpeg.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 10)
            container.mux(packet)
    with pytest.raises(
        ValueError, match=r"turned.mkv: frame 3 is 96x80 \(WxH\), the ones before it 64x48; convert"
    ):
        list(iter_video(path))
