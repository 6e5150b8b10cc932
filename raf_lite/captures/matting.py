"""Mattes: which pixels of a film are the person, frame by frame, written beside it as `clip.mp4.matte.mkv`.

MediaPipe's selfie segmenter says for each picture how sure it is of a person, at 256 x 256. Around it:

- it is shown the part of the picture that the person fills, which is followed from frame to frame, so that
  256 pixels go as far as they can;
- of several pieces the largest stays, and small holes in it are filled;
- where the picture stands still, a frame's answer is averaged with the ones before; where it moves, it is
  taken as it is;
- edges come from the picture itself, at its full resolution: a guided filter in colour (He, Sun and Tang,
  "Guided image filtering", 2013, equations 14 to 16; coefficients at half the segmenter's resolution as in
  He and Sun, 2015), whose answer is made steeper by GAIN.

`benchmarks/matting.py` has what each step brings. The person is all of it, body and what is held included;
the head is cut from it elsewhere. With `multiclass` another segmenter of MediaPipe's is asked, which tells
hair, skin and clothes apart too; these are kept beside the matte (`raf_lite.captures.classes`). The matte is
lossless grey (FFV1), as large as the film is shown, with a frame for each frame, or for each of those that
its tag `frames` lists (0-24,30,32-40), and keeps what it was made from in the words of
`raf_lite.captures.origin`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation, find_objects, label, uniform_filter

from raf_lite._mediapipe import closed_with, open_task
from raf_lite._models import Model, Wheel, model_path
from raf_lite.captures.classes import classes_file
from raf_lite.captures.origin import ORIGIN, is_made_from, origin, source_state
from raf_lite.captures.video import (
    count_frames,
    iter_video,
    lossless_writer,
    probe_video,
    video_frames,
    video_tags,
    write_lossless,
)

_NAME = "selfie_segmentation.tflite"
SELFIE_SEGMENTER = Model(
    name=_NAME,
    what="the model of MediaPipe's Selfie Segmentation (general, 256 x 256)",
    url=f"https://storage.googleapis.com/mediapipe-assets/{_NAME}?generation=1683332563830600",
    sha256="9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
    env="RAF_LITE_SELFIE_SEGMENTER",
    wheels=(
        Wheel(
            "mediapipe",
            "0.10.14",
            f"mediapipe/modules/selfie_segmentation/{_NAME}",
            platform=("3.11", "manylinux_2_17_x86_64"),
        ),
    ),
)
_MULTICLASS_NAME = "selfie_multiclass_256x256.tflite"
MULTICLASS_SEGMENTER = Model(
    name=_MULTICLASS_NAME,
    what="the multi-class selfie segmentation model of MediaPipe (hair, skin, clothes; 256 x 256)",
    url="https://storage.googleapis.com/mediapipe-models/image_segmenter/selfie_multiclass_256x256/float32/1/"
    + _MULTICLASS_NAME,
    sha256="c6748b1253a99067ef71f7e26ca71096cd449baefa8f101900ea23016507e0e0",
    env="RAF_LITE_MULTICLASS_SEGMENTER",
    wheels=(),
)
# Name the model and what is done around it, on which the mattes depend; another number for another answer.
MATTING = "mediapipe-selfie_segmentation-9ee168ec-1"
MULTICLASS_MATTING = "mediapipe-selfie_multiclass-c6748b12-1"

SIDE = 256  # pixels, of what the segmenter is shown
_MARGIN, _LEAST_MARGIN = 0.1, 0.03  # around the person, as a share of its longer side
_LOOSE = 0.6  # of the part that is shown; a person that needs less is shown larger
_PASSES = 4  # at most, over one picture, until the part that is shown fits the person
_SMALL_HOLE = 0.003  # of the part that is shown
_STILL, _MEMORY = 0.04, 0.8  # a change of colour that counts as movement, and the weight of what was before
_RADIUS, _EPSILON = 3, 1e-4  # the guided filter's, in pixels of SIDE / 2 and in colours of [0, 1]
GAIN = 2.0

Segmenter = Callable[[np.ndarray], np.ndarray]
Box = tuple[int, int, int, int]
Matting = Literal["selfie", "multiclass"]


class SelfieSegmenter:
    """MediaPipe's selfie segmenter: a picture uint8 [H, W, 3] into how sure it is of a person, float32 [H, W]
    in [0, 1].

    About 10 ms a picture on one core. Use it as a context manager, or call `close()`. Raises ImportError
    where mediapipe or the system's EGL library is missing, FileNotFoundError or ValueError as `model_path`.
    """

    model = SELFIE_SEGMENTER

    def __init__(self) -> None:
        def make(vision: Any, base_options: Any) -> Any:
            return vision.ImageSegmenter.create_from_options(
                vision.ImageSegmenterOptions(base_options=base_options, output_confidence_masks=True)
            )

        self._task, self._image = open_task(lambda: model_path(self.model), make)
        self.close = closed_with(self, self._task)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        return self._masks(picture)[0]

    def _masks(self, picture: np.ndarray) -> list[np.ndarray]:
        """The model's answers, each [H, W]."""
        masks = self._task.segment(self._image(np.ascontiguousarray(picture))).confidence_masks
        # The views die with their images.
        return [mask.numpy_view().reshape(picture.shape[:2]).copy() for mask in masks]

    def __enter__(self) -> SelfieSegmenter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class MulticlassSegmenter(SelfieSegmenter):
    """The same of MediaPipe's multi-class segmenter: how sure it is of each of CLASSES, float32 [6, H, W]."""

    model = MULTICLASS_SEGMENTER

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        return np.stack(self._masks(picture))


