"""Any video into descriptors: every frame through MediaPipe, resumable, one person followed among several.

Written beside the video as `<name>.encoding.npz` (`clip.mp4.encoding.npz`), which `open_capture(video)` then
finds. A folder of images is encoded alike. Arrays, T frames:

    blendshapes float32 [T, 52]         landmarks float32 [T, 478, 3] in pixels       face_found bool [T]; the
    others are NaN encoder_pose float32 [T, 4, 4]      MediaPipe's face-to-camera transform (cm, OpenGL axes,
    63 degrees vertical field of view) head_pose float64 [T, 4, 4]         rigid head-to-world, the world
    being the camera; without a face, that of the nearest frame faces uint8 [T]                     how many
    faces were seen
    times float64 [T]                   when a player shows each frame, in seconds from the first
    encoder str, fps, size (width, height), face (the person's number), smooth (seconds)
    source, source_state: what it was made from, in the words of `raf_lite.captures.origin`
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

import raf_lite
from raf_lite._files import locked_place, named_in_errors, read_npz, write_npz
from raf_lite.captures import open_capture
from raf_lite.captures.cameras import OPENGL_AXES
from raf_lite.captures.formats.encoding import encoding_file, encoding_problem, found_encoding, picture_files
from raf_lite.captures.origin import ORIGIN, origin, source_state
from raf_lite.captures.video import count_frames, frame_times, iter_video, probe_video
from raf_lite.descriptors.detections import Detections, frame_list
from raf_lite.descriptors.mediapipe import ENCODER, MediaPipeEncoder

MOST_FACES = 4  # looked for in a frame
PART_FRAMES = 500  # a part of this many frames is what a killed run loses at most
_FIELDS = (
    "blendshapes",
    "landmarks",
    "encoder_pose",
    "face_found",
    "faces",
    "encoder",
    "fps",
    "size",
    "face",
    "head_pose",
)


@dataclass(frozen=True, kw_only=True)
class VideoDetections(Detections):
    """One person's `Detections` in every frame of a video, and what belongs to the video.

    faces: uint8 [T], how many faces were seen. fps: frames a second, in the mean. times: float64 [T], when a
    player shows each frame, in seconds from the first; evenly by fps, unless given. size: width and height.
    face: which person, from 1. encoder: the model's name. people: a line on each one seen, longest first
    (empty when read from a file). smooth: standard deviation in seconds of the average over time that they
    are. origin: what they were made from, as `raf_lite.captures.origin` says it (empty where unknown).
    """

    faces: np.ndarray  # [T]
    fps: float
    size: tuple[int, int]
    face: int = 1
    encoder: str = ENCODER
    people: tuple[str, ...] = ()
    times: np.ndarray | None = None  # [T]
    smooth: float = 0.0
    origin: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def head_pose(self) -> np.ndarray:
        """Rigid head-to-world transforms, float64 [T, 4, 4], cm, the world being the camera (OpenCV axes).

        A frame without a face has the nearest one's.
        """
        found, frames = np.flatnonzero(self.face_found), np.arange(len(self))
        after = np.searchsorted(found, frames).clip(0, len(found) - 1)
        before = (after - 1).clip(0)
        nearest = np.where(frames - found[before] <= found[after] - frames, found[before], found[after])
        nearest[found] = found
        poses = OPENGL_AXES @ self.encoder_pose[nearest].astype(np.float64)
        poses[:, :3, :3] = Rotation.from_matrix(
            poses[:, :3, :3]
        ).as_matrix()  # float32 is no rotation to the last digit
        poses[:, 3] = 0, 0, 0, 1
        return poses

    def smoothed(self, seconds: float) -> VideoDetections:
        """The same, each number a Gaussian average over time with this standard deviation; frames without a
        face stay so, and take no part."""
        average = _average_over(self.times, self.fps, seconds)
        weight = average(self.face_found.astype(np.float64))

        def smooth(array: np.ndarray) -> np.ndarray:
            known = np.where(self.face_found.reshape(-1, *[1] * (array.ndim - 1)), array, 0)
            mean = average(known.astype(np.float64))
            mean /= np.maximum(weight, 1e-12).reshape(-1, *[1] * (array.ndim - 1))
            mean[~self.face_found] = np.nan
            return mean.astype(np.float32)

        return replace(
            self,
            blendshapes=smooth(self.blendshapes),
            landmarks=smooth(self.landmarks),
            encoder_pose=smooth(self.encoder_pose),
            smooth=float(np.hypot(self.smooth, seconds)),
        )

    def save(self, path: str | os.PathLike) -> None:
        """Write an npz, atomically."""
        write_npz(
            path,
            blendshapes=self.blendshapes,
            landmarks=self.landmarks,
            encoder_pose=self.encoder_pose,
            face_found=self.face_found,
            faces=self.faces,
            encoder=np.array(self.encoder),
            fps=np.array(self.fps),
            size=np.array(self.size),
            face=np.array(self.face),
            head_pose=self.head_pose,
            smooth=np.array(self.smooth),
            times=np.arange(len(self)) / self.fps if self.times is None else self.times,
            **self.origin,
        )

    @classmethod
    def load(cls, path: str | os.PathLike) -> VideoDetections:
        """Read what `save` wrote. Raises FileNotFoundError, or ValueError for a damaged file."""
        values = read_npz(path, _FIELDS, optional=("times", "smooth", *ORIGIN), mend="encode the video again")
        frames = values["face_found"].size
        shapes = {
            "blendshapes": (frames, 52),
            "landmarks": (frames, 478, 3),
            "encoder_pose": (frames, 4, 4),
            "faces": (frames,),
            "face_found": (frames,),
            "fps": (),
            "size": (2,),
            "face": (),
            "encoder": (),
        }
        for name, shape in shapes.items():
            kind = "U" if name == "encoder" else "b" if name == "face_found" else "iuf"
            if values[name].shape != shape or values[name].dtype.kind not in kind:
                raise ValueError(
                    f"{path}: '{name}' is {values[name].dtype} {list(values[name].shape)}, not {list(shape)}"
                    " of the kind that encode_video writes; encode the video again"
                )
        times = values.get("times")
        if times is not None and (
            times.shape != (frames,)
            or times.dtype.kind not in "iuf"
            or not np.isfinite(times).all()
            or (np.diff(times) < 0).any()
        ):
            raise ValueError(
                f"{path}: 'times' are not {frames} rising numbers of seconds; encode the video again"
            )
        seen = values["face_found"]
        wrong = [
            n for n in ("blendshapes", "landmarks", "encoder_pose") if not np.isfinite(values[n][seen]).all()
        ]
        if wrong or not seen.any() or not 0 < values["fps"] < 1e4 or not np.isfinite(values["face"]):
            raise ValueError(
                f"{path} holds no face at all, or numbers that no video has; encode the video again"
            )
        return cls(
            values["blendshapes"],
            values["landmarks"],
            values["encoder_pose"],
            values["face_found"],
            faces=values["faces"],
            fps=float(values["fps"]),
            size=tuple(values["size"].tolist()),
            face=int(values["face"]),
            encoder=str(values["encoder"]),
            times=times,
            smooth=float(values["smooth"].flat[0]) if values.get("smooth", np.zeros(0)).size else 0.0,
            origin={name: values[name] for name in ORIGIN if name in values},
        )


def encode_video(
    video: str | os.PathLike,
    out: str | os.PathLike | None = None,
    *,
    face: int | None = None,
    smooth: float = 0.0,
    progress: bool = True,
) -> VideoDetections:
    """Encode a video frame by frame and write the result; memory holds descriptors, never the pictures of
    more than one frame.

    out: the npz (default: beside the video, where `open_capture` looks). face: which person to follow, 1
    being the one with the most frames (default: 1, with a line on each when there are several). smooth:
    standard deviation in seconds of a Gaussian average over time; 0 for none. A run that was stopped goes on
    where it was.

    Raises FileNotFoundError, TimeoutError where another process encodes into the same npz, or ValueError: a
    damaged video, no face in any frame, or no person of that number.

    Conventions: docs/conventions.md#descriptors.

    >>> from raf_lite import open_capture
    >>> from raf_lite.manifest import find_data
    >>> capture = open_capture(find_data() / "mini_nersemble" / "001")
    >>> from raf_lite.captures import write_video
    >>> write_video("me.mp4", capture.frames("FREE", capture.encoder_camera)[:3], fps=24)
    >>> encoding = encode_video("me.mp4", progress=False)
    >>> encoding.blendshapes.shape, len(encoding.missing)
    ((3, 52), 0)
    """
    video = Path(video)
    out = Path(out) if out else encoding_file(video)
    with locked_place(out, 0):
        return _encode_into(out, video, face, smooth, progress)


def _encode_into(out: Path, video: Path, face: int | None, smooth: float, progress: bool) -> VideoDetections:
    """`encode_video` by the one who may write `out` and its parts."""
    from tqdm.auto import tqdm

    frames, total, fps = _frames(video)
    files = picture_files(video)
    parts = out.with_name(f".{out.stem}.parts")
    # What was begun for another state of the pictures, or with another encoder, is of no use.
    before = source_state(files)
    state = (
        f"{before} {ENCODER} mediapipe {version('mediapipe')} faces {MOST_FACES} raf_lite"
        f" {raf_lite.__version__}"
    )
    begun = parts / "state"
    if parts.is_dir() and (
        not begun.is_file() or begun.read_text(encoding="utf-8", errors="replace") != state
    ):
        shutil.rmtree(parts)
    with named_in_errors(out):
        parts.mkdir(parents=True, exist_ok=True)
    (parts / "state").write_text(state, encoding="utf-8", newline="\n")

    rows, count = _read_parts(parts)
    height = width = 0
    with MediaPipeEncoder(num_faces=MOST_FACES) as encoder:
        pending, first = [], count
        bar = tqdm(frames, total=total, desc=f"encoding {video.name}", unit="frame", disable=not progress)
        for number, frame in enumerate(bar):
            height, width = frame.shape[:2]
            if number < count:
                continue
            pending.append(encoder.faces(frame, number))
            if len(pending) == PART_FRAMES:
                rows.append(_write_part(parts, first, pending))
                first, pending = number + 1, []
        if pending:
            rows.append(_write_part(parts, first, pending))
            first += len(pending)
    if source_state(files) != before:
        raise ValueError(f"{video} changed while it was encoded; encode it again once nobody writes to it")
    encoding = replace(
        _assemble(rows, first, video, face, fps, (width, height)),
        origin=origin(files),
        times=None if video.is_dir() else frame_times(video),
    )
    if smooth:
        encoding = encoding.smoothed(smooth)
    encoding.save(out)
    shutil.rmtree(parts)
    return encoding


def find_encoding(video: str | os.PathLike, *, progress: bool = True) -> VideoDetections:
    """The encoding beside a video; made now, and reported with `progress`, where there is none.

    One of another video, or by another encoder, is made anew, with a sentence. Raises as `encode_video`.
    """
    file = found_encoding(Path(video))
    if file is not None:
        problem = encoding_problem(Path(video), file)
        encoding = None if problem else VideoDetections.load(file)
        if encoding is not None and encoding.encoder != ENCODER:
            problem = f"{file} was made by encoder '{encoding.encoder}', and this is '{ENCODER}'"
        if encoding is not None and problem is None:
            return encoding
        print(f"{problem}: encoding {video} again")
    encoding = encode_video(video, progress=progress)
    if progress:
        print(report(encoding, video))
    return encoding


def _frames(path: Path) -> tuple[Iterator[np.ndarray], int, float]:
    """The pictures of a film or of a folder of images, how many there are, and frames a second."""
    if path.is_dir():
        folder = open_capture(path, format="images")
        return folder.stream_frames("video", folder.encoder_camera), folder.n_frames("video"), folder.fps
    return iter_video(path), count_frames(path), probe_video(path).fps or 25.0


def _average_over(times: np.ndarray | None, fps: float, seconds: float) -> Callable[[np.ndarray], np.ndarray]:
    """A Gaussian average over time along the first axis, of this standard deviation, by the times of the
    frames."""
    if times is None or (np.abs(np.diff(times) * fps - 1) < 0.1).all():
        return lambda array: gaussian_filter1d(array, seconds * fps, axis=0)
    # Weights fall off as gaussian_filter1d's do, which ends at four deviations.
    starts, ends = (
        np.searchsorted(times, times - 4 * seconds),
        np.searchsorted(times, times + 4 * seconds, "right"),
    )

    def average(array: np.ndarray) -> np.ndarray:
        out = np.empty_like(array)
        for frame, (start, end) in enumerate(zip(starts, ends, strict=True)):
            weights = np.exp(-0.5 * ((times[start:end] - times[frame]) / seconds) ** 2)
            out[frame] = np.tensordot(weights / weights.sum(), array[start:end], 1)
        return out

    return average


def _write_part(
    folder: Path, first: int, frames: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Every face of some frames, a row each, kept on disk: frame [R], blendshapes, landmarks, pose; `frames`:
    how many."""
    part = {
        "frame": np.repeat(np.arange(first, first + len(frames)), [len(f[0]) for f in frames]),
        "blendshapes": np.concatenate([f[0] for f in frames]),
        "landmarks": np.concatenate([f[1] for f in frames]),
        "pose": np.concatenate([f[2] for f in frames]),
        "frames": np.array(len(frames)),
    }
    write_npz(folder / f"{first:08d}.npz", **part)
    return part


