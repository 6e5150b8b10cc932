"""From where a head was seen in training, and how much farther it may be turned.

A side that no training frame shows is guessed, and looks it. An avatar therefore keeps the range of its
views; what turns it stays within BEYOND of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

BEYOND = np.deg2rad(20)  # over what training saw: there a face still holds
ORDER = "ZXY"  # roll, then pitch, then yaw: view = roll @ pitch @ yaw @ front view
_QUANTILES = 0.01, 0.99  # trackers slip


def _towards(views: np.ndarray) -> Rotation:
    """What turns cameras of view matrices [M, 4, 4] to look at the middle of the head."""
    sight = views[:, :3, 3] / np.linalg.norm(views[:, :3, 3], axis=1, keepdims=True)
    x, y, z = sight.T
    across = np.hypot(x, y)
    angle = np.arctan2(across, z) / np.where(across > 0, across, 1)
    return Rotation.from_rotvec(np.stack([y * angle, -x * angle, 0 * angle], 1))


def view_angles(views: np.ndarray, front: np.ndarray) -> np.ndarray:
    """From where cameras see a head, radians [M, 3] (yaw, pitch, roll) away from the one in front.

    views [M, 4, 4], front [4, 4]: view matrices from normalised head space. A positive yaw sees the head from
    its left, a positive pitch from above. Where in the picture the head is makes a difference: a head beside
    a camera's axis is seen from the side.

    Conventions: docs/conventions.md#axes-and-cameras.

    >>> front = np.diag([1.0, -1.0, -1.0, 1.0])  # head space: y up, z out of the face
    >>> front[2, 3] = 6
    >>> aside = front.copy()
    >>> aside[:3, :3] = [[0, 0, -1], [0, -1, 0], [-1, 0, 0]]  # the face looks to the left of the picture
    >>> np.rad2deg(view_angles(np.stack([front, aside]), front)).round().tolist()
    [[0.0, 0.0, 0.0], [90.0, 0.0, 0.0]]
    """
    ahead = (_towards(front[None]) * Rotation.from_matrix(front[None, :3, :3])).inv()
    turns = _towards(views) * Rotation.from_matrix(views[:, :3, :3]) * ahead
    return turns.as_euler(ORDER)[:, ::-1] + 0.0


@dataclass(frozen=True)
class ViewRange:
    """The views that training frames show: lowest and highest yaw and pitch, radians, as `view_angles` has
    them.

    >>> views = ViewRange.of(np.deg2rad([[-8.0, 0, 0], [30.0, 5, 0]]))
    >>> str(views)
    '8 degrees from its right to 30 from its left, 0 from below to 5 from above'
    >>> np.rad2deg(views.limits()).round().tolist()
    [[-28.0, 50.0], [-20.0, 25.0]]
    """

    yaw: tuple[float, float]
    pitch: tuple[float, float]

    @classmethod
    def of(cls, angles: np.ndarray) -> ViewRange:
        """What angles [M, 3] span, without the rarest hundredth at each end; the front belongs to it."""
        low, high = np.quantile(angles[:, :2], _QUANTILES, axis=0, method="nearest").clip(
            [[-np.inf], [0]], [[0], [np.inf]]
        )
        return cls((float(low[0]), float(high[0])), (float(low[1]), float(high[1])))

    def limits(self) -> np.ndarray:
        """How far the head is turned at most: [[lowest, highest] yaw, the same of pitch]."""
        return np.array([self.yaw, self.pitch]) + [-BEYOND, BEYOND]

    def __str__(self) -> str:
        """In degrees and words; left and right are the head's own."""
        right, left, below, above = (
            np.rad2deg([-self.yaw[0], self.yaw[1], -self.pitch[0], self.pitch[1]]) + 0.0
        )
        return (
            f"{right:.0f} degrees from its right to {left:.0f} from its left, {below:.0f} from below to"
            f" {above:.0f} from above"
        )

    def as_dict(self) -> dict:
        """Plain values, for JSON."""
        return {"yaw": list(self.yaw), "pitch": list(self.pitch)}

    @classmethod
    def from_dict(cls, values: dict) -> ViewRange:
        """What `as_dict` gave. Raises KeyError, TypeError or ValueError for anything else."""
        ranges = []
        for name in ("yaw", "pitch"):
            low, high = map(float, values[name])
            if not -np.pi <= low <= 0 <= high <= np.pi:
                raise ValueError(f"a {name} from {low} to {high} is no range about the front")
            ranges.append((low, high))
        return cls(*ranges)


def limited(views: np.ndarray, front: np.ndarray, seen: ViewRange) -> tuple[np.ndarray, np.ndarray]:
    """View matrices [M, 4, 4], each whose head is turned beyond the limits of `seen` turned back about its
    middle; and which were, bool [M]."""
    angles = view_angles(views, front)
    low, high = seen.limits().T
    within = np.concatenate([angles[:, :2].clip(low, high), angles[:, 2:]], 1)
    over = (within != angles).any(1)
    out = views.copy()
    if over.any():
        ahead = _towards(front[None]) * Rotation.from_matrix(front[None, :3, :3])
        turns = Rotation.from_euler(ORDER, within[over][:, ::-1])
        out[over, :3, :3] = (_towards(views[over]).inv() * turns * ahead).as_matrix()
    return out, over
