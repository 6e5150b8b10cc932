"""Films in and out: what a player shows is what is read, frame by frame, and every frame is accounted for."""

from __future__ import annotations

import bisect
import contextlib
import functools
import itertools
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from raf_lite._files import atomic_path
from raf_lite._install import deferred
from raf_lite.captures.hdr import is_hdr, to_sdr
from raf_lite.captures.pictures import MAX_PIXELS
from raf_lite.captures.scaling import shrink

if TYPE_CHECKING:
    import av
    import av.container
    import av.error
    import av.sidedata.sidedata
    import av.stream
    import av.video.reformatter
else:  # captures of pictures, cameras and avatars do without films
    av = deferred("av", "captures")

# x264's newest vector code gives other bytes at each run for some small frames (its macroblock tree with
# B-frames); its SSE2 code is as fast here and gives the plain C code's bytes, every time.
_X264_ASM = "sse2" if platform.machine().lower() in ("x86_64", "amd64") else "0"

# swscale's SWS_BILINEAR | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT, in numbers: av names the last two from
# version 18 only.
_ROUNDED = 1 << 1 | 1 << 18 | 1 << 13

# Kinds of files that hold all that they show; the others (playlists, concat and session files, numbered
# pictures) name further files and addresses.
_CONTAINERS = "mov,matroska,avi,mpegts,mpeg,asf,flv,ogg"
# H.273's numbers of matrices that FFmpeg's conversion lacks, and would take for BT.601: YCgCo, BT.2085, those
# derived from primaries, ICtCp, and what came later.
_UNKNOWN_MATRICES = {8, *range(11, 32)}

# Of a decoder, at most: each thread holds frames of its own, of 12 MB in 4K, and one thread converts them.
_THREADS = 4

_MOST_FPS = 300  # above it a header tells its unit of time, mostly milliseconds, instead of a rate


def write_video(
    path: str | os.PathLike,
    frames: Iterable[np.ndarray],
    fps: float,
    *,
    crf: int = 18,
    gray: bool = False,
    comment: str | None = None,
) -> None:
    """Encode `frames` to an H.264 (yuv420p) mp4, atomically; the same frames give the same bytes.

    frames: any iterable of uint8 [H, W, 3] sRGB, or of uint8 [H, W] when `gray` (masks); H and W even, all
    alike.
    fps: frames a second. crf: x264's quality, 0 (best) to 51. comment: text in the file's metadata.

    Colours are stored as BT.601 limited range and tagged so: players that obey tags and decoders that assume
    the default (OpenCV, hence `nersemble_data`) then show the same picture. One encoder thread, since x264's
    output varies with them. Raises ValueError that names the file and frame: no frames, wrong shape or dtype,
    odd size, size that changes.

    Conventions: docs/conventions.md#pictures-colours-and-masks.

    >>> write_video("grey.mp4", np.full((3, 48, 64, 3), 128, np.uint8), fps=25)
    >>> read_video("grey.mp4").shape
    (3, 48, 64, 3)
    """
    path, reformatter = Path(path), av.video.reformatter
    channels = "[H, W]" if gray else "[H, W, 3]"
    size = None
    with atomic_path(path) as tmp:
        with av.open(
            f"file:{tmp}", "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}
        ) as container:
            if comment is not None:
                container.metadata["comment"] = comment
            for index, frame in enumerate(frames):
                if (
                    frame.dtype != np.uint8
                    or frame.ndim != (2 if gray else 3)
                    or (not gray and frame.shape[2] != 3)
                ):
                    raise ValueError(
                        f"{path}: frame {index} is {frame.dtype} {list(frame.shape)}; give uint8 {channels}"
                    )
                if size is None:
                    size = frame.shape[:2]
                    if size[0] % 2 or size[1] % 2 or 0 in size:
                        raise ValueError(
                            f"{path}: frames are {size[1]}x{size[0]} (WxH), but H.264 yuv420p needs even"
                            " sizes; crop or pad them by one pixel"
                        )
                    stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
                    stream.height, stream.width = size
                    stream.pix_fmt = "yuv420p"
                    stream.options = {
                        "crf": str(crf),
                        "preset": "medium",
                        "threads": "1",
                        "color_range": "tv",
                        "colorspace": "smpte170m",
                        "color_primaries": "bt709",
                        "color_trc": "iec61966-2-1",
                        "x264-params": f"asm={_X264_ASM}",
                    }
                if frame.shape[:2] != size:
                    raise ValueError(
                        f"{path}: frame {index} is {frame.shape[1]}x{frame.shape[0]} (WxH), the ones before"
                        f" it {size[1]}x{size[0]}; give all frames one size"
                    )
                picture = av.VideoFrame.from_ndarray(
                    np.ascontiguousarray(frame), format="gray" if gray else "rgb24"
                )
                container.mux(
                    stream.encode(
                        picture.reformat(
                            format="yuv420p",
                            dst_colorspace=reformatter.Colorspace.ITU601,
                            dst_color_range=reformatter.ColorRange.MPEG,
                        )
                    )
                )
            if size is None:
                raise ValueError(f"{path}: there are no frames to write; give at least one")
            container.mux(stream.encode(None))


