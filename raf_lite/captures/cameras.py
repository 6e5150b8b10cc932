"""Pinhole cameras in the OpenCV convention (x right, y down, z forward), pixel centres at +0.5."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

# Between OpenGL's camera axes (y up, looking along -z) and OpenCV's (y down, looking along z), in either
# direction.
OPENGL_AXES = np.diag([1.0, -1.0, -1.0, 1.0])
OPENGL_AXES.setflags(write=False)

# A calibration printed with 5 digits, or kept as float32, is still a rotation.
_ROTATION_TOLERANCE = 1e-4
_PARALLEL = 1e6  # condition of the point nearest to axes that differ by a tenth of a degree


@dataclass(frozen=True, eq=False)
class Camera:
    """One calibrated view, checked when it is made.

    serial: the camera's name. world_to_camera: [4, 4] float64, rigid, world units. K: [3, 3] float64, pixels,
    no skew. width, height: image size in pixels. A point on the centre of the top left pixel projects to
    (0.5, 0.5).

    Raises ValueError that names the camera and the field: wrong shape, not finite, no rotation, wrong
    intrinsics or size.

    Conventions: docs/conventions.md#axes-and-cameras.

    >>> K = np.array([[100.0, 0, 32], [0, 100, 24], [0, 0, 1]])
    >>> camera = Camera("front", np.eye(4), K, width=64, height=48)
    >>> pixels, depth = camera.project(np.array([0.1, 0.1, 2.0]))
    >>> pixels.tolist(), float(depth)
    ([37.0, 29.0], 2.0)
    """

    serial: str
    world_to_camera: np.ndarray  # [4, 4]
    K: np.ndarray  # [3, 3]
    width: int
    height: int

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "world_to_camera", _matrix(self.world_to_camera, 4, self.serial, "world_to_camera")
        )
        object.__setattr__(self, "K", _matrix(self.K, 3, self.serial, "K"))
        problem = rigid_problem(self.world_to_camera, _ROTATION_TOLERANCE)
        if problem:
            raise ValueError(
                f"camera {self.serial}: world_to_camera {problem}; correct the calibration (OpenCV, 4x4)"
            )
        K = self.K
        if K[0, 0] <= 0 or K[1, 1] <= 0 or K[0, 1] or K[1, 0] or not np.array_equal(K[2], (0, 0, 1)):
            raise ValueError(
                f"camera {self.serial}: K must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] with fx, fy > 0, but"
                f" is {K.tolist()}; correct the intrinsics"
            )
        if self.width < 1 or self.height < 1:
            raise ValueError(
                f"camera {self.serial}: the image size {self.width}x{self.height} (WxH) is not positive;"
                " correct it"
            )

    @property
    def center(self) -> np.ndarray:
        """The optical centre in world coordinates, [3]."""
        return -self.world_to_camera[:3, :3].T @ self.world_to_camera[:3, 3]

    def project(self, points_world: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # [..., 3]
        """Project world points: pixels [..., 2] and depth [...] along the optical axis, in world units.

        Points that do not lie in front of the camera have no picture: their pixels are NaN.
        """
        return project(points_world, self.world_to_camera, self.K)

    def scaled(self, factor: float) -> Camera:
        """The same view with `factor` times as many pixels a side; a last, incomplete row or column of pixels
        is dropped.

        With pixel centres at +0.5 the image's corner is (0, 0) at every scale, so that K's first two rows
        just scale.
        """
        scale = np.diag([factor, factor, 1.0])
        # A hair is added so that, say, 256 * (1 / 3) * 3 stays 256.
        return dataclasses.replace(
            self,
            K=scale @ self.K,
            width=int(self.width * factor + 1e-6),
            height=int(self.height * factor + 1e-6),
        )

    def cropped(self, left: int, top: int, width: int, height: int) -> Camera:
        """The view that sees only this box of pixels."""
        if left < 0 or top < 0 or left + width > self.width or top + height > self.height:
            raise ValueError(
                f"camera {self.serial}: the crop (left {left}, top {top}, width {width}, height {height})"
                f" does not lie within its {self.width}x{self.height} (WxH) image; choose a smaller one"
            )
        K = self.K.copy()
        K[:2, 2] -= left, top
        return dataclasses.replace(self, K=K, width=width, height=height)


def project(
    points: np.ndarray,
    view: np.ndarray,
    K: np.ndarray,  # [..., 3]  # [4, 4]  # [3, 3]
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [..., 2] and depth [...] of points under a view matrix from their own space to a camera's,
    OpenCV axes, and K.

    `Camera.project` for points that are not in the world, such as those of head space under world_to_camera @
    head_pose. NaN pixels as there.
    """
    in_camera = np.asarray(points, np.float64) @ view[:3, :3].T + view[:3, 3]
    depth = in_camera[..., 2]
    safe_depth = np.where(depth > 0, depth, np.nan)
    return in_camera[..., :2] / safe_depth[..., None] * K[[0, 1], [0, 1]] + K[:2, 2], depth


def nearest_to_axes(
    centers: Iterable[np.ndarray],
    directions: Iterable[np.ndarray],  # [C, 3]  # [C, 3]
) -> np.ndarray | None:
    """The point [3] nearest to all optical axes, by least squares; None where one axis or parallel ones leave
    it open.

    directions: unit vectors along the axes (row 2 of a view matrix's rotation).
    """
    across = [np.eye(3) - np.outer(d, d) for d in directions]
    total = sum(across)
    if len(across) < 2 or np.linalg.cond(total) > _PARALLEL:
        return None
    return np.linalg.solve(total, sum(a @ c for a, c in zip(across, centers, strict=True)))


def rigid_problem(matrix: np.ndarray, tolerance: float) -> str | None:
    """What keeps a 4x4 matrix from being a rotation and a translation, in words; None if nothing does."""
    if not np.isfinite(matrix).all():
        return "has values that are not finite"
    rotation = matrix[:3, :3]
    error = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if error > tolerance:
        return f"has a 3x3 part that is no rotation (R R^T differs from the identity by {error:.2g})"
    if np.linalg.det(rotation) < 0:
        return "mirrors (its 3x3 part has determinant -1)"
    if not np.array_equal(matrix[3], (0, 0, 0, 1)):
        return f"has the last row {matrix[3].tolist()} where [0, 0, 0, 1] belongs"
    return None


def _matrix(value: np.ndarray, size: int, serial: str, field: str) -> np.ndarray:
    """`value` as a finite, read-only float64 [size, size] array."""
    try:
        matrix = np.array(value, np.float64)
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            f"camera {serial}: {field} is not a matrix of numbers; give {size}x{size} numbers"
        ) from error
    if matrix.shape != (size, size):
        raise ValueError(
            f"camera {serial}: {field} has shape {list(matrix.shape)}; give {size}x{size} numbers"
        )
    if not np.isfinite(matrix).all():
        raise ValueError(f"camera {serial}: {field} has values that are not finite; correct the calibration")
    matrix.setflags(write=False)
    return matrix
