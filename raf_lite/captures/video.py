"""H.264 video files in and out: one decode, one encode, every frame accounted for."""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from raf_lite._files import atomic_path
from raf_lite._install import deferred
from raf_lite.captures.scaling import shrink

if TYPE_CHECKING:
    import av
    import av.container
    import av.error
    import av.video.reformatter
else:  # captures of pictures, cameras and avatars do without films
    av = deferred("av", "captures")

# x264's newest vector code gives other bytes at each run for some small frames (its macroblock tree with B-frames); its SSE2
# code is as fast here and gives the plain C code's bytes, every time.
_X264_ASM = "sse2" if platform.machine().lower() in ("x86_64", "amd64") else "0"

# swscale's SWS_BILINEAR | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT, in numbers: av names the last two from version 18 only.
_ROUNDED = 1 << 1 | 1 << 18 | 1 << 13

_MOST_FPS = 300  # above it a header tells its unit of time, mostly milliseconds, instead of a rate


def write_video(path: str | os.PathLike, frames: Iterable[np.ndarray], fps: float, *, crf: int = 18,
                gray: bool = False) -> None:
    """Encode `frames` to an H.264 (yuv420p) mp4, atomically; the same frames give the same bytes.

    frames: any iterable of uint8 [H, W, 3] sRGB, or of uint8 [H, W] when `gray` (masks); H and W even, all alike.
    fps: frames a second. crf: x264's quality, 0 (best) to 51.

    Colours are stored as BT.601 limited range and tagged so: players that obey tags and decoders that assume the default
    (OpenCV, hence `nersemble_data`) then show the same picture. One encoder thread, since x264's output varies with them.
    Raises ValueError that names the file and frame: no frames, wrong shape or dtype, odd size, size that changes.

    Conventions: docs/conventions.md#pictures-colours-and-masks.

    >>> write_video("grey.mp4", np.full((3, 48, 64, 3), 128, np.uint8), fps=25)
    >>> read_video("grey.mp4").shape
    (3, 48, 64, 3)
    """
    path, reformatter = Path(path), av.video.reformatter
    channels = "[H, W]" if gray else "[H, W, 3]"
    size = None
    with atomic_path(path) as tmp:
        with av.open(str(tmp), "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}) as container:
            for index, frame in enumerate(frames):
                if frame.dtype != np.uint8 or frame.ndim != (2 if gray else 3) or (not gray and frame.shape[2] != 3):
                    raise ValueError(f"{path}: frame {index} is {frame.dtype} {list(frame.shape)}; give uint8 {channels}")
                if size is None:
                    size = frame.shape[:2]
                    if size[0] % 2 or size[1] % 2 or 0 in size:
                        raise ValueError(f"{path}: frames are {size[1]}x{size[0]} (WxH), but H.264 yuv420p needs even sizes; "
                                         "crop or pad them by one pixel")
                    stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
                    stream.height, stream.width = size
                    stream.pix_fmt = "yuv420p"
                    stream.options = {"crf": str(crf), "preset": "medium", "threads": "1", "color_range": "tv",
                                      "colorspace": "smpte170m", "color_primaries": "bt709", "color_trc": "iec61966-2-1",
                                      "x264-params": f"asm={_X264_ASM}"}
                if frame.shape[:2] != size:
                    raise ValueError(f"{path}: frame {index} is {frame.shape[1]}x{frame.shape[0]} (WxH), the ones before it "
                                     f"{size[1]}x{size[0]}; give all frames one size")
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="gray" if gray else "rgb24")
                container.mux(stream.encode(picture.reformat(format="yuv420p", dst_colorspace=reformatter.Colorspace.ITU601,
                                                             dst_color_range=reformatter.ColorRange.MPEG)))
            if size is None:
                raise ValueError(f"{path}: there are no frames to write; give at least one")
            container.mux(stream.encode(None))


@dataclass(frozen=True)
class VideoInfo:
    """What a video file's header says. `frames` is 0 where the header does not tell."""

    width: int
    height: int
    frames: int
    fps: float


def probe_video(path: str | os.PathLike) -> VideoInfo:
    """Read a video's header without decoding it. Raises FileNotFoundError, or ValueError if it is no readable video."""
    with _open_video(path) as (container, stream):
        rate = float(stream.average_rate or 0)
        if not 0 < rate <= _MOST_FPS:
            rate = _rate_by_times(container, stream)
        return VideoInfo(stream.width, stream.height, stream.frames, rate)