def write_lossless(
    path: str | os.PathLike, frames: Iterable[np.ndarray], fps: float, *, tags: Mapping[str, str]
) -> None:
    """Encode masks uint8 [H, W] of one size, any, to a Matroska file that gives back the very same values
    (FFV1), atomically.

    tags: names in lower case, and what they say, for `video_tags`. Raises ValueError where there are no
    frames or their size changes.
    """
    with lossless_writer(path, fps, tags=tags) as write:
        for frame in frames:
            write(frame)


@contextlib.contextmanager
def lossless_writer(
    path: str | os.PathLike, fps: float, *, tags: Mapping[str, str]
) -> Iterator[Callable[[np.ndarray], None]]:
    """`write_lossless` frame by frame: gives a function that takes the next one. Where the body raises,
    nothing is written."""
    path, count, size = Path(path), 0, ()
    with atomic_path(path) as tmp:
        with av.open(f"file:{tmp}", "w", format="matroska", options={"fflags": "+bitexact"}) as container:
            container.metadata.update(tags)
            stream = container.add_stream("ffv1", rate=Fraction(fps).limit_denominator(1001))
            stream.pix_fmt = "gray"
            stream.options = {"level": "3", "slices": "4", "g": "25"}

            def write(frame: np.ndarray) -> None:
                nonlocal count, size
                if not count:
                    size = frame.shape
                    stream.height, stream.width = size
                if frame.shape != size:
                    raise ValueError(f"{path}: frame {count} is {list(frame.shape)}, and not {list(size)}")
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="gray")
                container.mux(stream.encode(picture))
                count += 1

            yield write
            if not count:
                raise ValueError(f"{path}: there are no frames to write; give at least one")
            container.mux(stream.encode(None))


def video_tags(path: str | os.PathLike) -> dict[str, str]:
    """What a film's header says in words, by names in lower case. Errors as `probe_video`."""
    with _open_video(path) as (container, _):
        return {name.lower(): text for name, text in container.metadata.items()}


@dataclass(frozen=True)
class VideoInfo:
    """What a video file's header says. `frames` is 0 where the header does not tell. The size is that of the
    pictures as they are shown: turned, with square pixels."""

    width: int
    height: int
    frames: int
    fps: float


def probe_video(path: str | os.PathLike) -> VideoInfo:
    """Read a video's header, and how its first picture is shown. Raises FileNotFoundError, or ValueError if
    it is no readable video."""
    shown = _presentation(path)
    width, height = shown.size
    with _open_video(path) as (container, stream):
        rate = float(stream.average_rate or 0)
        if not 0 < rate <= _MOST_FPS:
            # What a browser records has no rate but in the times of its packets.
            with contextlib.suppress(av.error.FFmpegError):  # reading the video will say what is wrong
                times = _shown_times(container, stream)
                rate = (
                    float((len(times) - 1) / (times[-1] - times[0]))
                    if times and times[-1] > times[0]
                    else 0.0
                )
        return VideoInfo(width, height, _listed_frames(container, stream), rate if rate <= _MOST_FPS else 0.0)


def _listed_frames(container: av.container.InputContainer, stream: av.VideoStream) -> int:
    """How many frames the header promises; 0 where it does not tell. MP4's count knows of no edit list, its
    index does."""
    if not container.format.name.startswith("mov"):
        return stream.frames
    return min(stream.frames, sum(not entry.is_discard for entry in stream.index_entries))


def _shown_times(container: av.container.InputContainer, stream: av.VideoStream) -> list[Fraction] | None:
    """When each picture is shown, in seconds, in order; None where a packet does not tell. What an edit list
    cuts is left out."""
    times = [
        None if packet.pts is None else packet.pts * packet.time_base
        for packet in _packets(container, stream)
    ]
    known = sorted(time for time in times if time is not None)
    return known if len(known) == len(times) else None


