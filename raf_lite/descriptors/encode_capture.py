"""A capture of any format through MediaPipe: descriptors of every filmed sequence, and head poses where it
has none.

Written into `annotations/{SEQ}.npz` (`raf_lite.captures.attached`), with the encoder's name and with what the
pictures were.

Head poses of several cameras: landmarks are triangulated, and the head of the neutral frame (or of the first
frame in which enough cameras see it) is fitted to them; its own coordinates are the world's at that moment.
Of one camera: MediaPipe's pose, brought from the camera that MediaPipe assumes to the one that filmed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation
from tqdm.auto import tqdm

from raf_lite._files import locked_place
from raf_lite.captures import Camera, Capture, fit_head_poses, triangulate
from raf_lite.captures.annotate import annotate, nearest_poses
from raf_lite.captures.cameras import OPENGL_AXES
from raf_lite.captures.formats.plain import assumed_camera
from raf_lite.descriptors.detections import Detections
from raf_lite.descriptors.landmarks import RIGID
from raf_lite.descriptors.mediapipe import ENCODER, MediaPipeEncoder


def encode_capture(capture: Capture, *, progress: bool = True) -> list[Path]:
    """Encode every filmed sequence of a capture and write what was found; returns the files, one a sequence.

    Frames in which the encoder camera's picture shows no face, or whose head pose stays unknown, are marked
    (`face_found`). Head poses that the capture has are kept. Raises TimeoutError where another process
    encodes the capture, ValueError for a sequence in which no frame shows a face, and as reading it does.

    Conventions: docs/conventions.md#descriptors, docs/conventions.md#head-pose.
    """
    with locked_place(capture.root, 0):
        return _encode_sequences(capture, progress)


def _encode_sequences(capture: Capture, progress: bool) -> list[Path]:
    """`encode_capture` by the one who may write what is attached."""
    sequences = [s for s in capture.sequences if capture.cameras_of(s)]
    without = [s for s in sequences if capture.head_poses(s) is None]
    seen = {s: _encode(capture, s, s in without, progress) for s in sequences}
    poses = _head_poses(capture, {s: seen[s] for s in without})
    files = []
    for sequence in sequences:
        serial = _front(capture, sequence)
        front = seen[sequence][serial]
        arrays = {
            "blendshapes": front.blendshapes,
            "landmarks": front.landmarks,
            "face_found": front.face_found,
        }
        if sequence in poses:
            arrays["face_found"] = front.face_found & np.isfinite(poses[sequence]).all((1, 2))
            arrays["head_pose"] = nearest_poses(poses[sequence], sequence)
        files.append(
            annotate(
                capture, sequence, arrays, encoder=ENCODER, pictures=capture.source.pictures(sequence, serial)
            )
        )
    return files


def _front(capture: Capture, sequence: str) -> str:
    """The camera that descriptors come from. ValueError where it did not film the sequence."""
    if capture.encoder_camera not in capture.cameras_of(sequence):
        raise ValueError(
            f"{capture.source.describe(sequence)} has no pictures of camera {capture.encoder_camera}, which "
            "descriptors are made from; copy them, or leave the sequence out"
        )
    return capture.encoder_camera


def _encode(capture: Capture, sequence: str, all_cameras: bool, progress: bool) -> dict[str, Detections]:
    """What each camera sees; only the encoder's where one is enough."""
    front = _front(capture, sequence)
    serials = capture.cameras_of(sequence) if all_cameras else (front,)
    found = {}
    with MediaPipeEncoder() as encoder:
        for serial in serials:
            frames = tqdm(
                capture.stream_frames(sequence, serial),
                total=capture.n_frames(sequence),
                desc=f"{sequence}, camera {serial}",
                unit="frame",
                disable=not progress,
            )
            found[serial] = encoder.detect(frames)
    if not found[front].face_found.any():
        raise ValueError(
            f"{capture.source.describe(sequence, front)}: no face was found in any frame; leave the sequence"
            f" out, or check the pictures of camera {front}"
        )
    return found


def _head_poses(capture: Capture, seen: dict[str, dict[str, Detections]]) -> dict[str, np.ndarray]:
    """Head-to-world [T, 4, 4] of each sequence, NaN where unknown."""
    if not seen:
        return {}
    if all(len(found) == 1 for found in seen.values()):
        return {
            s: _seen_by(capture.cameras[serial], one)
            for s, found in seen.items()
            for serial, one in found.items()
        }
    points = {}
    for sequence, found in seen.items():
        if len(found) == 1:
            raise ValueError(
                f"{capture.source.describe(sequence)} was filmed by one camera and other sequences by"
                " several; copy the missing ones, or leave the sequence out"
            )
        landmarks = np.stack([one.landmarks[..., :2] for one in found.values()], 1)
        points[sequence] = triangulate(landmarks, [capture.cameras[serial] for serial in found])
    neutral = _neutral(capture, points)
    return {
        sequence: fit_head_poses(there, neutral, rigid=np.asarray(RIGID))
        for sequence, there in points.items()
    }


def _neutral(capture: Capture, points: dict[str, np.ndarray]) -> np.ndarray:
    """The head [478, 3] whose pose is the identity: that of the neutral frame, or of the first in which all
    of it is known."""
    if capture.neutral is not None and capture.neutral[0] in points:
        sequence, frame = capture.neutral
        if np.isfinite(points[sequence][frame]).all():
            return points[sequence][frame]
    for there in points.values():
        whole = np.flatnonzero(np.isfinite(there).all((1, 2)))
        if len(whole):
            return there[whole[0]]
    raise ValueError(
        f"{capture.root}: in no frame do two cameras see the face, so that its head poses can't be estimated;"
        " open it with cameras that look at the face"
    )


def _seen_by(camera: Camera, seen: Detections) -> np.ndarray:
    """Head-to-world [T, 4, 4] of one camera's pictures, from MediaPipe's poses before the camera that it
    assumes.

    The head's origin keeps its pixel, its size in the picture, and its turn against the ray through it.
    """
    assumed = assumed_camera(camera.width, camera.height)
    poses = OPENGL_AXES @ seen.encoder_pose.astype(np.float64)
    out = np.full_like(poses, np.nan)
    for t in np.flatnonzero(seen.face_found):
        old = poses[t, :3, 3]
        pixel = assumed.K @ (old / old[2])
        new = np.linalg.inv(camera.K) @ pixel * (old[2] * camera.K[1, 1] / assumed.K[1, 1])
        axis = np.cross(old / np.linalg.norm(old), new / np.linalg.norm(new))
        turn = np.arcsin(min(1.0, np.linalg.norm(axis)))
        if turn > 0:
            axis *= turn / np.linalg.norm(axis)
        in_camera = np.eye(4)
        in_camera[:3, :3] = (Rotation.from_rotvec(axis) * Rotation.from_matrix(poses[t, :3, :3])).as_matrix()
        in_camera[:3, 3] = new
        out[t] = np.linalg.inv(camera.world_to_camera) @ in_camera
    return out
