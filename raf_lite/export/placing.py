"""One expression of an avatar as plain arrays, standing the way that viewers of splats expect."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from raf_lite.avatar import GaussianAvatar, frontal_camera
from raf_lite.captures.cameras import rigid_problem


@dataclass(frozen=True)
class PlacedGaussians:
    """N Gaussians of one expression, float32. The unit is one head radius, the origin the middle of the
    unmoved head."""

    means: np.ndarray  # [N, 3]
    quats: np.ndarray  # [N, 4] wxyz, of length 1
    log_scales: np.ndarray  # [N, 3] natural logarithms of the standard deviations
    opacity_logits: np.ndarray  # [N]
    colors: np.ndarray  # [N, 3] sRGB in [0, 1], the same from every side

    def turned(self, rotation: np.ndarray) -> PlacedGaussians:
        """The same Gaussians in other axes: rotation [3, 3] takes these axes to those."""
        return PlacedGaussians(
            (self.means @ rotation.T).astype(np.float32),
            _turn(self.quats, rotation),
            self.log_scales,
            self.opacity_logits,
            self.colors,
        )


def _turn(quats: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Rotations wxyz [N, 4] of any length, followed by `rotation`, as unit quaternions. Zero ones mean no
    rotation."""
    whole = np.where(np.linalg.norm(quats, axis=1, keepdims=True) > 0, quats, [1.0, 0, 0, 0])
    # A copy, since SciPy 1.11 takes no matrix that is read-only.
    turned = Rotation.from_matrix(np.array(rotation)) * Rotation.from_quat(whole[:, [1, 2, 3, 0]])
    return turned.as_quat()[:, [3, 0, 1, 2]].astype(np.float32)


def checked_descriptors(avatar: GaussianAvatar, descriptors: np.ndarray, what: str) -> np.ndarray:
    """float32 [T, D], T at least 1. Raises ValueError that names `what`: none, another dimension, the first
    row with a NaN."""
    values = avatar.check_descriptors(descriptors, f"the descriptors of {what}")
    if not len(values):
        raise ValueError(f"{what}: there are no descriptors; give at least one frame's")
    return values


def checked_pose(head_pose: np.ndarray | None, what: str) -> np.ndarray:
    """float64 [4, 4], the identity for None. Raises ValueError that begins with `what` for anything that is
    no rigid move."""
    pose = np.eye(4) if head_pose is None else np.asarray(head_pose, np.float64)
    problem = f"is {list(pose.shape)}, not [4, 4]" if pose.shape != (4, 4) else rigid_problem(pose, 1e-4)
    if problem:
        raise ValueError(
            f"{what}: the head pose {problem}; give a rotation and a translation in the capture's units"
        )
    return pose


@torch.no_grad()
def place(
    avatar: GaussianAvatar,
    descriptor: np.ndarray,
    head_pose: np.ndarray | None = None,
    *,
    what: str = "place",
) -> PlacedGaussians:
    """One expression, descriptor [D], in the axes of a camera in front of the face: x right, y down, z away
    from the camera.

    These are OpenCV's axes and those of the 3DGS training code's worlds, so that viewers of its files show
    the head upright. Seen from `raf_lite.avatar.frontal_camera`, which is where these axes come from.
    head_pose: [4, 4] moves the head inside its own space, in the capture's units, as for
    `GaussianAvatar.render`; identity if None.

    Raises ValueError that names `what`: wrong dimension, NaN, no rigid pose.

    Conventions: docs/conventions.md#units, docs/conventions.md#rotations, docs/conventions.md#gaussians.

    >>> from raf_lite import GaussianAvatar
    >>> from raf_lite.manifest import find_data
    >>> avatar = GaussianAvatar.load(find_data() / "checkpoints" / "001-centred.safetensors")
    >>> from raf_lite.avatar import resting_descriptor
    >>> placed = place(avatar, resting_descriptor(avatar))
    >>> placed.means.shape, placed.quats.shape
    ((5000, 3), (5000, 4))
    """
    values = checked_descriptors(avatar, np.asarray(descriptor)[None], what)
    pose = checked_pose(head_pose, what)
    g, offsets = avatar.gaussians(torch.as_tensor(values, device=avatar.means.device))
    camera = frontal_camera(avatar, 512)
    view, middle = avatar.view(camera, pose), avatar.view(camera, np.eye(4))[:3, 3]
    means, quats, colors = (
        g[name][0].cpu().numpy().astype(np.float64) for name in ("means", "quats", "colors")
    )
    return PlacedGaussians(
        means=(means @ view[:3, :3].T + view[:3, 3] - middle).astype(np.float32),
        quats=_turn(quats, view[:3, :3]),
        # Not the logarithm of what was just exponentiated: that would be minus infinity where a scale
        # underflows.
        log_scales=(avatar.log_scales + offsets[0, :, 7:10]).cpu().numpy(),
        opacity_logits=avatar.opacity_logits.cpu().numpy(),
        colors=colors.astype(np.float32),
    )
