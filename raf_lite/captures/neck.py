"""Where a head ends: a segmenter finds a person, and an avatar is of a head.

A plane lies across the neck and moves with the head. What is above it is head; below, the mask fades to
nothing over RAMP, which leaves a soft edge that stands still on the neck, from wherever it is seen.
"""

from __future__ import annotations

import numpy as np

from raf_lite.captures.cameras import Camera

# In MediaPipe's head space: centimetres, y up, z out of the face. Chins end about 9 below the origin.
CUT = -13.5
RAMP = 3.0
AXIS = -2.0  # the neck stands behind the head's origin


def above_neck(camera: Camera, head_pose: np.ndarray) -> np.ndarray:
    """How much of each pixel is above the neck, float32 [H, W] in [0, 1], for a head at `head_pose` [4, 4] in
    MediaPipe's head space.

    A pixel is where its ray meets the plane through the neck that faces as the face does.

    >>> from raf_lite.captures.formats.plain import assumed_camera
    >>> pose = np.diag([1.0, -1.0, -1.0, 1.0])  # looks into the camera
    >>> pose[2, 3] = 50.0
    >>> above_neck(assumed_camera(100, 100), pose)[[0, 50, 99], 50]
    array([1., 1., 0.], dtype=float32)
    """
    to_camera = camera.world_to_camera @ head_pose
    rotation, origin = to_camera[:3, :3], to_camera[:3, 3]
    normal = rotation[:, 2]
    x, y = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(camera.K).T
    through = normal @ (origin + rotation @ [0, 0, AXIS])
    along = rays @ normal
    # A face seen edge-on: the plane is met nowhere, and its rays count as level with the head.
    depth = np.divide(through, along, out=np.full_like(along, origin[2]), where=np.abs(along) > 1e-6)
    height = (rays * depth[..., None] - origin) @ rotation[:, 1]
    return np.clip((height - CUT) / RAMP, 0, 1).astype(np.float32)
