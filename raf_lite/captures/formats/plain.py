"""A plain video, or a folder of images: one camera of which nothing is known, with or without masks.

    clip.mp4                        or a folder of 000.png, 001.png, ...
    clip.mp4.encoding.npz           what `raf-lite encode` wrote beside it; phone.encoding.npz of a folder
    clip.mp4.matte.mkv              what `raf_lite.captures.matting` wrote beside it: the person, cut out
    clip.mp4.classes.mkv            and what of them is hair, skin or clothes, where it was asked for
    phone/masks/000.png             of a folder: a mask for each image; RGBA images carry their own

The camera is the one that MediaPipe assumes when it reports a head pose: 63 degrees high, principal point in
the middle. Poses and camera then belong together, whatever lens was used; only depth is wrong by the true
focal length. A film's masks are of the head alone: the person of its matte, cut at the neck. The person below
the neck is neither head nor background, and does not count. Where the classes are there, hair and the face's
skin are head however low, and clothes are not (`raf_lite.captures.classes`).

The encoder's landmarks come as `landmarks_head` [T, 478, 3], in head space, and 68 of them, in iBUG's order,
as `landmarks68` in the world; each lies on the ray of its pixel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raf_lite._files import read_npz
from raf_lite.captures.attached import attached_poses
from raf_lite.captures.cameras import Camera
from raf_lite.captures.capture import Capture, SplitRule
from raf_lite.captures.classes import head_share
from raf_lite.captures.formats._files import check_order, natural
from raf_lite.captures.formats.encoding import IMAGES, encoding_problem, found_encoding
from raf_lite.captures.formats.images import Parsed, View
from raf_lite.captures.matting import found_classes, found_matte, iter_matte, matte_problem
from raf_lite.captures.neck import HIGHEST, above_neck, neck_top
from raf_lite.captures.pictures import picture_size
from raf_lite.captures.source import Source
from raf_lite.captures.video import count_frames, iter_video, probe_video, video_frames

SERIAL = "0"
FIELD_OF_VIEW = 63.0  # degrees, vertical: MediaPipe's virtual camera
FPS = 25.0  # of a folder of images, which does not tell
ENCODED = ("blendshapes", "head_pose", "face_found")
_MOST_BYTES = 1 << 30  # of one array: the landmarks of 100 minutes at 30 frames a second
_BODY = 8  # of a pixel, so much more is body as is person: its soft outline counts as little as it does
SEQUENCE, HELD_OUT = "video", "held-out"
ENOUGH = 500  # frames that say where a film's chins are
FACE_DEPTH = 4.0  # cm, of a face's middle before MediaPipe's head origin
# Of MediaPipe's 478 landmarks, those at iBUG's 68 places: jaw, brows, nose, eyes, lips
IBUG68 = np.array((
    127, 234, 93, 132, 58, 136, 150, 176, 152, 400, 379, 365, 288, 361, 323, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
))  # fmt: skip


def assumed_camera(width: int, height: int) -> Camera:
    """The camera that goes with MediaPipe's head poses for pictures of this size."""
    focal = height / 2 / np.tan(np.deg2rad(FIELD_OF_VIEW / 2))
    return Camera(
        SERIAL, np.eye(4), np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]), width, height
    )


def is_images(path: Path) -> bool:
    """Whether a folder holds images itself."""
    return any(file.suffix.lower() in IMAGES for file in path.iterdir() if file.is_file())