def matte_file(video: Path) -> Path:
    """Where the matte of a film is written: beside it, under its whole name."""
    return video.parent / f"{video.name}.matte.mkv"


def found_matte(video: Path) -> Path | None:
    """The matte beside a film; None where there is none."""
    file = matte_file(video)
    return file if file.is_file() else None


def matte_problem(video: Path, matte: Path, frames: Sequence[int] | None = None) -> str | None:
    """Why the file `matte` is no matte of the film `video` as it is now, in words; None if it is one.

    frames: the numbers of the frames that it has to hold; None for all. Of one that was made with classes,
    these have to be the film's too.
    """
    problem = _problem(video, matte, frames)
    classes = None if problem else found_classes(video, matte)
    return problem if classes is None else _problem(video, classes, frames)


def found_classes(video: Path, matte: Path) -> Path | None:
    """Where the classes of a film lie, if its matte was made with them (they may be lost); None otherwise."""
    return classes_file(video) if video_tags(matte).get("matting") == MULTICLASS_MATTING else None


def _problem(video: Path, matte: Path, frames: Sequence[int] | None) -> str | None:
    """Why a film beside `video` was not made from it, or lacks frames."""
    try:
        tags, size, count = video_tags(matte), probe_video(matte), count_frames(matte)
        held = _held(tags)
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    if not all(name in tags for name in ORIGIN):
        return f"{matte} does not say what it was made from"
    if not is_made_from([video], tags):
        return f"{matte} was made from other pictures than those of {video}"
    film, expected = probe_video(video), count_frames(video)
    if (size.width, size.height) != (film.width, film.height):
        return f"{matte} is {size.width}x{size.height} (WxH) and {video} {film.width}x{film.height}"
    if count != (expected if held is None else len(held)):
        return f"{matte} has {count} frames and {video} has {expected}"
    if held is not None and not set(range(expected) if frames is None else frames) <= set(held):
        return f"{matte} has {count} frames, chosen among the {expected} of {video}, and others are needed"
    return None


def _held(tags: Mapping[str, str]) -> list[int] | None:
    """The numbers of the frames of the film that a matte holds, by its tags; None for all."""
    return spanned_frames(tags["frames"]) if "frames" in tags else None


def frame_spans(numbers: Sequence[int]) -> str:
    """Rising numbers in words.

    >>> frame_spans([0, 1, 2, 7, 9, 10])
    '0-2,7,9-10'
    """
    if not len(numbers):
        return ""
    rows = np.asarray(numbers)
    runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def spanned_frames(words: str) -> list[int]:
    """The numbers that `frame_spans` put in words. ValueError for other words.

    >>> spanned_frames("0-2,7")
    [0, 1, 2, 7]
    """
    spans = [[int(number) for number in span.split("-")] for span in words.split(",") if words]
    return [number for span in spans for number in range(span[0], span[-1] + 1)]