def _read_parts(folder: Path) -> tuple[list[dict[str, np.ndarray]], int]:
    """Parts of a run that was stopped, and how many frames they hold; a damaged one ends the row."""
    rows, count = [], 0
    names = ("frame", "blendshapes", "landmarks", "pose", "frames")
    for path in sorted(folder.glob("[0-9]*.npz")):
        try:
            part = read_npz(path, names)
        except (FileNotFoundError, ValueError):
            break
        if path.stem != f"{count:08d}" or not _is_part(part, count):
            break
        rows.append(part)
        count += int(part["frames"])
    return rows, count


def _is_part(part: dict[str, np.ndarray], first: int) -> bool:
    """Whether these are the faces of some frames from `first` on, as `_write_part` keeps them."""
    faces = part["frame"].size
    shapes = {
        "frame": (faces,),
        "blendshapes": (faces, 52),
        "landmarks": (faces, 478, 3),
        "pose": (faces, 4, 4),
        "frames": (),
    }
    if any(part[name].shape != shape for name, shape in shapes.items()):
        return False
    numbers, whole = (part["blendshapes"], part["landmarks"], part["pose"]), (part["frame"], part["frames"])
    if any(array.dtype.kind != "f" or not np.isfinite(array).all() for array in numbers) or any(
        array.dtype.kind not in "iu" for array in whole
    ):
        return False
    frames = int(part["frames"])
    return (
        0 < frames <= PART_FRAMES
        and all(first <= frame < first + frames for frame in part["frame"].tolist())
        and bool((np.diff(part["frame"].astype(np.int64)) >= 0).all())
    )