def parse_images(path: Path) -> Parsed:
    """One sequence `video` of all images in natural order."""
    images = sorted(
        (f for f in path.iterdir() if f.is_file() and f.suffix.lower() in IMAGES),
        key=lambda f: natural(f.stem),
    )
    if not images:
        raise FileNotFoundError(
            f"{path} holds no images ({', '.join(IMAGES)}); give the folder in which they lie"
        )
    check_order([image.stem for image in images], f"{path} holds the images")
    masks = None
    if (path / "masks").is_dir():
        by_stem = {f.stem: f for f in (path / "masks").iterdir() if f.suffix.lower() in IMAGES}
        missing = [f for f in images if f.stem not in by_stem]
        if missing:
            raise FileNotFoundError(
                f"{path / 'masks'} has no mask for {missing[0].name}; add it, or remove the folder"
            )
        masks = [by_stem[f.stem] for f in images]
    height, width, _ = picture_size(images[0], str(path))
    return Parsed(
        subject=path.name,
        fps=FPS,
        views={"video": {SERIAL: View(images, masks)}},
        cameras={SERIAL: assumed_camera(width, height)},
        annotations={"video": lambda: _encoding(path)},
        annotation_files={"video": _encoding_files(path)},
        head_pose_source=_head_pose_source(path),
        encoders={"video": lambda name: _encoder(path, name)},
    )


def _encoding_files(path: Path) -> list[Path]:
    """The file that `raf-lite encode` wrote; empty where it was not run."""
    file = found_encoding(path)
    return [] if file is None else [file]


def _encoding(path: Path, numbers: Sequence[int] | None = None) -> dict[str, np.ndarray]:
    """What stands in it of some frames (default: all), and the landmarks in space; empty where it is not
    there. ValueError where it was made from another film or other images."""
    for file in _encoding_files(path):
        problem = encoding_problem(path, file)
        if problem:
            raise ValueError(f"{problem}; encode {path} again")
        arrays = read_npz(file, ENCODED, optional=("landmarks", "size"), most_bytes=_MOST_BYTES)
        size = arrays.pop("size", None)
        if numbers is not None:
            arrays = {name: array[np.asarray(numbers, int)] for name, array in arrays.items()}
        if size is None or "landmarks" not in arrays:
            return arrays
        return arrays | _in_space(arrays["landmarks"], arrays["head_pose"], size, arrays["face_found"], file)
    return {}


