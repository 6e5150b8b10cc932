"""Captures whose frames are single image files: what all such formats share once their own files are
parsed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from raf_lite.captures.attached import attached_poses
from raf_lite.captures.cameras import Camera
from raf_lite.captures.capture import Capture, SplitRule, composite_white
from raf_lite.captures.pictures import picture_size, read_mask, read_picture
from raf_lite.captures.scaling import shrink
from raf_lite.captures.source import Source


@dataclass(frozen=True)
class View:
    """One camera's frames of one sequence, in time order.

    images: a file a frame. masks: the same; None: the images' alpha channel, if any. calibration: the files
    that say what the camera is.
    """

    images: Sequence[Path]
    masks: Sequence[Path] | None = None
    calibration: Sequence[Path] = ()


@dataclass(frozen=True)
class Parsed:
    """What a reader found, before anything is decoded.

    views: sequence -> serial -> View. cameras: by serial, at the size on disk. annotations: sequence -> field
    -> [T, ...], or what reads them once they are asked for; annotation_files: sequence -> the files that
    these were read from. encoders: sequence -> what says who made a descriptor. holdout_sequences,
    holdout_cameras: the format's own split.
    encoder_camera: the serial that descriptors come from; None: the first camera. head_pose_source: who made
    the head poses, or None. neutral: (sequence, frame) of a frame without expression, or None.
    """

    subject: str
    fps: float
    views: Mapping[str, Mapping[str, View]]
    cameras: Mapping[str, Camera]
    annotations: Mapping[str, Mapping[str, np.ndarray] | Callable[[], Mapping[str, np.ndarray]]] = field(
        default_factory=dict
    )
    annotation_files: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    encoders: Mapping[str, Callable[[str], str | None]] = field(default_factory=dict)
    holdout_sequences: tuple[str, ...] = ()
    holdout_cameras: tuple[str, ...] = ()
    encoder_camera: str | None = None
    head_pose_source: str | None = None
    neutral: tuple[str, int] | None = None


@dataclass(frozen=True)
class ImageSource(Source):
    """Reads the files of `Parsed`. Images with alpha are laid over white."""

    root: Path
    parsed: Parsed

    def _view(self, sequence: str, serial: str) -> View:
        return self.parsed.views[sequence][serial]

    def cameras_of(self, sequence: str) -> tuple[str, ...]:
        return tuple(self.parsed.views[sequence])

    def annotation_file(self, sequence: str) -> Path:
        return self.root / "annotations" / f"{sequence}.npz"

    def pictures(self, sequence: str, serial: str) -> list[Path]:
        return list(self.parsed.views[sequence].get(serial, View(())).images)

    def encoder_of(self, sequence: str, descriptor: str) -> str | None:
        own = self.parsed.encoders.get(sequence)
        return super().encoder_of(sequence, descriptor) or (own(descriptor) if own else None)

    def files(self, sequence: str, serial: str) -> list[Path]:
        view = self.parsed.views[sequence].get(serial, View(()))
        attached = self.annotation_file(sequence)
        annotations = [
            *self.parsed.annotation_files.get(sequence, ()),
            *([attached] if attached.is_file() else []),
        ]
        return list(dict.fromkeys([*view.images, *(view.masks or ()), *view.calibration, *annotations]))

    def stored_size(self, serial: str) -> tuple[int, int]:
        camera = self.parsed.cameras[serial]
        return camera.height, camera.width

    def video_shape(self, sequence: str, serial: str) -> tuple[int, int, int]:
        images = self._view(sequence, serial).images
        height, width, _ = picture_size(images[0], f"{sequence} frame 0")
        return len(images), height, width

    def _has_masks(self, view: View) -> bool:
        return view.masks is not None or picture_size(view.images[0], str(view.images[0]))[2]

    def mask_shape(self, sequence: str, serial: str) -> tuple[int, int, int] | None:
        view = self._view(sequence, serial)
        if not self._has_masks(view):
            return None
        files = view.images if view.masks is None else view.masks
        height, width, _ = picture_size(files[0], f"{sequence} mask 0")
        return len(files), height, width

    def _check_size(self, height: int, width: int, path: Path, serial: str) -> None:
        if (height, width) != self.stored_size(serial):
            right = self.stored_size(serial)
            raise ValueError(
                f"{path} is {width}x{height} (WxH), but camera {serial} takes images of"
                f" {right[1]}x{right[0]}; write it again at that size"
            )

    def check_headers(self, sequence: str, serial: str) -> None:
        view = self._view(sequence, serial)
        own_masks = view.masks is None and self._has_masks(view)
        for path in (*view.images, *(view.masks or ())):
            height, width, alpha = picture_size(path, f"{sequence}, camera {serial}")
            self._check_size(height, width, path, serial)
            if own_masks and not alpha:
                raise ValueError(
                    f"{path} has no transparency, and {view.images[0].name} has; write all images of camera "
                    f"{serial} with alpha, or none"
                )

    def _shrunk(self, image: np.ndarray, path: Path, serial: str) -> np.ndarray:
        self._check_size(image.shape[0], image.shape[1], path, serial)
        if self.crop:
            left, top, width, height = self.crop
            image = image[top : top + height, left : left + width]
        return shrink(image, self.downscale)

    def iter_frames(
        self, sequence: str, serial: str, rows: Sequence[int] | None = None
    ) -> Iterator[np.ndarray]:
        images = self._view(sequence, serial).images
        for path in images if rows is None else [images[row] for row in rows]:
            image = read_picture(path)
            if image.shape[2] == 4:
                image = composite_white(image[..., :3], image[..., 3] / np.float32(255))
            yield self._shrunk(image, path, serial)

    def iter_masks(
        self, sequence: str, serial: str, rows: Sequence[int] | None = None
    ) -> Iterator[np.ndarray]:
        view = self._view(sequence, serial)
        if not self._has_masks(view):
            raise FileNotFoundError(
                f"{self.describe(sequence, serial)} has no masks; matte the images, or write RGBA ones"
            )
        return (
            self._mask(view, frame, serial) for frame in (range(len(view.images)) if rows is None else rows)
        )

    def _mask(self, view: View, frame: int, serial: str) -> np.ndarray:
        path = view.images[frame] if view.masks is None else view.masks[frame]
        return self._shrunk(read_mask(path, alpha=view.masks is None), path, serial)

    def sample_masks(self, sequence: str, serial: str, most: int) -> Iterator[tuple[int, np.ndarray]]:
        view = self._view(sequence, serial)
        for frame in np.unique(np.linspace(0, len(view.images) - 1, most).astype(int)).tolist():
            yield frame, self._mask(view, frame, serial)

    def read_annotations(self, sequence: str) -> dict[str, np.ndarray]:
        annotations = self.parsed.annotations.get(sequence, {})
        return dict(annotations() if callable(annotations) else annotations)

    def describe(self, sequence: str, serial: str | None = None, what: str = "images") -> str:
        if serial is None or serial not in self.parsed.views.get(sequence, {}):
            return f"{self.root} ({sequence})"
        view = self._view(sequence, serial)
        files = view.masks if what == "masks" and view.masks is not None else view.images
        return f"{files[0].parent} ({sequence}, camera {serial})"


def open_parsed(
    root: Path, parsed: Parsed, downscale: int, crop: tuple[int, int, int, int] | None, cache_bytes: int
) -> Capture:
    """A Capture of what a reader found. ValueError where views and annotations do not fit together, naming
    the sequence."""
    for sequence, views in parsed.views.items():
        counts = {serial: len(view.images) for serial, view in views.items()}
        if not counts or 0 in counts.values():
            raise ValueError(
                f"{root}: sequence {sequence} has a camera without frames; copy the capture again"
            )
        if len(set(counts.values())) > 1:
            least, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
            raise ValueError(
                f"{root}: in sequence {sequence}, camera {least} has {counts[least]} frames and camera {most}"
                f" has {counts[most]}; recordings must be synchronous, copy the missing ones"
            )
        for serial, view in views.items():
            if view.masks is not None and len(view.masks) != len(view.images):
                raise ValueError(
                    f"{root}: camera {serial} has {len(view.images)} images and {len(view.masks)} masks of "
                    f"{sequence}; copy the missing ones"
                )
    source = ImageSource(root, parsed, downscale=downscale, crop=crop)
    return Capture(
        subject=parsed.subject,
        root=root,
        fps=parsed.fps,
        sequences=tuple(parsed.views),
        cross_sequences=(),
        cameras=source.framed(parsed.cameras),
        encoder_camera=parsed.encoder_camera or next(iter(parsed.cameras)),
        source=source,
        split_rules={
            "default": SplitRule(
                holdout_sequences=parsed.holdout_sequences, holdout_cameras=parsed.holdout_cameras, exact=True
            )
        },
        head_pose_source=parsed.head_pose_source or attached_poses(map(source.annotation_file, parsed.views)),
        neutral=parsed.neutral,
        cache_bytes=cache_bytes,
    )