def matte_video(
    video: str | os.PathLike,
    frames: Sequence[int] | None = None,
    *,
    matting: Matting = "selfie",
    progress: bool = True,
) -> Path:
    """The matte of a film: the one beside it, or made now; memory holds a few frames.

    frames: the rising numbers of those that are needed; only these are matted, where the matte is not there
    yet (default: all). matting: by which segmenter; `multiclass` writes the classes too. One of another film,
    or made in another way, is made anew, with a sentence. Needs the extra `encode`.

    Raises FileNotFoundError, ValueError (a damaged film, or one that changed meanwhile), ImportError (no
    mediapipe), or OSError where the folder cannot be written to.

    >>> matte_video("absent.mp4")
    Traceback (most recent call last):
    ...
    FileNotFoundError: there is no video absent.mp4; check the folder, or download or write it again
    """
    from tqdm.auto import tqdm

    video, way = Path(video), MULTICLASS_MATTING if matting == "multiclass" else MATTING
    info = probe_video(video)
    matte = found_matte(video)
    if matte is not None:
        problem = matte_problem(video, matte, frames)
        if problem is None and video_tags(matte).get("matting") != way:
            problem = f"{matte} was made in another way than '{way}'"
        if problem is None:
            return matte
        print(f"{problem}: matting {video} again")
    matte, classes, before = matte_file(video), classes_file(video), source_state([video])
    tags = {name: str(value) for name, value in origin([video]).items()} | {"matting": way}
    if frames is not None:
        tags["frames"] = frame_spans(frames)
    with (MulticlassSegmenter if matting == "multiclass" else SelfieSegmenter)() as segmenter:
        pictures = tqdm(
            iter_video(video) if frames is None else video_frames(video, frames),
            total=count_frames(video) if frames is None else len(frames),
            desc=f"matting {video.name}",
            unit="frame",
            disable=not progress,
        )
        fps = info.fps or 25.0
        if matting == "multiclass":
            with (
                lossless_writer(matte, fps, tags=tags) as write,
                lossless_writer(classes, fps, tags=tags) as write_classes,
            ):
                for alpha, kinds in classed_frames(pictures, segmenter):
                    write(alpha)
                    write_classes(kinds)
        else:
            write_lossless(matte, matte_frames(pictures, segmenter), fps, tags=tags)
            classes.unlink(missing_ok=True)
    if source_state([video]) != before:
        matte.unlink()
        classes.unlink(missing_ok=True)
        raise ValueError(f"{video} changed while it was matted; matte it again once nobody writes to it")
    return matte


def iter_matte(
    path: Path, frames: Sequence[int] | None = None, *, crop: Box | None = None, downscale: int = 1
) -> Iterator[np.ndarray]:
    """The frames of a matte one by one, uint8 [H, W], 255 the person; arguments, errors as `iter_video`.

    frames: rising numbers of frames of the film, of those that the matte holds (default: all of these)."""
    if frames is None:
        return iter_video(path, crop=crop, downscale=downscale, gray=True)
    held = _held(video_tags(path))
    rows = frames if held is None else np.searchsorted(held, frames).tolist()
    return video_frames(path, rows, crop=crop, downscale=downscale, gray=True)


def matte_frames(frames: Iterable[np.ndarray], segmenter: Segmenter) -> Iterator[np.ndarray]:
    """How much of each pixel is the person, uint8 [H, W], for consecutive pictures uint8 [H, W, 3].

    segmenter: from a picture uint8 [SIDE, SIDE, 3] to how sure it is of a person, float32 [SIDE, SIDE].
    """
    return (alpha for alpha, _, _ in _segmented(frames, segmenter))


def classed_frames(
    frames: Iterable[np.ndarray], segmenter: Segmenter
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same, and the class that each pixel is most likely of, uint8 [H, W]; steadied as the matte is.

    segmenter: from a picture to how sure it is of each class, float32 [C, SIDE, SIDE], the first being the
    background; who is in none of the others is no person.
    """
    for alpha, answers, (left, top, right, bottom) in _segmented(frames, segmenter):
        likeliest = Image.fromarray(answers.argmax(0).astype(np.uint8))
        classes = np.zeros_like(alpha)
        classes[top:bottom, left:right] = likeliest.resize(
            (right - left, bottom - top), Image.Resampling.NEAREST
        )
        yield alpha, classes


def _segmented(
    frames: Iterable[np.ndarray], segmenter: Segmenter
) -> Iterator[tuple[np.ndarray, np.ndarray, Box]]:
    """Each picture's matte, what the segmenter answered in the end, and the part that it was shown."""
    box: Box | None = None
    last: tuple[Box, np.ndarray, np.ndarray, np.ndarray] | None = None
    pending: deque[tuple[Future[np.ndarray], np.ndarray, Box]] = deque()
    # One frame's edges are found while the next one is read and shown to the segmenter.
    with ThreadPoolExecutor(1) as beside:
        for frame in frames:
            height, width = frame.shape[:2]
            box = box or (0, 0, width, height)
            for more in reversed(range(_PASSES)):
                shown = np.asarray(
                    Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)
                )
                answers = segmenter(shown)
                sure = _largest_piece(answers if answers.ndim == 2 else 1 - answers[0])
                fitting = _fitting_box(sure, box, width, height)
                if fitting == box or not more:
                    break
                box = fitting
            guide = shown.astype(np.float32) / 255
            if last is not None and last[0] == box:
                weight = _stillness(guide, last[1])
                sure = sure + weight * (last[2] - sure)
                answers = answers + weight * (last[3] - answers)
            last = box, guide, sure, answers
            pending.append((beside.submit(_placed, sure, guide, frame, box), answers, box))
            if len(pending) > 1:
                matte, seen, place = pending.popleft()
                yield matte.result(), seen, place
        while pending:
            matte, seen, place = pending.popleft()
            yield matte.result(), seen, place