def _assemble(
    parts: list[dict[str, np.ndarray]],
    frames: int,
    video: Path,
    face: int | None,
    fps: float,
    size: tuple[int, int],
) -> VideoDetections:
    joined = {
        name: np.concatenate([p[name] for p in parts])
        for name in ("frame", "blendshapes", "landmarks", "pose")
    }
    if not len(joined["frame"]):
        raise ValueError(
            f"{video}: no face was found in any of its {frames} frames; give a video in which the face is "
            "larger, or seen from the front"
        )
    boxes = np.concatenate([joined["landmarks"][..., :2].min(1), joined["landmarks"][..., :2].max(1)], 1)
    person = _people(joined["frame"], boxes, fps)
    numbers, counts = np.unique(person, return_counts=True)
    order = numbers[np.argsort(-counts, kind="stable")]
    lines = tuple(
        _describe(k + 1, joined["frame"][person == n], boxes[person == n], size) for k, n in enumerate(order)
    )
    face = 1 if face is None else face
    if not 1 <= face <= len(order):
        raise ValueError(f"{video} has no person {face}; choose one of: {'; '.join(lines)}")
    rows = np.flatnonzero(person == order[face - 1])
    # Of two faces that were taken for one person in a frame, the first stays.
    at, index = np.unique(joined["frame"][rows], return_index=True)
    rows = rows[index]
    found = np.zeros(frames, bool)
    found[at] = True

    def spread(values: np.ndarray) -> np.ndarray:
        out = np.full((frames, *values.shape[1:]), np.nan, np.float32)
        out[at] = values[rows]
        return out

    return VideoDetections(
        spread(joined["blendshapes"]),
        spread(joined["landmarks"]),
        spread(joined["pose"]),
        found,
        faces=np.bincount(joined["frame"], minlength=frames).astype(np.uint8),
        fps=fps,
        size=size,
        face=face,
        people=lines,
    )


