"""Head poses of a multi-view capture from 2-D landmarks: triangulate over cameras, then fit the neutral head
rigidly.

The landmarks come as arrays, from whatever detector; nothing here knows faces.
Sources: linear triangulation, Hartley and Zisserman, Multiple View Geometry, 2nd ed., section 12.2; rigid
fit, Kabsch 1976."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from raf_lite.captures.cameras import Camera

_REWEIGHTINGS = 10
_BLOCK = 8192  # points triangulated at once, which bounds the memory


def triangulate(
    landmarks: np.ndarray,
    cameras: Sequence[Camera],
    *,
    noise: float = 1.0,  # [T, C, L, 2]  # C
) -> np.ndarray:  # [T, L, 3]
    """World positions [T, L, 3] of landmarks seen in pixels [T, C, L, 2]; NaN marks a landmark that a camera
    does not see.

    noise: standard deviation in pixels that an honest detection has; views that miss by much more (a wrong
    detection, a badly calibrated camera) lose their say: each point starts from the pair of cameras that best
    explains all others, and is then refined with Geman-McClure weights. To outvote a wrong view takes at
    least three right ones.

    A landmark seen by fewer than two cameras comes out NaN. Raises ValueError if the shapes do not agree.

    Conventions: docs/conventions.md#axes-and-cameras.

    >>> K, aside = np.array([[100.0, 0, 32], [0, 100, 24], [0, 0, 1]]), np.eye(4)
    >>> aside[0, 3] = 0.5
    >>> cameras = [Camera("left", np.eye(4), K, 64, 48), Camera("right", aside, K, 64, 48)]
    >>> seen = np.stack([camera.project(np.array([[0.2, 0.1, 2.0]]))[0] for camera in cameras])
    >>> triangulate(seen[None], cameras).round(3)
    array([[[0.2, 0.1, 2. ]]])
    """
    landmarks = np.asarray(landmarks, np.float64)
    if landmarks.ndim != 4 or landmarks.shape[1] != len(cameras) or landmarks.shape[3] != 2:
        raise ValueError(
            f"the 2-D landmarks have shape {list(landmarks.shape)} for {len(cameras)} cameras; give [frames, "
            "cameras, landmarks, 2]"
        )
    if len(cameras) < 2:
        raise ValueError("one camera cannot triangulate; give the landmarks of at least two")
    frames, n_cameras, count, _ = landmarks.shape
    observed = landmarks.transpose(0, 2, 1, 3).reshape(-1, n_cameras, 2)
    projections = np.stack([camera.K @ camera.world_to_camera[:3] for camera in cameras])
    blocks = [
        _triangulate(observed[i : i + _BLOCK], projections, noise) for i in range(0, len(observed), _BLOCK)
    ]
    return np.concatenate([np.empty((0, 3)), *blocks]).reshape(frames, count, 3)


def fit_head_poses(
    landmarks: np.ndarray,  # [T, L, 3]
    neutral: np.ndarray,  # [L, 3]
    *,
    rigid: np.ndarray | None = None,  # [R] indices
) -> np.ndarray:  # [T, 4, 4]
    """Rigid head-to-world transforms [T, 4, 4] that carry the neutral landmarks [L, 3] to the triangulated
    ones [T, L, 3].

    rigid: indices of the landmarks that expressions move least (eye corners, nose bridge, forehead); default:
    all. Geman-McClure weights, scaled by each frame's median residual, turn down those that move
    nevertheless. The head's own coordinates are those of `neutral`; lengths keep their unit.

    A frame without three finite landmarks off a line comes out NaN. Raises ValueError if shapes do not agree,
    or the neutral landmarks are fewer than three or lie on a line, which leaves the rotation open.

    Conventions: docs/conventions.md#head-pose.

    >>> neutral = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    >>> fit_head_poses(neutral[None] + [1.0, 2.0, 5.0], neutral)[0, :3, 3].round(3)
    array([1., 2., 5.])
    """
    landmarks, neutral = np.asarray(landmarks, np.float64), np.asarray(neutral, np.float64)
    if landmarks.ndim != 3 or neutral.shape != landmarks.shape[1:] or neutral.shape[1] != 3:
        raise ValueError(
            f"landmarks have shape {list(landmarks.shape)} and the neutral ones {list(neutral.shape)}; give "
            "[frames, landmarks, 3] and [landmarks, 3]"
        )
    if rigid is not None:
        landmarks, neutral = landmarks[:, rigid], neutral[rigid]
    known = np.isfinite(neutral).all(1)
    landmarks, neutral = landmarks[:, known], neutral[known]
    if not _fixes_rotation(neutral):
        raise ValueError(
            f"the {len(neutral)} neutral landmarks do not fix a rotation; give at least three that are off a"
            " line"
        )

    poses = np.full((len(landmarks), 4, 4), np.nan)
    for frame, target in enumerate(landmarks):
        finite = np.isfinite(target).all(1)
        if _fixes_rotation(neutral[finite]):
            poses[frame] = _robust_rigid_fit(neutral[finite], target[finite])
    return poses


def _triangulate(
    observed: np.ndarray,
    projections: np.ndarray,
    noise: float,  # [N, C, 2]  # [C, 3, 4]
) -> np.ndarray:  # [N, 3]
    """Robust triangulation of each point by itself; NaN where fewer than two cameras see it."""
    seen = np.all(np.isfinite(observed), axis=2)
    best = np.full((len(observed), 3), np.nan)
    best_cost = np.full(len(observed), np.inf)
    for a, b in itertools.combinations(range(len(projections)), 2):
        rows = np.flatnonzero(seen[:, a] & seen[:, b])
        points = _solve(observed[rows][:, [a, b]], projections[[a, b]], np.ones((len(rows), 2)))
        residual, _ = _reproject(points, projections, observed[rows], seen[rows])
        cost = np.log1p((residual / noise) ** 2).sum(1)
        better = cost < best_cost[rows]
        best[rows[better]], best_cost[rows[better]] = points[better], cost[better]

    rows = np.flatnonzero(np.isfinite(best_cost))
    points, observed, seen = best[rows], observed[rows], seen[rows]
    for _ in range(_REWEIGHTINGS):
        residual, depth = _reproject(points, projections, observed, seen)
        # Divided by depth, the linear equations measure pixels.
        points = _solve(observed, projections, seen * _trust(residual / (3 * noise)) / depth**2)
    best[rows] = points
    return best


def _fixes_rotation(points: np.ndarray) -> bool:
    """Whether there are three points [L, 3] that do not lie on a line."""
    if len(points) < 3:
        return False
    spread = np.linalg.svd(points - points.mean(0), compute_uv=False)
    return bool(spread[1] > 1e-6 * spread[0])


def _robust_rigid_fit(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The 4x4 rigid transform source -> target, by Kabsch's solution under repeatedly renewed weights."""
    weights = np.ones(len(source))
    size = np.linalg.norm(source - source.mean(0), axis=1).mean()
    for _ in range(_REWEIGHTINGS):
        share = (weights / weights.sum())[:, None]
        source_mean, target_mean = (share * source).sum(0), (share * target).sum(0)
        u, _, vt = np.linalg.svd((target - target_mean).T @ (share * (source - source_mean)))
        # The sign keeps the fit from mirroring the head.
        rotation = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
        translation = target_mean - rotation @ source_mean
        residual = np.linalg.norm(source @ rotation.T + translation - target, axis=1)
        scale = 2 * np.median(residual) + 1e-9 * size
        weights = _trust(residual / scale)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, translation
    return pose