def _packets(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.Packet]:
    """The packets of what is shown, one by one. Each holds its part of the file: whoever keeps them keeps the
    film in memory."""
    return (packet for packet in container.demux(stream) if packet.size and not packet.is_discard)


def frame_times(path: str | os.PathLike) -> np.ndarray:
    """When a player shows each frame, float64 [T], in seconds from the first one: phones and browsers film at
    no constant rate.

    By the packets' times, without decoding; evenly by the header's rate (25 a second where it has none) where
    these are missing. Errors as `probe_video`.
    """
    with _open_video(path) as (container, stream), _damage_named(path):
        times = _shown_times(container, stream)
    if times is None:
        return np.arange(count_frames(path)) / (probe_video(path).fps or 25.0)
    return np.array([float(time - times[0]) for time in times])


def steady(times: np.ndarray, fps: float) -> tuple[float, np.ndarray]:
    """How a film of one constant rate shows frames as long as they were: its frames a second, and how many of
    them each is, [T].

    times: seconds, [T], rising (see `frame_times`). fps: the mean rate, which is kept where frames are at
    about even distances; otherwise the rate is that of the closest tenth of them, at most 60. A frame that is
    shorter than the film's may be left out.

    >>> steady(np.array([0, 0.1, 0.2, 0.6]), 5)
    (10.0, array([1, 1, 4, 4]))
    """
    gaps = np.diff(times)
    if not len(gaps):
        return fps, np.ones(len(times), int)
    closest = max(float(np.quantile(gaps, 0.1)), 1 / 60)
    rate = fps if closest * fps > 0.8 else round(1 / closest, 3)
    last = times[-1] + (gaps[-1] if len(gaps) else 1 / rate)
    return rate, np.diff(np.rint(np.append(times, last) * rate).astype(int))


def count_frames(path: str | os.PathLike) -> int:
    """How many frames a video shows: its packets are read, not decoded. Headers of phones and editors count,
    or leave out, more. Errors as `probe_video`."""
    with _open_video(path) as (container, stream), _damage_named(path):
        return sum(1 for _ in _packets(container, stream))


@contextlib.contextmanager
def _damage_named(path: str | os.PathLike) -> Iterator[None]:
    try:
        yield
    except av.error.FFmpegError as error:
        raise ValueError(
            f"{path} cannot be read to its end ({error.strerror}); it is truncated or damaged: copy or write"
            " it again"
        ) from error


@dataclass(frozen=True)
class _Presentation:
    """How a player shows the stored pictures: `width` wide, then mirrored left to right, then turned by
    quarters."""

    width: int
    height: int
    turns: int
    mirrored: bool

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as they are shown."""
        return (self.width, self.height) if self.turns % 2 == 0 else (self.height, self.width)


def _presentation(path: str | os.PathLike) -> _Presentation:
    """How a video's pictures are shown, by header and first picture: libav tells the display matrix with
    pictures only."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no video {path}; check the folder, or download or write it again")
    state = path.stat()
    return _presentation_of(path, (state.st_ino, state.st_size, state.st_mtime_ns))


@functools.lru_cache(maxsize=4096)
def _presentation_of(path: Path, _state: tuple[int, int, int]) -> _Presentation:
    """The same; asked once for each state of a file."""
    with _open_video(path) as (container, stream):
        width, height, turns, mirrored = stream.width, stream.height, 0, False
        first = None
        with contextlib.suppress(av.error.FFmpegError):  # reading the video will say what is wrong
            first = next(container.decode(stream), None)
        if first is not None:
            width, height = first.width, first.height
            matrix = first.side_data.get("DISPLAYMATRIX")
            if matrix is not None:
                # x' = a x + c y, y' = b x + d y; y down, in 16.16 fixed point.
                a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].astype(float)
                mirrored = a * d - b * c < 0
                turns = round(np.degrees(np.arctan2(c, -a if mirrored else a)) / 90) % 4
        wide = width * float(stream.sample_aspect_ratio or 1)
        # Some writers round a square pixel to 4096:4095; a real one is at least a tenth from square.
        return _Presentation(
            round(wide) if abs(wide - width) > 0.02 * width else width, height, turns, mirrored
        )


def quarter_turns(path: str | os.PathLike) -> int:
    """How many quarter turns, counterclockwise, a player turns a video's pictures before it shows them:
    phones store portraits lying. Errors as `probe_video`."""
    return _presentation(path).turns


