"""Where the Gaussians start when one camera alone films: a shell over the landmarks of the face.

One picture does not show how deep a head is, and a head that hardly turns does not show it later. Landmarks
do, for the face: their surface is the start, and away from the face it falls back as a head does. What no
picture shows is guessed from the outline: behind it the head is thought round and longer than wide, in the
colours that the outline has. No template mesh is fitted.
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import LinearNDInterpolator
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from raf_lite.captures import Camera

# Of the width between the outermost landmarks, which is some 14 cm on a grown person.
DEEPEST = 0.6  # how far behind the middle of the head the shell falls back at most
HALF_DEPTH = 0.7  # of the box that the head is thought to fill
RIM = 0.1  # how far within the outline the far side's colours are taken: nearer, the background is in them
FAR_DEPTH = 1.5  # of a ball as wide as the outline: heads are longer than wide
FAR_SHARE = 0.35  # of the points, those on the far side


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
    [0, 1]. Pixels of the mask are drawn, with replacement where there are fewer than `count`. Each near point
    lies at the depth of the landmarks' surface, and beside it a step back for each step aside; a share of
    FAR_SHARE lies on the far side. Raises ValueError for an empty mask.
    """
    inside = mask > 0.5
    rows, columns = np.nonzero(inside)
    if not len(rows):
        raise ValueError("the mask of the neutral frame is empty; matte that frame again")
    picked = rng.choice(len(rows), count, replace=len(rows) < count)
    rows, columns = rows[picked], columns[picked]
    pixels = np.stack([columns, rows], 1) + rng.random((count, 2))
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
    z = np.maximum(np.where(np.isnan(z), landmarks[nearest, 2] - aside, z), -DEEPEST * width)
    colours = image[rows, columns]

    # The far side: a long ball's depth behind the outline, by how far within it a pixel is. A mask that
    # leaves the picture below has no outline there: the head goes on.
    pixel = origin[2] / camera.K[0, 0]
    edge = np.pad(inside, ((1, 0), (1, 1)))
    edge = np.pad(edge, ((0, 1), (0, 0)), mode="edge")
    within = distance_transform_edt(edge)[1:-1, 1:-1] * pixel
    depth = np.sqrt(within * np.maximum(2 * within.max() - within, 0))
    far = np.arange(count) < FAR_SHARE * count
    rim = (within > RIM * width / 2) & (within < RIM * width)
    outline = float(np.mean(z[within[rows, columns] < RIM * width])) if rim.any() else 0.0
    z[far] = outline - FAR_DEPTH * depth[rows[far], columns[far]]
    if rim.any():
        _, (y, x) = distance_transform_edt(~rim, return_indices=True)
        colours[far] = image[y[rows[far], columns[far]], x[rows[far], columns[far]]]
    return met(z), colours


def shell_box(points: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The box that a head with this shell is thought to fill, as its lowest and highest corner [3]: the
    shell's own, and as far back as a head is deep."""
    low, high = points.min(0), points.max(0)
    half = HALF_DEPTH * np.ptp(landmarks[:, 0])
    low[2], high[2] = -half, max(high[2], half)
    return low, high
