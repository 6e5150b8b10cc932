"""Driving a trained avatar with any video: the driver's frame beside the avatar, frame by frame."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from raf_lite.avatar import GaussianAvatar, driven_by, frontal_camera, turned, within_views
from raf_lite.avatar.views import BEYOND
from raf_lite.bank import expected_mean
from raf_lite.captures import iter_video, write_video
from raf_lite.captures.cameras import OPENGL_AXES
from raf_lite.captures.video import frame_times, steady
from raf_lite.descriptors.encode_video import VideoDetections
from raf_lite.viewing.video import SYNTHETIC, caption_panels

_FLIP = OPENGL_AXES[:3, :3]  # MediaPipe gives rotations in OpenGL's axes


def _panel(frame: np.ndarray, size: int) -> np.ndarray:
    """A uint8 frame fitted into a white square, float [size, size, 3]."""
    image, scale = Image.fromarray(frame), size / max(frame.shape[:2])
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    sheet = Image.new("RGB", (size, size), "white")
    sheet.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return np.asarray(sheet) / np.float32(255)


def drive_video(
    avatar: GaussianAvatar,
    video: str | os.PathLike,
    encoding: VideoDetections,
    out: str | os.PathLike,
    *,
    size: int = 384,
    relative: str | int | None = None,
    hold_head: bool = False,
    progress: bool = True,
) -> Path:
    """Write an H.264 mp4 with each frame of the video beside the avatar that it drives, shown as long as in
    the video; one frame at a time is in memory.

    size: pixels a side of both panels, even. relative: see `driving_descriptors`; the driver's mean is what
    other people's make of these frames (`raf_lite.bank.OwnMean`). hold_head: the avatar looks straight ahead;
    otherwise it turns with the driver, to 20 degrees beyond the views that it was trained on at most
    (`raf_lite.avatar.within_views`; captioned so). Frames without a face are captioned so, and the avatar
    holds still.

    Raises ValueError as `driven_by` does, for an odd size, and for a video that is not the one that was
    encoded.
    """
    from tqdm.auto import tqdm

    if size < 2 or size % 2:
        raise ValueError(f"panels of {size} pixels cannot be filmed; give an even number")
    values = driven_by(avatar, encoding, relative, expected_mean=partial(expected_mean, avatar.descriptor))
    camera = frontal_camera(avatar, size)
    rotations = (
        encoding.head_pose[:, :3, :3] @ _FLIP
    )  # a face that looks into the camera has the pose _FLIP there
    poses = turned(avatar, camera, np.tile(np.eye(3), (len(values), 1, 1)) if hold_head else rotations)
    poses, over = within_views(avatar, camera, poses)
    if over.any():
        print(
            f"the driver turns farther than the avatar may in {over.sum()} of {len(over)} frames: it was"
            f" trained on views from {avatar.views}, and turns {np.rad2deg(BEYOND):.0f} degrees beyond at"
            " most"
        )

    fps, repeats = steady(frame_times(video), encoding.fps)

    def frames() -> Iterator[np.ndarray]:
        pictures = iter_video(video)
        bar = tqdm(pictures, total=len(encoding), desc="driving", unit="frame", disable=not progress)
        for number, frame in enumerate(bar):
            if number >= len(encoding):
                raise ValueError(
                    f"{video} has more frames than the {len(encoding)} that were encoded; encode it again"
                )
            image = avatar.render(values[number : number + 1], poses[number : number + 1], [camera])[0, 0]
            seen = encoding.face_found[number]
            shown = _panel((image * 255 + 0.5).astype(np.uint8), size)
            sheet = caption_panels(
                [_panel(frame, size), shown],
                [
                    "driver" if seen else "driver: no face found",
                    "avatar: holds" if not seen else "avatar: turns no farther" if over[number] else "avatar",
                ],
            )
            yield from itertools.repeat(sheet, repeats[number])
        if number + 1 < len(encoding):
            raise ValueError(
                f"{video} has {number + 1} frames, and {len(encoding)} were encoded; encode it again"
            )

    write_video(out, frames(), fps, comment=SYNTHETIC)
    return Path(out)
