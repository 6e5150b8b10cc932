"""Where the Gaussians start: the visual hull of one neutral frame, from the capture's own masks. No template,
no mesh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raf_lite.captures import Camera
from raf_lite.captures.cameras import nearest_to_axes, project


@dataclass(frozen=True)
class Similarity:
    """The move and scale that bring a capture's head to centre 0 and radius 1: x_normal = (x - centre) /
    radius.

    Conventions: docs/conventions.md#units.

    >>> Similarity(centre=np.array([0.0, 0.0, 5.0]), radius=2.0).viewmat(np.eye(4), np.eye(4))[:3, 3]
    array([0. , 0. , 2.5])
    """

    centre: np.ndarray  # [3] in the capture's units, head space
    radius: float

    def viewmat(self, world_to_camera: np.ndarray, head_pose: np.ndarray) -> np.ndarray:
        """View matrix [4, 4] from normalised head space to a camera whose unit is one radius.

        Scaling camera space uniformly leaves every pixel where it was.
        """
        view = np.asarray(world_to_camera, np.float64) @ np.asarray(head_pose, np.float64)
        out = view.copy()
        out[:3, 3] = (view[:3, :3] @ self.centre + view[:3, 3]) / self.radius
        return out

    def head_to_camera(self, viewmat: np.ndarray) -> np.ndarray:
        """The rigid transform [4, 4] from head space to camera, in the capture's units, of a view matrix that
        `viewmat` gives."""
        out = np.array(viewmat, np.float64)
        out[:3, 3] = self.radius * out[:3, 3] - out[:3, :3] @ self.centre
        return out


def visual_hull(
    masks: np.ndarray, cameras: list[Camera], head_pose: np.ndarray, resolution: int = 96
) -> np.ndarray:
    """Grid points inside every mask's silhouette, [M, 3] in head space.

    masks: [C, H, W] in [0, 1]. cameras: C of them. head_pose: [4, 4] head to world. resolution: grid cells
    along the longest side. The grid's extent follows from the silhouettes: the region all cameras look at,
    cut down to what the masks allow.

    Raises ValueError when no point is inside all masks (cameras and masks do not belong together), and for
    one camera or parallel ones.

    Conventions: docs/conventions.md#axes-and-cameras, docs/conventions.md#pictures-colours-and-masks.

    >>> from raf_lite import open_capture
    >>> from raf_lite.manifest import find_data
    >>> capture = open_capture(find_data() / "mini_nersemble" / "001", downscale=8)
    >>> sequence, frame = capture.neutral
    >>> cameras = list(capture.cameras.values())
    >>> masks = np.stack([capture.masks(sequence, camera.serial, [frame])[0] for camera in cameras])
    >>> hull = visual_hull(masks, cameras, capture.head_poses(sequence)[frame], resolution=32)
    >>> np.ptp(hull, axis=0).round()
    array([22., 35., 34.])
    """
    head_from_world = np.linalg.inv(head_pose)
    centres = np.array([head_from_world[:3, :3] @ c.center + head_from_world[:3, 3] for c in cameras])
    views = [c.world_to_camera @ head_pose for c in cameras]
    middle = nearest_to_axes(centres, [v[2, :3] for v in views])  # about the middle of the head
    if middle is None:
        raise ValueError(
            f"camera(s) {', '.join(c.serial for c in cameras)} look in one direction, which leaves open where"
            " the head is; give cameras that see it from several sides"
        )
    distance = np.linalg.norm(centres - middle, axis=1).mean()
    extent = max(distance * camera.width / camera.K[0, 0] for camera in cameras)
    low, high = middle - extent, middle + extent
    for _ in range(2):  # a coarse pass finds the head's box, a fine one fills it
        step = (high - low).max() / resolution
        grid = np.stack(
            np.meshgrid(
                *[np.arange(a, b + step, step) for a, b in zip(low, high, strict=True)], indexing="ij"
            ),
            -1,
        )
        points = grid.reshape(-1, 3)
        for view, camera, mask in zip(
            views, cameras, masks, strict=True
        ):  # each silhouette thins out what is left
            u, depth = project(points, view, camera.K)
            points, u = points[depth > 0], u[depth > 0]
            height, width = mask.shape
            # A body that leaves the picture goes on a little behind its edge: such points are judged by the
            # nearest pixel.
            near = (np.abs(u - [width / 2, height / 2]) < [0.6 * width, 0.6 * height]).all(1)
            column, row = np.clip(np.floor(u), 0, [width - 1, height - 1]).astype(int).T
            points = points[near & (mask[row, column] > 0.5)]
        if not len(points):
            raise ValueError(
                "no point of space lies inside every mask of the neutral frame; check that masks and camera "
                "matrices belong to the same capture and convention (raf-lite check)"
            )
        low, high = points.min(0) - step, points.max(0) + step
    return points


def surface_points(
    points: np.ndarray,
    images: np.ndarray,
    cameras: list[Camera],
    head_pose: np.ndarray,
    count: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose `count` hull points that some camera sees, with the colour it sees there.

    points: [M, 3] from `visual_hull`. images: float [C, H, W, 3]. Returns [count, 3] head space and [count,
    3] colours. Points are drawn with replacement where the hull's surface has fewer, then jittered within a
    grid cell.

    Conventions: docs/conventions.md#axes-and-cameras, docs/conventions.md#pictures-colours-and-masks.

    >>> from raf_lite import open_capture
    >>> from raf_lite.manifest import find_data
    >>> capture = open_capture(find_data() / "mini_nersemble" / "001", downscale=8)
    >>> sequence, frame = capture.neutral
    >>> cameras = list(capture.cameras.values())
    >>> masks = np.stack([capture.masks(sequence, camera.serial, [frame])[0] for camera in cameras])
    >>> images = np.stack([capture.images(sequence, camera.serial, [frame])[0] for camera in cameras])
    >>> pose, rng = capture.head_poses(sequence)[frame], np.random.default_rng(0)
    >>> points, colours = surface_points(
    ...     visual_hull(masks, cameras, pose, resolution=32), images, cameras, pose, 500, rng
    ... )
    >>> points.shape, colours.shape
    ((500, 3), (500, 3))
    """
    spacing = np.median(np.diff(np.unique(points[:, 0])))
    visible, colour, weight = np.zeros(len(points), bool), np.zeros((len(points), 3)), np.zeros(len(points))
    for camera, image in zip(cameras, images, strict=True):
        u, depth = project(points, camera.world_to_camera @ head_pose, camera.K)
        height, width = image.shape[:2]
        # Bins about as wide as the grid's spacing on screen: finer ones would let the far side shine through.
        bin_size = max(1.0, spacing * camera.K[0, 0] / np.median(depth))
        column = np.clip(u[:, 0] / bin_size, 0, int(width / bin_size)).astype(int)
        row = np.clip(u[:, 1] / bin_size, 0, int(height / bin_size)).astype(int)
        nearest = np.full((row.max() + 1, column.max() + 1), np.inf)
        np.minimum.at(nearest, (row, column), depth)
        seen = depth < nearest[row, column] + 1.5 * spacing
        pixel_column = np.clip(u[:, 0].astype(int), 0, width - 1)
        pixel_row = np.clip(u[:, 1].astype(int), 0, height - 1)
        visible |= seen
        colour[seen] += image[pixel_row[seen], pixel_column[seen]]
        weight[seen] += 1
    candidates = np.flatnonzero(visible)
    chosen = rng.choice(candidates, count, replace=len(candidates) < count)
    jitter = rng.uniform(-0.5, 0.5, (count, 3)) * spacing
    return points[chosen] + jitter, colour[chosen] / weight[chosen, None]
