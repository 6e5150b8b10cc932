"""Driving a trained avatar with any video: the driver's frame beside the avatar, frame by frame."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from raf_lite.avatar import GaussianAvatar
from raf_lite.captures import Camera, iter_video, write_video
from raf_lite.captures.cameras import OPENGL_AXES
from raf_lite.captures.video import quarter_turns
from raf_lite.descriptors.encode_video import VideoEncoding
from raf_lite.viewing.video import caption_panels

_DISTANCE = 6.0  # of the camera that is made up where an avatar knows none, in head radii
_FLIP = OPENGL_AXES[:3, :3]  # MediaPipe gives rotations in OpenGL's axes


def frontal_camera(avatar: GaussianAvatar, size: int) -> Camera:
    """A camera with `size` pixels on its longer side, in the avatar's head space, that sees its face from the front.

    It is the training camera that the descriptors come from, as it stood to the neutral head. An avatar that does not know it
    is seen along the z axis, y being up: so are the head spaces of FLAME, BFM and ICT.
    """
    c, radius = avatar.similarity.centre, avatar.similarity.radius
    front = avatar.notes.get("front")
    if front is None:
        rotation, offset = _FLIP, np.array([0, 0, _DISTANCE])
        focal = size / 2 * np.sqrt(_DISTANCE**2 - 1)
        camera = Camera("front", np.eye(4), np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]]), size, size)
    else:
        rotation, offset = np.array(front["viewmat"])[:3, :3], np.array(front["viewmat"])[:3, 3]
        camera = Camera("front", np.eye(4), np.array(front["K"]), front["width"], front["height"])
        camera = camera.scaled(size / max(camera.width, camera.height))
    view = np.eye(4)
    view[:3, :3], view[:3, 3] = rotation, radius * offset - rotation @ c
    return replace(camera, world_to_camera=view)


def turned(avatar: GaussianAvatar, camera: Camera, rotations: np.ndarray) -> np.ndarray:
    """Head poses [T, 4, 4] that turn the avatar about its middle as a driver turns: rotations [T, 3, 3] away from facing the
    camera, in OpenCV's axes."""
    c, view = avatar.similarity.centre, camera.world_to_camera[:3, :3]
    poses = np.tile(np.eye(4), (len(rotations), 1, 1))
    poses[:, :3, :3] = view.T @ rotations @ view
    poses[:, :3, 3] = c - poses[:, :3, :3] @ c
    return poses


def driving_descriptors(avatar: GaussianAvatar, descriptors: np.ndarray, relative: str | int | None = None) -> np.ndarray:
    """What the avatar is given for a driver's descriptors [T, D], NaN where no face was found: float32 [T, D].

    relative: None for the descriptors as they are, as in training. "mean": minus the driver's mean, plus the mean of the avatar's
    training frames; asks for no label. A number: minus those of the driver's neutral frame of this number, plus those of
    the avatar's own neutral frame. Frames without a face keep the last one's.

    Raises ValueError for another dimension, no face at all, no face in the neutral frame, and an avatar that does not know its
    neutral.
    """
    descriptors = avatar.check_descriptors(descriptors, gaps=True)
    own = avatar.descriptor_mean.cpu().numpy()
    found = np.flatnonzero(np.isfinite(descriptors).all(1))
    if not len(found):
        raise ValueError("no frame of the driver has a descriptor; give a video in which a face is seen")
    held = found[(np.searchsorted(found, np.arange(len(descriptors)), side="right") - 1).clip(0)]
    out = descriptors[held]
    if relative == "mean":
        return out - descriptors[found].mean(0) + own
    if isinstance(relative, int):
        if relative not in found:
            raise ValueError(f"no face was found in the driver's neutral frame {relative}; name another one")
        if "neutral_descriptor" not in avatar.notes:
            raise ValueError("this avatar does not know its neutral descriptor; train it again, or drive it relative to the mean")
        return out - descriptors[relative] + np.asarray(avatar.notes["neutral_descriptor"], np.float32)
    return out


def _panel(frame: np.ndarray, size: int) -> np.ndarray:
    """A uint8 frame fitted into a white square, float [size, size, 3]."""
    image, scale = Image.fromarray(frame), size / max(frame.shape[:2])
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    sheet = Image.new("RGB", (size, size), "white")
    sheet.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return np.asarray(sheet) / np.float32(255)


def drive_video(avatar: GaussianAvatar, video: str | os.PathLike, encoding: VideoEncoding, out: str | os.PathLike, *,
                size: int = 384, relative: str | int | None = None, hold_head: bool = False, progress: bool = True) -> Path:
    """Write an H.264 mp4 with each frame of the video beside the avatar that it drives; one frame at a time is in memory.

    size: pixels a side of both panels, even. relative: see `driving_descriptors`. hold_head: the avatar looks straight ahead;
    otherwise it turns with the driver. Frames without a face are captioned so, and the avatar holds still.

    Raises ValueError as `driving_descriptors` does, for an avatar that is not driven by blendshapes, for an odd size, and for a
    video that is not the one that was encoded.
    """
    from tqdm.auto import tqdm

    if avatar.descriptor != "blendshapes":
        raise ValueError(f"this avatar is driven by '{avatar.descriptor}', and a video gives blendshapes; train it on those")
    if size < 2 or size % 2:
        raise ValueError(f"panels of {size} pixels cannot be filmed; give an even number")
    values = driving_descriptors(avatar, encoding.blendshapes, relative)
    camera = frontal_camera(avatar, size)
    rotations = encoding.head_pose[:, :3, :3] @ _FLIP  # a face that looks into the camera has the pose _FLIP there
    poses = turned(avatar, camera, np.tile(np.eye(3), (len(values), 1, 1)) if hold_head else rotations)

    def frames() -> Iterator[np.ndarray]:
        pictures = iter_video(video, turns=quarter_turns(video))
        bar = tqdm(pictures, total=len(encoding), desc="driving", unit="frame", disable=not progress)
        for number, frame in enumerate(bar):
            if number >= len(encoding):
                raise ValueError(f"{video} has more frames than the {len(encoding)} that were encoded; encode it again")
            image = avatar.render(values[number:number + 1], poses[number:number + 1], [camera])[0, 0]
            seen = encoding.face_found[number]
            shown = _panel((image * 255 + 0.5).astype(np.uint8), size)
            yield caption_panels([_panel(frame, size), shown], ["driver" if seen else "driver: no face found",
                                                                "avatar" if seen else "avatar: holds"])
        if number + 1 < len(encoding):
            raise ValueError(f"{video} has {number + 1} frames, and {len(encoding)} were encoded; encode it again")

    write_video(out, frames(), encoding.fps)
    return Path(out)

