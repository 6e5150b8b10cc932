"""Frames in which something is before the face: a hand, a cup, a phone.

The colours at a face's landmarks follow from where the head looks and what the face does; what is before it
has colours of its own. So each colour is predicted linearly from the head's rotation and the main directions
of the landmarks, on the frames that fit best, and a frame is found whose colours are off in a whole patch of
the face. A landmark's own usual error is the unit: teeth and eyelids change all the time, a cheek does not.

Measured on eight real clips with hands, discs and cards pasted over the face in a quarter of the frames:
docs/own_film.md.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from raf_lite.descriptors.landmarks import align_landmarks

HIDDEN = 2.2  # a score above it is a face that is hidden in part
JUDGED = 60  # frames, at least; fewer do not show what is usual
TOO_MANY = 0.25  # a larger share of hidden frames is no occlusion but light that changes
_DIRECTIONS = 8  # of the landmarks' movement, at most; one for every ten frames
_FITTED = 0.75  # of the frames, those that fit best
_ROUNDS = 3
_PATCH = 16  # neighbouring landmarks, of which half have to be off
_SHARE = 24  # landmarks in such patches, 5 % of the face
_NOISE = 6.0  # grey levels, which every colour may be off


def face_colours(picture: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The colours of a picture uint8 [H, W, 3] at landmarks [L, 2] in its pixels, float32 [L, 3], each the
    mean of 3 x 3 pixels; a landmark outside has the colour of the nearest edge.

    >>> face_colours(np.full((8, 8, 3), 7, np.uint8), np.array([[3.5, 4.0], [99.0, -1.0]]))[:, 0].tolist()
    [7.0, 7.0]
    """
    height, width = picture.shape[:2]
    smooth = uniform_filter(picture.astype(np.float32), (3, 3, 0))
    x, y = np.clip(landmarks[:, :2].astype(int), 0, [width - 1, height - 1]).T
    return smooth[y, x]


def occlusion_scores(colours: np.ndarray, landmarks: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """How far the colours of a face are from what its pose and expression let expect, [F]; beyond HIDDEN
    something is before it.

    colours: [F, 478, 3], see `face_colours`. landmarks: [F, 478, 3]. poses: rigid head-to-world transforms
    [F, 4, 4]. A score is what 5 % of the landmarks exceed, each by the median error of its neighbourhood in
    units of its usual error and noise.
    """
    frames = len(colours)
    aligned = align_landmarks(landmarks)[..., :2].astype(np.float64)
    typical = np.median(aligned, 0)
    movement = (aligned - typical).reshape(frames, -1)
    rotations = Rotation.from_matrix(poses[:, :3, :3])
    turn = (rotations.mean().inv() * rotations).as_rotvec()
    target = colours.reshape(frames, -1).astype(np.float64)
    near = cKDTree(typical).query(typical, k=_PATCH)[1]
    kept, scores = np.ones(frames, bool), np.zeros(frames)
    for _ in range(_ROUNDS):
        directions = np.linalg.svd(movement[kept], full_matrices=False)[2][: min(_DIRECTIONS, frames // 10)]
        known = np.concatenate([np.ones((frames, 1)), turn, turn**2, movement @ directions.T], 1)
        known /= np.abs(known[kept]).max(0) + 1e-9
        normal = known[kept].T @ known[kept] + 1e-2 * np.eye(known.shape[1])
        expected = known @ np.linalg.solve(normal, known[kept].T @ target[kept])
        off = np.abs(target - expected).reshape(colours.shape).max(-1)
        off /= 1.5 * np.median(off[kept], 0) + _NOISE
        scores = np.sort(np.median(off[:, near], 2), 1)[:, -_SHARE]
        kept = scores <= np.quantile(scores, _FITTED)
    return scores
