"""H.264 files: what goes in comes out, the same bytes each time, and a damaged file is never taken for a
whole one."""

from __future__ import annotations

import av
import numpy as np
import pytest

from raf_lite.captures import video as video_module
from raf_lite.captures.video import (
    count_frames,
    count_keyframes,
    frame_times,
    probe_video,
    quarter_turns,
    read_video,
    sample_video,
    video_frames,
    write_video,
)


def moving_gradient(frames: int, height: int = 64, width: int = 96) -> np.ndarray:
    """uint8 [T, H, W, 3]; each frame differs from every other one, so that a frame out of place is seen."""
    t, y, x = np.mgrid[:frames, :height, :width]
    return np.stack([255 * x / width, 255 * y / height, 30 + 190 * t / max(frames - 1, 1)], -1).astype(
        np.uint8
    )


def test_colours_survive_the_codec(tmp_path):
    frames = moving_gradient(12)
    write_video(tmp_path / "v.mp4", frames, 24, crf=12)
    decoded = read_video(tmp_path / "v.mp4")
    assert decoded.shape == frames.shape and decoded.dtype == np.uint8
    error = decoded.astype(int) - frames
    assert np.abs(error).mean() < 2 and np.abs(error.mean((0, 1, 2))).max() < 2, (
        "a wrong colour matrix would shift channels"
    )
    # Every decoded frame is nearer to its own original than to any other.
    distance = np.abs(decoded[:, None].astype(int) - frames[None]).mean((2, 3, 4))
    assert (distance.argmin(1) == np.arange(12)).all()


def test_primary_colours_are_not_tinted(tmp_path):
    colours = np.array(
        [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [220, 170, 140]], np.uint8
    )
    write_video(tmp_path / "v.mp4", np.broadcast_to(colours[:, None, None], (6, 32, 32, 3)), 10, crf=4)
    assert np.abs(read_video(tmp_path / "v.mp4")[:, 16, 16].astype(int) - colours).max() <= 5


def test_same_frames_same_bytes(tmp_path):
    # 96 x 128 is a size at which x264's AVX-512 code gives other bytes at each run.
    y, x = np.mgrid[:128, :96]
    frames = [
        np.stack([x * 255 / 96, y * 255 / 128, 128 + 100 * np.sin(x / 9 + t / 5)], -1).astype(np.uint8)
        for t in range(30)
    ]
    for name in "abc":
        write_video(tmp_path / f"{name}.mp4", frames, 24)
    assert len({(tmp_path / f"{name}.mp4").read_bytes() for name in "abc"}) == 1


def test_fps_count_and_tags(tmp_path):
    write_video(tmp_path / "v.mp4", iter(moving_gradient(7)), 24.3)
    info = probe_video(tmp_path / "v.mp4")
    assert (info.width, info.height, info.frames) == (96, 64, 7) and info.fps == pytest.approx(24.3)
    with av.open(str(tmp_path / "v.mp4")) as container:
        context = container.streams.video[0].codec_context
        # ITU-T H.273: matrix 6 (BT.601), primaries 1 (BT.709, sRGB's), transfer 13 (sRGB); FFmpeg's range 1
        # is limited.
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (
            6,
            1,
            13,
            1,
        )


def test_masks_keep_black_and_white(tmp_path):
    mask = np.zeros((5, 64, 64), np.uint8)
    mask[:, 16:48, 16:48] = 255
    write_video(tmp_path / "m.mp4", mask, 24, gray=True)
    decoded = read_video(tmp_path / "m.mp4", gray=True)
    assert decoded.shape == (5, 64, 64)
    assert (decoded[:, 20:44, 20:44] >= 253).all() and (decoded[:, :12] <= 2).all()
    rgb = read_video(tmp_path / "m.mp4")
    assert np.abs(rgb.astype(int) - rgb[..., :1]).max() <= 1, "a grey video has no tint"


def test_crop_and_downscale_equal_slicing_the_full_decode(tmp_path):
    write_video(tmp_path / "v.mp4", moving_gradient(3, 64, 96), 24)
    full = read_video(tmp_path / "v.mp4")
    np.testing.assert_array_equal(read_video(tmp_path / "v.mp4", crop=(10, 4, 50, 40)), full[:, 4:44, 10:60])
    blocks = (
        full[:, 4:43, 10:58].reshape(3, 13, 3, 16, 3, 3).mean((2, 4))
    )  # 40 rows hold 13 blocks of 3, 50 columns 16
    small = read_video(tmp_path / "v.mp4", crop=(10, 4, 50, 40), downscale=3)
    np.testing.assert_array_equal(small, np.floor(blocks + 0.5).astype(np.uint8))