def _placed(sure: np.ndarray, guide: np.ndarray, frame: np.ndarray, box: Box) -> np.ndarray:
    """The matte of a whole frame of which the segmenter was shown `box`: nobody is outside."""
    left, top, right, bottom = box
    alpha = np.zeros(frame.shape[:2], np.uint8)
    alpha[top:bottom, left:right] = _refined(sure, guide, frame[top:bottom, left:right])
    return alpha


def _fitting_box(sure: np.ndarray, box: Box, width: int, height: int) -> Box:
    """The part of a picture to show for this person: `box` itself, where it fits well enough."""
    found = find_objects((sure > 0.5).astype(int))
    if not found:
        return 0, 0, width, height
    rows, columns = found[0]
    left, top, right, bottom = box
    x, y = (right - left) / SIDE, (bottom - top) / SIDE
    person = (left + x * columns.start, top + y * rows.start, left + x * columns.stop, top + y * rows.stop)
    longer = max(person[2] - person[0], person[3] - person[1])

    def grown(by: float) -> Box:
        return (
            max(0, int(person[0] - by * longer)),
            max(0, int(person[1] - by * longer)),
            min(width, int(person[2] + by * longer + 1)),
            min(height, int(person[3] + by * longer + 1)),
        )

    least, best = grown(_LEAST_MARGIN), grown(_MARGIN)
    holds = left <= least[0] and top <= least[1] and right >= least[2] and bottom >= least[3]
    close = (best[2] - best[0]) * (best[3] - best[1]) >= _LOOSE * (right - left) * (bottom - top)
    return box if holds and close else best


def _largest_piece(sure: np.ndarray) -> np.ndarray:
    """Without the pieces that are not the largest, and with its small holes filled."""
    person = sure > 0.5
    pieces, count = label(person)
    if count > 1:
        largest = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
        sure = np.where(binary_dilation(person & ~largest, iterations=3) & ~largest, 0, sure)
        person = largest
    holes, count = label(~person)
    if count > 1:
        small = np.bincount(holes.ravel()) < _SMALL_HOLE * sure.size
        border = np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]])
        small[0] = small[border] = False
        sure = np.where(binary_dilation(small[holes]), np.maximum(sure, 1), sure)
    return sure.astype(np.float32)


def _stillness(guide: np.ndarray, before: np.ndarray) -> np.ndarray:
    """What the last answer weighs in this one, [SIDE, SIDE], as far as the picture `guide` is as `before`."""
    moved = uniform_filter(np.abs(guide - before).max(-1), 5)
    return _MEMORY * np.exp(-((moved / _STILL) ** 2))


def _refined(sure: np.ndarray, guide: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """The matte uint8 [H, W] of `picture` [H, W, 3] that follows its colours' edges; `guide` is the picture
    at the size of `sure`."""

    def mean(field: np.ndarray) -> np.ndarray:
        return uniform_filter(field, 2 * _RADIUS + 1, mode="nearest")

    def halved(field: np.ndarray) -> np.ndarray:
        return (field[::2, ::2] + field[1::2, ::2] + field[::2, 1::2] + field[1::2, 1::2]) / 4

    sure, *colours = (halved(field) for field in (sure, *np.moveaxis(guide, -1, 0)))
    means, centre = [mean(c) for c in colours], mean(sure)
    (rr, rg, rb), (gg, gb), (bb,) = (
        [mean(colours[i] * colours[j]) - means[i] * means[j] + _EPSILON * (i == j) for j in range(i, 3)]
        for i in range(3)
    )
    r, g, b = (mean(c * sure) - m * centre for c, m in zip(colours, means, strict=True))
    # The 3 x 3 systems by their cofactors.
    c00, c01, c02 = gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg
    c11, c12, c22 = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    scale = 1 / (rr * c00 + rg * c01 + rb * c02)
    slopes = (
        (c00 * r + c01 * g + c02 * b) * scale,
        (c01 * r + c11 * g + c12 * b) * scale,
        (c02 * r + c12 * g + c22 * b) * scale,
    )
    offset = centre - sum(slope * m for slope, m in zip(slopes, means, strict=True))

    def full(field: np.ndarray) -> np.ndarray:
        size = picture.shape[1], picture.shape[0]
        return np.array(Image.fromarray(mean(field)).resize(size, Image.Resampling.BILINEAR))

    alpha = full(GAIN * 255 * offset - 255 * (GAIN - 1) / 2 + 0.5)
    for channel, slope in enumerate(slopes):
        part = full(GAIN * slope)
        part *= picture[..., channel]
        alpha += part
    return alpha.clip(0, 255, out=alpha).astype(np.uint8)
