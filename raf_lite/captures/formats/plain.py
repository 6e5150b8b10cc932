"""A plain video, or a folder of images: one camera of which nothing is known, with or without masks.

    clip.mp4                        or a folder of 000.png, 001.png, ...
    clip.mp4.encoding.npz           what `raf-lite encode` wrote beside it; phone.encoding.npz of a folder
    phone masks/000.png (folder only)     a mask for each image; RGBA images carry their own

The camera is the one that MediaPipe assumes when it reports a head pose: 63 degrees high, principal point in
the middle. Poses and camera then belong together, whatever lens was used; only depth is wrong by the true
focal length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raf_lite._files import read_npz
from raf_lite.captures.attached import attached_poses
from raf_lite.captures.cameras import Camera
from raf_lite.captures.capture import Capture, SplitRule
from raf_lite.captures.formats._files import check_order, natural
from raf_lite.captures.formats.encoding import IMAGES, encoding_problem, found_encoding
from raf_lite.captures.formats.images import Parsed, View
from raf_lite.captures.pictures import picture_size
from raf_lite.captures.source import Source
from raf_lite.captures.video import count_frames, iter_video, probe_video

SERIAL = "0"
FIELD_OF_VIEW = 63.0  # degrees, vertical: MediaPipe's virtual camera
FPS = 25.0  # of a folder of images, which does not tell
ENCODED = ("blendshapes", "head_pose", "face_found")
_MOST_BYTES = 1 << 30  # of one array: the landmarks of 100 minutes at 30 frames a second


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


def _encoding(path: Path) -> dict[str, np.ndarray]:
    """What stands in it; empty where it is not there. ValueError where it was made from another film or other
    images."""
    for file in _encoding_files(path):
        problem = encoding_problem(path, file)
        if problem:
            raise ValueError(f"{problem}; encode {path} again")
        return read_npz(file, ENCODED, optional=("landmarks",), most_bytes=_MOST_BYTES)
    return {}


def _head_pose_source(path: Path) -> str | None:
    return "MediaPipe" if _encoding_files(path) else None


def _encoder(path: Path, descriptor: str) -> str | None:
    """What made the descriptors of the encoding, as it says."""
    read = [read_npz(file, (), optional=("encoder", descriptor)) for file in _encoding_files(path)]
    return str(read[0]["encoder"]) if read and len(read[0]) == 2 else None


@dataclass(frozen=True)
class VideoSource(Source):
    """One video file, of one sequence."""

    path: Path
    height: int
    width: int

    def cameras_of(self, sequence: str) -> tuple[str, ...]:
        return (SERIAL,)

    def annotation_file(self, sequence: str) -> Path:
        return self.path.parent / "annotations" / f"{self.path.name}.npz"

    def pictures(self, sequence: str, serial: str) -> list[Path]:
        return [self.path]

    def encoder_of(self, sequence: str, descriptor: str) -> str | None:
        return super().encoder_of(sequence, descriptor) or _encoder(self.path, descriptor)

    def files(self, sequence: str, serial: str) -> list[Path]:
        attached = self.annotation_file(sequence)
        return [self.path, *_encoding_files(self.path), *([attached] if attached.is_file() else [])]

    def stored_size(self, serial: str) -> tuple[int, int]:
        return self.height, self.width

    def video_shape(self, sequence: str, serial: str) -> tuple[int, int, int]:
        return count_frames(self.path), self.height, self.width

    def mask_shape(self, sequence: str, serial: str) -> None:
        return None

    def iter_frames(self, sequence: str, serial: str) -> Iterator[np.ndarray]:
        return iter_video(self.path, crop=self.crop, downscale=self.downscale)

    def iter_masks(self, sequence: str, serial: str) -> Iterator[np.ndarray]:
        raise FileNotFoundError(
            f"{self.path} has no masks; matte its frames, and open a folder of images with masks/ instead"
        )

    def sample_masks(self, sequence: str, serial: str, most: int) -> Iterator[tuple[int, np.ndarray]]:
        return enumerate(self.iter_masks(sequence, serial))

    def read_annotations(self, sequence: str) -> dict[str, np.ndarray]:
        return _encoding(self.path)

    def describe(self, sequence: str, serial: str | None = None, what: str = "images") -> str:
        return str(self.path)


def open_video(
    path: Path, downscale: int, crop: tuple[int, int, int, int] | None, cache_bytes: int
) -> Capture:
    """A video file as a capture with one sequence, `video`."""
    info = probe_video(path)
    if not info.width or not info.height:
        raise ValueError(
            f"{path} does not tell how large its pictures are; it is damaged: copy or write it again"
        )
    source = VideoSource(path, info.height, info.width, downscale=downscale, crop=crop)
    return Capture(
        subject=path.stem,
        root=path,
        fps=info.fps or FPS,
        sequences=("video",),
        cross_sequences=(),
        cameras=source.framed({SERIAL: assumed_camera(info.width, info.height)}),
        encoder_camera=SERIAL,
        source=source,
        split_rules={"default": SplitRule(exact=True)},
        cache_bytes=cache_bytes,
        head_pose_source=_head_pose_source(path) or attached_poses([source.annotation_file("video")]),
    )