def _people(frame: np.ndarray, boxes: np.ndarray, fps: float) -> np.ndarray:
    """A person's number for every face, [R]: the one who was last seen within half a face's size, no longer
    ago than a second.

    Where no frame shows two faces, all are one person: cuts and gaps then end nobody.
    """
    if len(np.unique(frame)) == len(frame):
        return np.zeros(len(frame), int)
    centre, extent = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).mean(1)
    person = np.full(len(frame), -1)
    last: list[int] = []  # the row in which each person was last seen
    for t in np.unique(frame):
        rows = np.flatnonzero(frame == t)
        open_people = [k for k, row in enumerate(last) if frame[row] < t <= frame[row] + fps]
        distance = np.array(
            [
                [np.linalg.norm(centre[r] - centre[last[k]]) / extent[last[k]] for k in open_people]
                for r in rows
            ]
        )
        while distance.size and distance.min() < 0.5:
            r, k = np.unravel_index(distance.argmin(), distance.shape)
            person[rows[r]] = open_people[k]
            last[open_people[k]] = rows[r]
            distance[r], distance[:, k] = np.inf, np.inf
        for row in rows[person[rows] < 0]:
            person[row] = len(last)
            last.append(row)
    return person


def _describe(number: int, frames: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> str:
    x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2).mean(0) / size
    across = "left" if x < 1 / 3 else "right" if x > 2 / 3 else "middle"
    down = "top" if y < 1 / 3 else "bottom" if y > 2 / 3 else "middle"
    place = across if down == "middle" else f"{down} {across}"
    height = (boxes[:, 3] - boxes[:, 1]).mean()
    return (
        f"person {number}: {len(frames)} frames from {frames.min()}, {place}, face {height:.0f} pixels high"
    )