def _in_space(
    landmarks: np.ndarray, head_pose: np.ndarray, size: np.ndarray, found: np.ndarray, file: Path
) -> dict[str, np.ndarray]:
    """The encoder's landmarks [T, 478, 3] as `landmarks_head` and `landmarks68`; a frame without a face has
    those of the one before.

    MediaPipe gives x, y and a depth in pixels about the middle of the face, for a camera far away; how far
    before the head's origin a face is it does not tell. So the face is put FACE_DEPTH before it, and each
    landmark onto the ray of its pixel there."""
    frames = len(found)
    if landmarks.shape != (frames, 478, 3) or head_pose.shape != (frames, 4, 4) or size.shape != (2,):
        raise ValueError(f"{file} has landmarks or poses of another shape than frames; encode it again")
    seen = np.flatnonzero(found)
    if not len(seen):
        return {}
    held = seen[(np.searchsorted(seen, np.arange(frames), side="right") - 1).clip(0)]
    # Single precision: films are long.
    landmarks, poses = landmarks[held].astype(np.float32), head_pose[held].astype(np.float32)
    K = assumed_camera(int(size[0]), int(size[1])).K.astype(np.float32)
    focal, middle, away = K[0, 0], K[:2, 2], poses[:, 2, 3, None]
    rays = np.concatenate([(landmarks[..., :2] - middle) / focal, np.ones_like(landmarks[..., :1])], -1)
    relief = (landmarks[..., 2] - landmarks[..., 2].mean(1, keepdims=True)) / focal

    def at(depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World and head space of landmarks whose middle is so deep, [T, 1]."""
        world = rays * ((1 + relief) * depth)[..., None]
        return world, (world - poses[:, None, :3, 3]) @ poses[:, :3, :3]

    nearer = FACE_DEPTH - np.median(at(away)[1][..., 2], axis=1)[:, None]
    world, head = at(np.maximum(away + nearer * poses[:, 2, 2, None], 0.1 * away))
    return {"landmarks_head": head, "landmarks68": world[:, IBUG68]}


def _head_pose_source(path: Path) -> str | None:
    return "MediaPipe" if _encoding_files(path) else None


def _encoder(path: Path, descriptor: str) -> str | None:
    """What made the descriptors of the encoding, as it says."""
    read = [read_npz(file, (), optional=("encoder", descriptor)) for file in _encoding_files(path)]
    return str(read[0]["encoder"]) if read and len(read[0]) == 2 else None


@dataclass(frozen=True)
class VideoSource(Source):
    """One video file. frames: the rising numbers of each sequence's frames; None for all."""

    path: Path
    height: int
    width: int
    frames: Mapping[str, Sequence[int] | None]

    def cameras_of(self, sequence: str) -> tuple[str, ...]:
        return (SERIAL,)

    def annotation_file(self, sequence: str) -> Path:
        return self.path.parent / "annotations" / f"{self.path.name}.npz"

    def pictures(self, sequence: str, serial: str) -> list[Path]:
        return [self.path]

    def encoder_of(self, sequence: str, descriptor: str) -> str | None:
        return super().encoder_of(sequence, descriptor) or _encoder(self.path, descriptor)

    def files(self, sequence: str, serial: str) -> list[Path]:
        attached, matte = self.annotation_file(sequence), found_matte(self.path)
        classes = None if matte is None else found_classes(self.path, matte)
        optional = (file for file in (matte, classes, attached) if file is not None and file.is_file())
        return [self.path, *_encoding_files(self.path), *optional]

    def stored_size(self, serial: str) -> tuple[int, int]:
        return self.height, self.width

    def video_shape(self, sequence: str, serial: str) -> tuple[int, int, int]:
        numbers = self.frames[sequence]
        return count_frames(self.path) if numbers is None else len(numbers), self.height, self.width

    def mask_shape(self, sequence: str, serial: str) -> tuple[int, int, int] | None:
        return None if found_matte(self.path) is None else self.video_shape(sequence, serial)

    def iter_frames(
        self, sequence: str, serial: str, rows: Sequence[int] | None = None
    ) -> Iterator[np.ndarray]:
        numbers = self.frames[sequence] if rows is None else self._numbers(sequence, rows)
        if numbers is None:
            return iter_video(self.path, crop=self.crop, downscale=self.downscale)
        return video_frames(self.path, numbers, crop=self.crop, downscale=self.downscale)

    def iter_masks(
        self, sequence: str, serial: str, rows: Sequence[int] | None = None
    ) -> Iterator[np.ndarray]:
        for person, above in self._cut(sequence, serial, rows):
            yield (person * above + 0.5).astype(np.uint8)

    def sample_masks(self, sequence: str, serial: str, most: int) -> Iterator[tuple[int, np.ndarray]]:
        last = self.video_shape(sequence, serial)[0] - 1
        asked = np.unique(np.linspace(0, last, most).round().astype(int)).tolist()
        yield from zip(asked, self.iter_masks(sequence, serial, asked), strict=True)

    def iter_counts(
        self, sequence: str, serial: str, rows: Sequence[int] | None = None
    ) -> Iterator[np.ndarray] | None:
        if found_matte(self.path) is None:
            return None
        return (
            (255.5 - (_BODY * person.astype(np.float32)).clip(0, 255) * (1 - above)).astype(np.uint8)
            for person, above in self._cut(sequence, serial, rows)
        )

    def _numbers(self, sequence: str, rows: Sequence[int]) -> Sequence[int]:
        """The numbers that frames of a sequence have in the film."""
        numbers = self.frames[sequence]
        return rows if numbers is None else [numbers[row] for row in rows]

    def _cut(
        self, sequence: str, serial: str, rows: Sequence[int] | None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Of some frames (default: all): the person, uint8 [H, W], and how much of each pixel is head if it
        is the person, float32 [H, W]: above the neck, or by what it shows."""
        matte = found_matte(self.path)
        if matte is None:
            raise FileNotFoundError(
                f"{self.path} has no masks; `raf-lite train` makes them, as does"
                " raf_lite.captures.matte_video"
            )
        frames = self.video_shape(sequence, serial)[0]
        asked = range(frames) if rows is None else rows
        filmed = self._numbers(sequence, asked)
        problem = matte_problem(self.path, matte, filmed)
        if problem:
            raise ValueError(f"{problem}; matte {self.path} again")
        poses = self.read_annotations(sequence).get("head_pose")
        poses = self.read_attached(sequence, serial).get("head_pose", poses)
        if poses is None or len(poses) != frames:
            raise ValueError(
                f"{self.path} has no head pose for each frame, so nobody knows where its neck is; encode it"
            )
        (camera,) = self.framed({SERIAL: assumed_camera(self.width, self.height)}).values()
        top = self._neck_top()
        mattes = iter_matte(matte, filmed, crop=self.crop, downscale=self.downscale)
        file = found_classes(self.path, matte)
        classes = None if file is None else iter_matte(file, filmed, crop=self.crop)
        for row, person in zip(asked, mattes, strict=True):
            above = above_neck(camera, poses[row], top)
            if classes is not None:
                above = head_share(next(classes), above, self.downscale)
            yield person, above

    def _neck_top(self) -> float:
        """One height for all sequences of the film; the usual one where its encoding has no landmarks."""
        frames = count_frames(self.path)
        seen = _encoding(self.path, range(0, frames, -(-frames // ENOUGH)))
        if "landmarks_head" not in seen or not seen["face_found"].any():
            return HIGHEST
        found = seen["face_found"]
        return neck_top(seen["landmarks_head"][found], seen["head_pose"][found])

    def read_annotations(self, sequence: str) -> dict[str, np.ndarray]:
        return _encoding(self.path, self.frames[sequence])

    def read_attached(self, sequence: str, serial: str) -> dict[str, np.ndarray]:
        return self._part(sequence, super().read_attached(sequence, serial))

    def chosen(self, sequence: str) -> str:
        numbers = self.frames[sequence]
        return "" if numbers is None else repr(numbers)

    def describe(self, sequence: str, serial: str | None = None, what: str = "images") -> str:
        return str(self.path)

    def _part(self, sequence: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        numbers = self.frames[sequence]
        if numbers is None:
            return arrays
        return {name: array[np.asarray(numbers, int)] for name, array in arrays.items()}


def open_video(
    path: Path,
    downscale: int,
    crop: tuple[int, int, int, int] | None,
    cache_bytes: int = 2 << 30,
    held_out: float = 0.0,
    frames: Mapping[str, Sequence[int]] | None = None,
) -> Capture:
    """A video file as a capture with one sequence, `video`; of the last share `held_out` of its frames
    another, `held-out`. frames: the rising numbers of the frames of both, instead."""
    info = probe_video(path)
    if not info.width or not info.height:
        raise ValueError(
            f"{path} does not tell how large its pictures are; it is damaged: copy or write it again"
        )
    sequences: Mapping[str, Sequence[int] | None] = frames or {SEQUENCE: None}
    if held_out:
        count = count_frames(path)
        first = count - round(count * held_out)
        if not 0 < first < count:
            raise ValueError(
                f"{path} has {count} frames, of which {held_out} can't be held out; give a share between 0"
                " and 1 that leaves some of both"
            )
        sequences = {SEQUENCE: range(first), HELD_OUT: range(first, count)}
    source = VideoSource(path, info.height, info.width, sequences, downscale=downscale, crop=crop)
    return Capture(
        subject=path.stem,
        root=path,
        fps=info.fps or FPS,
        sequences=tuple(sequences),
        cross_sequences=(),
        cameras=source.framed({SERIAL: assumed_camera(info.width, info.height)}),
        encoder_camera=SERIAL,
        source=source,
        split_rules={"default": SplitRule(holdout_sequences=(HELD_OUT,), exact=True)},
        cache_bytes=cache_bytes,
        head_pose_source=_head_pose_source(path) or attached_poses([source.annotation_file(SEQUENCE)]),
    )