def iter_video(
    path: str | os.PathLike,
    *,
    crop: tuple[int, int, int, int] | None = None,
    downscale: int = 1,
    gray: bool = False,
    turns: int | None = None,
) -> Iterator[np.ndarray]:
    """The frames of a video one by one, as a player shows them: uint8 [H, W, 3] sRGB, or [H, W] if `gray`
    (masks).

    Of several video streams the one that is marked as default is read, and no cover picture. Pictures are
    mirrored and turned as the file says, and made wider or narrower where its pixels are not square. turns:
    quarter turns, counterclockwise, by which each picture is turned instead (see `quarter_turns`). crop:
    (left, top, width, height) in pixels as they are shown. downscale: whole factor n; each output pixel is
    the mean of an n x n block, rows and columns that
    fill no whole block being dropped, so that intrinsics scale by exactly 1/n.

    Colours follow the film's tags of matrix (BT.601 or BT.709) and range. As in FFmpeg and OpenCV, a film of
    any size that tells no matrix is BT.601, one that tells no range is limited; some players take untagged HD
    for BT.709. Limited range comes out up to 3 levels too dark (1 in the mean), as FFmpeg's fast conversion
    rounds down; full range is rounded to nearest. No transfer function is applied, the values are what a
    screen is given, but to HDR films (HLG and PQ, as current phones make them): `raf_lite.captures.hdr`
    brings them to sRGB.

    Raises FileNotFoundError (no such file) or ValueError (not a video, crop outside; colours that FFmpeg does
    not convert; pictures that change their size; truncated or damaged: once the frames before the damage are
    out).

    Conventions: docs/conventions.md#pictures-colours-and-masks.

    >>> from raf_lite.manifest import find_data
    >>> video = find_data() / "mini_nersemble" / "101" / "sequences" / "FREE" / "images" / "cam_222200037.mp4"
    >>> [frame.shape for frame in iter_video(video, downscale=2)][:2]
    [(128, 128, 3), (128, 128, 3)]
    """
    path = Path(path)
    with _open_video(path) as (container, stream):
        shown = _presentation(path)
        if turns is not None:
            shown = replace(shown, turns=turns)
        stored = None
        left, top, width, height = _checked_crop(path, shown.size, crop, downscale)
        _use_threads(stream)
        count, damage, listed = 0, "", _listed_frames(container, stream)
        try:
            for packet in container.demux(stream):
                if packet.is_corrupt:
                    damage = " (a packet is cut short)"
                    break
                for picture in packet.decode():
                    stored = stored or (picture.width, picture.height)
                    if (picture.width, picture.height) != stored:
                        raise ValueError(
                            f"{path}: frame {count} is {picture.width}x{picture.height} (WxH), the ones"
                            f" before it {stored[0]}x{stored[1]}; convert the film to one size"
                        )
                    if int(picture.colorspace) in _UNKNOWN_MATRICES:
                        raise ValueError(
                            f"{path}: frame {count} has colours of matrix {int(picture.colorspace)} (ITU-T"
                            " H.273), which cannot be read; convert the film to BT.709"
                        )
                    image = _as_shown(picture, shown, gray)
                    yield shrink(image[top : top + height, left : left + width], downscale)
                    count += 1
        except av.error.FFmpegError as error:
            damage = f" ({error.strerror})"
        if damage or not count or count < listed:
            raise ValueError(
                f"{path}: only {count} of {listed} frames could be decoded{damage}; the file is truncated, "
                "damaged or empty: copy or write it again"
            )


def _checked_crop(
    path: Path, size: tuple[int, int], crop: tuple[int, int, int, int] | None, downscale: int
) -> tuple[int, int, int, int]:
    """The crop, or the whole picture of `size` (width, height); ValueError where it does not fit, or leaves
    nothing to reduce."""
    left, top, width, height = crop or (0, 0, *size)
    if left < 0 or top < 0 or left + width > size[0] or top + height > size[1]:
        raise ValueError(
            f"{path}: the crop (left {left}, top {top}, width {width}, height {height}) does not lie"
            f" within the {size[0]}x{size[1]} (WxH) frames; choose a smaller one"
        )
    if downscale < 1 or min(width, height) < downscale:
        raise ValueError(
            f"{path}: cannot downscale {width}x{height} (WxH) frames by {downscale}; give a whole factor"
            f" from 1 to {min(width, height)}"
        )
    return left, top, width, height


