"""Where a head ends: a segmenter finds a person, and an avatar is of a head.

A plane lies across the neck and moves with the head. What is above it is head; below, the mask fades to
nothing over RAMP, which leaves a soft edge that stands still on the neck, from wherever it is seen.
"""

from __future__ import annotations

import numpy as np

from raf_lite.captures.cameras import Camera

# In MediaPipe's head space: centimetres, y up, z out of the face.
HIGHEST = -10.5  # where the edge begins at the highest, whoever it is
BELOW_CHIN = 0.5  # and otherwise so far below the chin, in
LOWEST_CHINS = 0.05  # all frames but this share, whose mouths are wide open or whose landmarks are wrong
RAMP = 3.0
AXIS = -2.0  # the neck stands behind the head's origin
CHIN = 152  # of MediaPipe's landmarks


def _heights(rays: np.ndarray, rotation: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """How high in head space rays [..., 3] from the camera meet the plane through the neck that faces as the
    face does."""
    normal = rotation[:, 2]
    through = normal @ (origin + rotation @ [0, 0, AXIS])
    along = rays @ normal
    # A face seen edge-on: the plane is met nowhere, and its rays count as level with the head.
    depth = np.divide(through, along, out=np.full_like(along, origin[2]), where=np.abs(along) > 1e-6)
    return (rays * depth[..., None] - origin) @ rotation[:, 1]


def neck_top(landmarks: np.ndarray, head_poses: np.ndarray) -> float:
    """Where a person's neck begins to fade: how high its plane is met just below the chin, as the camera sees
    it.

    landmarks: [T, 478, 3] in MediaPipe's head space. head_poses: [T, 4, 4] from there to the camera. One
    height for all frames, so that the edge stands still.

    >>> face = np.zeros((1, 478, 3))
    >>> face[:, CHIN] = [0, -11, 4]
    >>> pose = np.diag([1.0, -1.0, -1.0, 1.0])  # looks into the camera
    >>> pose[2, 3] = 50.0
    >>> round(neck_top(face, pose[None]), 2)  # 11 at a distance of 46 is 12.43 at 52
    -12.93
    """
    chins = [
        float(_heights(pose[:3, :3] @ points[CHIN] + pose[:3, 3], pose[:3, :3], pose[:3, 3]))
        for points, pose in zip(landmarks, head_poses, strict=True)
    ]
    return min(HIGHEST, float(np.quantile(chins, LOWEST_CHINS)) - BELOW_CHIN)


def above_neck(camera: Camera, head_pose: np.ndarray, top: float = HIGHEST) -> np.ndarray:
    """How much of each pixel is above the neck, float32 [H, W] in [0, 1], for a head at `head_pose` [4, 4] in
    MediaPipe's head space, whose neck begins to fade at `top`.

    A pixel is where its ray meets the plane through the neck that faces as the face does.

    >>> from raf_lite.captures.formats.plain import assumed_camera
    >>> pose = np.diag([1.0, -1.0, -1.0, 1.0])  # looks into the camera
    >>> pose[2, 3] = 50.0
    >>> above_neck(assumed_camera(100, 100), pose)[[0, 50, 99], 50]
    array([1., 1., 0.], dtype=float32)
    """
    to_camera = camera.world_to_camera @ head_pose
    x, y = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(camera.K).T
    height = _heights(rays, to_camera[:3, :3], to_camera[:3, 3])
    return np.clip((height - top) / RAMP + 1, 0, 1).astype(np.float32)
