"""Where the Gaussians start when one camera alone films: a shell over the landmarks of the face.

One picture does not show how deep a head is, and a head that hardly turns does not show it later. Landmarks
do, for the face: their surface is the start, and away from the face it falls back as a head does. No
template: only points that somebody measured.
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import cKDTree

from raf_lite.captures import Camera

# Of the width between the outermost landmarks, which is some 14 cm on a grown person.
DEEPEST = 0.6  # how far behind the middle of the head the shell falls back at most
HALF_DEPTH = 0.7  # of the box that the head is thought to fill


def shell_points(
    landmarks: np.ndarray,
    image: np.ndarray,
    mask: np.ndarray,
    camera: Camera,
    head_pose: np.ndarray,
    count: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """`count` points on a shell over a face, and the colours that one camera sees there: [count, 3] in head
    space, [count, 3].

    landmarks: [L, 3] in head space, whose z points out of the face. image: float [H, W, 3]. mask: [H, W] in
    [0, 1]. Pixels of the mask are drawn, with replacement where there are fewer than `count`. Each lies at
    the depth of the landmarks' surface, and beside it a step back for each step aside. Raises ValueError for
    an empty mask.
    """
    rows, columns = np.nonzero(mask > 0.5)
    if not len(rows):
        raise ValueError("the mask of the neutral frame is empty; matte that frame again")
    picked = rng.choice(len(rows), count, replace=len(rows) < count)
    pixels = np.stack([columns[picked], rows[picked]], 1) + rng.random((count, 2))
    to_camera = camera.world_to_camera @ head_pose
    rotation, origin = to_camera[:3, :3], to_camera[:3, 3]
    rays = np.concatenate([pixels, np.ones((count, 1))], 1) @ np.linalg.inv(camera.K).T
    normal = rotation[:, 2]

    def met(z: np.ndarray | float) -> np.ndarray:
        """Where the rays meet planes at height z before the head's origin, in head space."""
        depth = (normal @ origin + z) / (rays @ normal)
        return (rays * depth[:, None] - origin) @ rotation

    width = np.ptp(landmarks[:, 0])
    across = met(0.0)[:, :2]
    z = LinearNDInterpolator(landmarks[:, :2], landmarks[:, 2])(across)
    aside, nearest = cKDTree(landmarks[:, :2]).query(across)
    z = np.where(np.isnan(z), landmarks[nearest, 2] - aside, z)
    points = met(np.maximum(z, -DEEPEST * width))
    x, y = pixels.astype(int).T
    return points, image[y, x]


def shell_box(points: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The box that a head with this shell is thought to fill, as its lowest and highest corner [3]: the
    shell's own, and as far back as a head is deep."""
    low, high = points.min(0), points.max(0)
    half = HALF_DEPTH * np.ptp(landmarks[:, 0])
    low[2], high[2] = -half, max(high[2], half)
    return low, high