def _as_shown(picture: av.VideoFrame, shown: _Presentation, gray: bool) -> np.ndarray:
    """One decoded picture as uint8 [H, W, 3] sRGB or [H, W], mirrored and turned."""
    # The fast conversion rounds down. The few films in full range (webcams, screen recorders) are worth the
    # exact one, which makes reading 1.3 to 1.7 times as slow, and so are HDR's steep curves; the mass of
    # films is not.
    exact = picture.color_range == av.video.reformatter.ColorRange.JPEG or is_hdr(int(picture.color_trc))
    rounding = _ROUNDED if exact else None
    image = picture.to_ndarray(
        format="gray" if gray else "rgb24", interpolation=rounding, width=shown.width, height=shown.height
    )
    if not gray:
        image = to_sdr(image, int(picture.color_trc))
    image = image[:, ::-1] if shown.mirrored else image
    return np.rot90(image, shown.turns) if shown.turns else image


def read_video(
    path: str | os.PathLike,
    *,
    crop: tuple[int, int, int, int] | None = None,
    downscale: int = 1,
    gray: bool = False,
    turns: int | None = None,
) -> np.ndarray:
    """Decode a whole video once: uint8 [T, H, W, 3] sRGB, or [T, H, W] if `gray` (masks).

    Arguments and errors as `iter_video`. Frames are cropped and reduced as they are decoded, so that memory
    holds the result and one full frame.

    >>> from raf_lite.manifest import find_data
    >>> video = find_data() / "mini_nersemble" / "101" / "sequences" / "FREE" / "images" / "cam_222200037.mp4"
    >>> read_video(video, crop=(0, 0, 64, 32)).shape
    (105, 32, 64, 3)
    """
    frames = iter_video(path, crop=crop, downscale=downscale, gray=gray, turns=turns)
    first = next(frames)
    return np.fromiter(itertools.chain([first], frames), dtype=np.dtype((np.uint8, first.shape)))


def video_frames(
    path: str | os.PathLike,
    numbers: Sequence[int],
    *,
    crop: tuple[int, int, int, int] | None = None,
    downscale: int = 1,
    gray: bool = False,
) -> Iterator[np.ndarray]:
    """The frames of these rising numbers one by one, as `iter_video` gives them.

    Frames before the keyframe that one needs are passed over, the others decoded, and none but those asked
    for is converted. Errors as `iter_video`, and ValueError where the film ends before a number.

    >>> from raf_lite.manifest import find_data
    >>> video = find_data() / "mini_nersemble" / "101" / "sequences" / "FREE" / "images" / "cam_222200037.mp4"
    >>> len(list(video_frames(video, [3, 50, 104])))
    3
    """
    path = Path(path)
    order, keys = _numbered(path)
    if not order:
        asked = set(numbers)
        frames = iter_video(path, crop=crop, downscale=downscale, gray=gray)
        yield from (frame for number, frame in enumerate(frames) if number in asked)
        return
    shown = _presentation(path)
    left, top, width, height = _checked_crop(path, shown.size, crop, downscale)
    with _open_video(path) as (container, stream), _damage_named(path):
        _use_threads(stream)
        at, pictures = -1, container.decode(stream)
        for number in numbers:
            picture = None
            if number < len(order):
                before = bisect.bisect_right(keys, number)
                if before and keys[before - 1] > at + 1:
                    container.seek(order[keys[before - 1]], stream=stream)
                    pictures = container.decode(stream)
                picture = next((p for p in pictures if p.pts is not None and p.pts >= order[number]), None)
            if picture is None or picture.pts != order[number]:
                raise ValueError(
                    f"{path}: frame {number} cannot be decoded; the file is truncated or damaged: copy or"
                    " write it again"
                )
            at = number
            yield shrink(_as_shown(picture, shown, gray)[top : top + height, left : left + width], downscale)


def _numbered(path: Path) -> tuple[list[int], list[int]]:
    """The time stamp of each frame in the order in which they are shown, and the numbers of the keyframes;
    both empty where the packets do not tell."""
    with _open_video(path) as (container, stream), _damage_named(path):
        packets = [(packet.pts, packet.is_keyframe) for packet in _packets(container, stream)]
    stamps = sorted(pts for pts, _ in packets if pts is not None)
    if len(set(stamps)) < len(packets):
        return [], []
    number_of = {pts: number for number, pts in enumerate(stamps)}
    return stamps, sorted(number_of[pts] for pts, key in packets if key and pts is not None)