def _trust(relative_residual: np.ndarray) -> np.ndarray:
    """Geman-McClure weights, which outliers lose wholly: 1 at residual 0, 1/4 at 1, residual^-4 far out."""
    return 1 / (1 + relative_residual**2) ** 2


def _solve(
    observed: np.ndarray,
    projections: np.ndarray,
    weights: np.ndarray,  # [N, C, 2]  # [C, 3, 4]  # [N, C]
) -> np.ndarray:  # [N, 3]
    """Weighted linear triangulation: u p3 = p1 and v p3 = p2 for every camera, in least squares. Weight 0
    leaves a view out."""
    observed = np.where(weights[..., None] > 0, observed, 0.0)
    rows = observed[..., None] * projections[:, None, 2] - projections[:, :2]  # [N, C, 2, 4]
    rows = (np.sqrt(weights)[..., None, None] * rows).reshape(len(rows), 2 * rows.shape[1], 4)
    normal = rows.transpose(0, 2, 1) @ rows
    # Heads are at a finite place, so the fourth coordinate is 1: three unknowns. The pseudo-inverse bears
    # parallel rays.
    return -(np.linalg.pinv(normal[:, :3, :3], rcond=1e-12, hermitian=True) @ normal[:, :3, 3:])[..., 0]


def _reproject(
    points: np.ndarray,  # [N, 3]
    projections: np.ndarray,  # [C, 3, 4]
    observed: np.ndarray,  # [N, C, 2]
    seen: np.ndarray,  # [N, C]
) -> tuple[np.ndarray, np.ndarray]:
    """Distance in pixels to each observation (0 where there is none) and depth, [N, C] each; behind a camera
    is far away."""
    in_camera = np.einsum("cij,nj->nci", projections[:, :, :3], points) + projections[:, :, 3]
    depth = in_camera[..., 2]
    front = depth > 0
    pixels = in_camera[..., :2] / np.where(front, depth, 1.0)[..., None]
    residual = np.linalg.norm(np.where(seen[..., None], pixels - observed, 0.0), axis=-1)
    return np.where(front | ~seen, residual, 1e6), np.where(front, depth, np.inf)