def _rate_by_times(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    """Frames a second by the times of the packets; what a browser records has no other. 0 where they have no times either."""
    try:
        times = [packet.pts * packet.time_base for packet in container.demux(stream) if packet.size and packet.pts is not None]
    except av.error.FFmpegError:
        return 0.0  # reading the video will say what is wrong
    span = max(times) - min(times) if times else 0
    return float((len(times) - 1) / span) if span else 0.0


def count_frames(path: str | os.PathLike) -> int:
    """How many frames a video shows: its packets are read, not decoded. Headers of phones and editors count, or leave out, more.
    Errors as `probe_video`."""
    with _open_video(path) as (container, stream):
        try:
            return sum(1 for packet in container.demux(stream) if packet.size and not packet.is_discard)
        except av.error.FFmpegError as error:
            raise ValueError(f"{path} cannot be read to its end ({error.strerror}); it is truncated or damaged: copy or write it "
                             "again") from error


def quarter_turns(path: str | os.PathLike) -> int:
    """How many quarter turns, counterclockwise, a player turns a video's pictures before it shows them: phones store portraits
    lying. Errors as `probe_video`."""
    with _open_video(path) as (container, stream):
        try:
            first = next(container.decode(stream), None)
        except av.error.FFmpegError:
            first = None  # reading the video will say what is wrong
        return round(first.rotation / 90) % 4 if first is not None else 0


def iter_video(path: str | os.PathLike, *, crop: tuple[int, int, int, int] | None = None, downscale: int = 1,
               gray: bool = False, turns: int = 0) -> Iterator[np.ndarray]:
    """The frames of a video one by one: uint8 [H, W, 3] sRGB, or [H, W] if `gray` (masks).

    turns: quarter turns by which each picture is turned first (see `quarter_turns`). crop: (left, top, width, height) in the
    file's pixels, once turned. downscale: whole factor n; each output pixel is the mean of an n x n block, rows and columns that
    fill no whole block being dropped, so that intrinsics scale by exactly 1/n.

    Colours follow the film's tags of matrix (BT.601 or BT.709) and range. As in FFmpeg and OpenCV, a film of any size that tells
    no matrix is BT.601, one that tells no range is limited; some players take untagged HD for BT.709. Limited range comes out
    up to 3 levels too dark (1 in the mean), as FFmpeg's fast conversion rounds down; full range is rounded to nearest. A
    transfer function is not applied: the values are what a screen is given.

    Raises FileNotFoundError (no such file) or ValueError (not a video, crop outside; truncated or damaged: once the frames before
    the damage are out).

    Conventions: docs/conventions.md#pictures-colours-and-masks.

    >>> from raf_lite.manifest import find_data
    >>> video = find_data() / "mini_nersemble" / "101" / "sequences" / "FREE" / "images" / "cam_222200037.mp4"
    >>> [frame.shape for frame in iter_video(video, downscale=2)][:2]
    [(128, 128, 3), (128, 128, 3)]
    """
    path = Path(path)
    with _open_video(path) as (container, stream):
        full = (stream.width, stream.height) if turns % 2 == 0 else (stream.height, stream.width)
        left, top, width, height = crop or (0, 0, *full)
        if left < 0 or top < 0 or left + width > full[0] or top + height > full[1]:
            raise ValueError(f"{path}: the crop (left {left}, top {top}, width {width}, height {height}) does not lie within "
                             f"the {full[0]}x{full[1]} (WxH) frames; choose a smaller one")
        if downscale < 1 or min(width, height) < downscale:
            raise ValueError(f"{path}: cannot downscale {width}x{height} (WxH) frames by {downscale}; give a whole factor from "
                             f"1 to {min(width, height)}")
        stream.thread_type = "AUTO"
        # What an edit list leaves out is not shown, though the header counts it.
        count, left_out, damage = 0, 0, ""
        try:
            for packet in container.demux(stream):
                if packet.is_corrupt:
                    damage = " (a packet is cut short)"
                    break
                left_out += packet.is_discard
                for picture in packet.decode():
                    # The fast conversion rounds down. The few films in full range (webcams, screen recorders) are worth the exact
                    # one, which makes reading 1.3 to 1.7 times as slow; the mass of films is not.
                    rounding = _ROUNDED if picture.color_range == av.video.reformatter.ColorRange.JPEG else None
                    image = picture.to_ndarray(format="gray" if gray else "rgb24", interpolation=rounding)
                    image = np.rot90(image, turns) if turns else image
                    yield shrink(image[top:top + height, left:left + width], downscale)
                    count += 1
        except av.error.FFmpegError as error:
            damage = f" ({error.strerror})"
        if damage or not count or count + left_out < stream.frames:
            raise ValueError(f"{path}: only {count} of {stream.frames} frames could be decoded{damage}; the file is truncated, "
                             "damaged or empty: copy or write it again")


def read_video(path: str | os.PathLike, *, crop: tuple[int, int, int, int] | None = None, downscale: int = 1,
               gray: bool = False, turns: int = 0) -> np.ndarray:
    """Decode a whole video once: uint8 [T, H, W, 3] sRGB, or [T, H, W] if `gray` (masks).

    Arguments and errors as `iter_video`. Frames are cropped and reduced as they are decoded, so that memory holds the result and
    one full frame.

    >>> from raf_lite.manifest import find_data
    >>> video = find_data() / "mini_nersemble" / "101" / "sequences" / "FREE" / "images" / "cam_222200037.mp4"
    >>> read_video(video, crop=(0, 0, 64, 32)).shape
    (105, 32, 64, 3)
    """
    frames = iter_video(path, crop=crop, downscale=downscale, gray=gray, turns=turns)
    first = next(frames)
    return np.fromiter(itertools.chain([first], frames), dtype=np.dtype((np.uint8, first.shape)))


@contextlib.contextmanager
def _open_video(path: str | os.PathLike) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Yield the opened file and its first video stream."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no video {path}; check the folder, or download or write it again")
    try:
        try:
            container = av.open(str(path))
        except UnicodeDecodeError:
            # A title that is not UTF-8, as old cameras write. Only av below 19 raises this, and only it knows this argument;
            # newer ones keep such bytes.
            container = av.open(str(path), metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise ValueError(f"{path} cannot be opened as a video ({error.strerror}); it is truncated or damaged: copy or write it "
                         "again") from error
    with container:
        if not container.streams.video:
            raise ValueError(f"{path} has no video stream; give an H.264 video")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise ValueError(f"{path} has a video stream that nothing here can decode; give an H.264 video, or copy it again")
        yield container, stream