def count_keyframes(path: str | os.PathLike) -> int:
    """How many frames of a video can be decoded without the ones before them; 0 where the packets do not
    tell. Errors as `probe_video`."""
    return len(_numbered(Path(path))[1])


def iter_thumbnails(path: str | os.PathLike, side: int) -> Iterator[np.ndarray]:
    """Each frame of a video at `side` x `side` pixels, uint8 [side, side, 3], as it lies in the file: neither
    turned nor of its true shape, to be compared with each other. A third of the time of `iter_video` for a
    film in 4K. Errors as `probe_video`."""
    with _open_video(path) as (container, stream), _damage_named(path):
        _use_threads(stream)
        for picture in container.decode(stream):
            yield picture.to_ndarray(format="rgb24", interpolation="AREA", width=side, height=side)


def sample_video(
    path: str | os.PathLike,
    most: int,
    *,
    crop: tuple[int, int, int, int] | None = None,
    downscale: int = 1,
    gray: bool = False,
) -> Iterator[tuple[int, np.ndarray]]:
    """At most `most` frames spread over a video, each with its number: of those that can be decoded without
    the ones before them.

    Pictures and errors as `iter_video`; a place that cannot be decoded is left out, since reading the video
    will say so."""
    with _open_video(path) as (container, stream), _damage_named(path):
        packets = [(packet.pts, packet.is_keyframe) for packet in _packets(container, stream)]
    timed = [(pts, key) for pts, key in packets if pts is not None]
    if not packets or len(timed) < len(packets):
        yield from itertools.islice(enumerate(iter_video(path, crop=crop, downscale=downscale, gray=gray)), 1)
        return
    order, keys = sorted(pts for pts, _ in timed), sorted(pts for pts, key in timed if key)
    shown = _presentation(path)
    left, top, width, height = crop or (0, 0, *shown.size)
    for pts in [keys[k] for k in np.unique(np.linspace(0, len(keys) - 1, most).astype(int))] if keys else []:
        with _open_video(path) as (container, stream), contextlib.suppress(av.error.FFmpegError):
            container.seek(pts, stream=stream)
            picture = next((p for p in container.decode(stream) if p.pts is not None and p.pts >= pts), None)
            if picture is not None and picture.pts in order:
                image = _as_shown(picture, shown, gray)
                yield (
                    order.index(picture.pts),
                    shrink(image[top : top + height, left : left + width], downscale),
                )


def _use_threads(stream: av.VideoStream) -> None:
    """Let a film be decoded by as many threads as there are cores and one more, up to _THREADS."""
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = min((os.cpu_count() or 1) + 1, _THREADS)


@contextlib.contextmanager
def _open_video(path: str | os.PathLike) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Yield the opened file and the video stream that a player shows."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no video {path}; check the folder, or download or write it again")
    # A path is a file whatever it is called (12:30.mp4), and what it holds opens nothing else.
    name, options = f"file:{path}", {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
    try:
        try:
            container = av.open(name, container_options=options)
        except UnicodeDecodeError:
            # A title that is not UTF-8, as old cameras write. Only av below 19 raises this, and only it knows
            # this argument; newer ones keep such bytes.
            container = av.open(name, container_options=options, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise ValueError(
            f"{path} cannot be opened as a video ({error.strerror}); it is truncated, damaged, or no film in"
            " a file of its own (MP4, MOV, MKV, WebM, AVI): copy or write it again"
        ) from error
    with container:
        disposition = av.stream.Disposition
        stills = disposition.attached_pic | disposition.timed_thumbnails
        films = [s for s in container.streams.video if not s.disposition & stills]
        if not films:
            raise ValueError(
                f"{path} has no video stream{', only a cover picture' if container.streams.video else ''};"
                " give an H.264 video"
            )
        readable = [s for s in films if s.codec_context is not None]
        if not readable:
            raise ValueError(
                f"{path} has a video stream that nothing here can decode; give an H.264 video, or copy it"
                " again"
            )
        likely = container.streams.best("video")  # the one of most frames, and data, at the beginning
        stream = max(
            readable,
            key=lambda s: (bool(s.disposition & disposition.default), s == likely, s.width * s.height),
        )
        if stream.width * stream.height > MAX_PIXELS:
            raise ValueError(
                f"{path} claims {stream.width}x{stream.height} pixels, more than any capture has; copy or"
                " write it again"
            )
        yield container, stream