@pytest.mark.parametrize(
    ("frames", "gray", "message"),
    [
        ([], False, "no frames"),
        (np.zeros((2, 63, 64, 3), np.uint8), False, "64x63.*even"),
        (np.zeros((2, 64, 64, 3), np.float32), False, "frame 0 is float32"),
        (np.zeros((2, 64, 64), np.uint8), False, r"give uint8 \[H, W, 3\]"),
        (np.zeros((2, 64, 64, 3), np.uint8), True, r"give uint8 \[H, W\]"),
        ([np.zeros((64, 64, 3), np.uint8), np.zeros((32, 64, 3), np.uint8)], False, "frame 1 is 64x32"),
    ],
)
def test_unusable_frames_leave_the_old_file(tmp_path, frames, gray, message):
    path = tmp_path / "v.mp4"
    path.write_bytes(b"what stood here")
    with pytest.raises(ValueError, match=message) as error:
        write_video(path, frames, 24, gray=gray)
    assert "v.mp4" in str(error.value)
    assert path.read_bytes() == b"what stood here" and list(tmp_path.iterdir()) == [path]


def test_a_title_that_is_not_utf8_is_no_damage(tmp_path):
    path = tmp_path / "camera.mp4"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "CafE"
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.metadata["handler_name"] = "CamEra"
        container.mux(
            stream.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 90, np.uint8), format="rgb24"))
        )
        container.mux(stream.encode(None))
    data = path.read_bytes()
    assert data.count(b"CafE") == 1 and data.count(b"CamEra") == 1
    path.write_bytes(
        data.replace(b"CafE", b"Caf\xe9").replace(b"CamEra", b"Cam\xe9ra")
    )  # the same letters in Latin-1
    assert (probe_video(path).width, count_frames(path), quarter_turns(path)) == (32, 1, 0)
    film = read_video(path)
    assert film.shape == (1, 32, 32, 3) and np.abs(film.astype(int) - 90).max() <= 3


def test_missing_video(tmp_path):
    with pytest.raises(FileNotFoundError, match="no_such.mp4"):
        read_video(tmp_path / "no_such.mp4")


@pytest.mark.parametrize("keep", [0.0, 0.05, 0.5, 0.999])
def test_truncated_video(tmp_path, keep):
    write_video(
        tmp_path / "whole.mp4", np.random.default_rng(0).integers(0, 255, (20, 64, 64, 3), np.uint8), 24
    )
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(ValueError, match="cut.mp4") as error:
        read_video(tmp_path / "cut.mp4")
    if keep > 0.4:
        assert "of 20 frames" in str(error.value)


@pytest.mark.parametrize("crop", [(-1, 0, 10, 10), (0, 0, 97, 64), (90, 0, 10, 10)])
def test_crop_outside(tmp_path, crop):
    write_video(tmp_path / "v.mp4", moving_gradient(2), 24)
    with pytest.raises(ValueError, match="crop.*96x64"):
        read_video(tmp_path / "v.mp4", crop=crop)


def test_downscale_to_nothing(tmp_path):
    write_video(tmp_path / "v.mp4", moving_gradient(2), 24)
    with pytest.raises(ValueError, match="downscale"):
        read_video(tmp_path / "v.mp4", downscale=65)


class Tally:
    """Something that counts how many of its kind are alive."""

    alive = most = made = 0

    def __init__(self) -> None:
        Tally.made += 1
        Tally.alive += 1
        Tally.most = max(Tally.most, Tally.alive)

    def __del__(self):
        Tally.alive -= 1


class Packet(Tally):
    """What is asked of a packet."""

    def __init__(self, packet: av.Packet) -> None:
        super().__init__()
        self.pts, self.time_base, self.is_keyframe = packet.pts, packet.time_base, packet.is_keyframe


@pytest.mark.parametrize(
    "read",
    [
        count_frames,
        count_keyframes,
        frame_times,
        lambda path: list(video_frames(path, [3, 9])),
        lambda path: list(sample_video(path, 2)),
    ],
    ids=["count", "keyframes", "times", "frames", "sample"],
)
def test_a_films_packets_are_never_in_memory_together(tmp_path, monkeypatch, read):
    """Together they are the film: gigabytes, of ten minutes in 4K."""
    write_video(tmp_path / "v.mp4", moving_gradient(40), 24)
    packets = video_module._packets
    monkeypatch.setattr(video_module, "_packets", lambda *film: (Packet(p) for p in packets(*film)))
    monkeypatch.setattr(Tally, "most", 0)
    monkeypatch.setattr(Tally, "made", 0)
    read(tmp_path / "v.mp4")
    assert Tally.made >= 40 and Tally.most <= 2