def report(encoding: VideoDetections, video: str | os.PathLike) -> str:
    """What a user should know of an encoding, in lines: frames, those without a face, several people."""
    lines = [f"{video}: {len(encoding)} frames, face found in {int(encoding.face_found.sum())}"]
    if len(encoding.missing):
        lines.append(f"no face in frames {frame_list(encoding.missing, 40)}")
    if len(encoding.people) > 1:
        lines += [
            "several people are to be seen:",
            *(f"  {line}" for line in encoding.people),
            f"person {encoding.face} was taken; choose another with --face",
        ]
    return "\n".join(lines)


def face_crops(
    video: str | os.PathLike, encoding: VideoDetections, every: int = 5, size: int = 64
) -> dict[int, np.ndarray]:
    """Every fifth frame's face, uint8 [size, size, 3], by the number of the frame among those with a face."""
    row_of = {
        int(frame): row for row, frame in enumerate(np.flatnonzero(encoding.face_found)) if row % every == 0
    }
    out = {}
    for number, frame in enumerate(iter_video(video)):
        if number in row_of:
            landmarks = encoding.landmarks[number, :, :2]
            middle, half = (landmarks.min(0) + landmarks.max(0)) / 2, 0.65 * np.ptp(landmarks, axis=0).max()
            box = (*(middle - half).astype(int), *(middle + half).astype(int))
            face = Image.fromarray(frame).crop(box).resize((size, size), Image.Resampling.LANCZOS)
            out[row_of[number]] = np.asarray(face)
    return out
