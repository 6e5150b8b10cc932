"""Moving a head in camera space: what training learns of tracked poses, and what grading may ask for.

A picture of an avatar whose pose is off by a degree is wrong at every edge, whatever the face does. Grading
can therefore move the head to where it fits best, and say so: *aligned*, beside *as tracked*.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from raf_lite.avatar.gaussian_avatar import GaussianAvatar
from raf_lite.captures import Camera

STEPS, RATE, FALL = 40, 3e-3, 0.93


def moved(viewmats: Tensor, correction: Tensor) -> Tensor:
    """View matrices [C, 4, 4] of a head that is turned about its own middle and moved by `correction` [6]: a
    rotation vector in radians and a translation in head radii, both along the axes of the camera.

    About the head and not about the camera, so that turning does not move it away and one rate of learning
    suits both.

    Conventions: docs/conventions.md#axes-and-cameras.

    >>> view = torch.eye(4)[None].clone()
    >>> view[0, 2, 3] = 6
    >>> moved(view, torch.tensor([0.0, 0, torch.pi / 2, 0, 1, 0]))[0, :3].round().int().tolist()
    [[0, -1, 0, 0], [1, 0, 0, 1], [0, 0, 1, 6]]
    """
    x, y, z = correction[:3]
    zero = torch.zeros_like(x)
    turn = torch.linalg.matrix_exp(torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3))
    upper = torch.cat([turn @ viewmats[:, :3, :3], viewmats[:, :3, 3:] + correction[3:, None]], -1)
    return torch.cat([upper, viewmats[:, 3:]], 1)


def aligned_poses(
    avatar: GaussianAvatar,
    descriptors: np.ndarray,  # [T, D]
    head_poses: np.ndarray,  # [T, 4, 4]
    camera: Camera,
    pictures: np.ndarray,  # [T, H, W, 3] in [0, 1], over white
    weights: np.ndarray | None = None,  # [T, H, W]
) -> np.ndarray:
    """Head poses [T, 4, 4] at which the avatar is nearest to what a camera saw, found from `head_poses` by
    gradient descent on the mean absolute difference of the picture.

    weights: how much each pixel has to say, at least 0: those of the face, where hair and collar, which do
    not move with the head, would pull it away. A frame without any, and None, ask the whole picture. Nothing
    but the six numbers of a rigid motion is fitted, frame by frame. Raises ValueError as `render`.

    Conventions: docs/conventions.md#head-pose, docs/conventions.md#pictures-colours-and-masks.

    >>> from raf_lite.avatar import frontal_camera, resting_descriptor
    >>> from raf_lite.manifest import find_data
    >>> avatar = GaussianAvatar.load(find_data() / "checkpoints" / "001-centred.safetensors")
    >>> camera, rest = frontal_camera(avatar, 64), resting_descriptor(avatar)[None]
    >>> seen = avatar.render(rest, np.eye(4)[None], [camera])[:, 0]
    >>> aside = np.eye(4)
    >>> aside[0, 3] = 0.5
    >>> float(abs(aligned_poses(avatar, rest, aside[None], camera, seen)[0, 0, 3])) < 0.1
    True
    """
    descriptors = avatar.check_descriptors(descriptors)
    device = avatar.means.device
    K = torch.tensor(camera.K, dtype=torch.float32, device=device)[None]
    from_world = np.linalg.inv(camera.world_to_camera)
    out = np.empty((len(head_poses), 4, 4))
    for t, pose in enumerate(head_poses):
        view = torch.as_tensor(avatar.view(camera, pose), dtype=torch.float32, device=device)[None]
        truth = torch.tensor(pictures[t], dtype=torch.float32, device=device)
        weight = torch.ones_like(truth[..., :1])
        if weights is not None and weights[t].any():
            weight = torch.tensor(weights[t], dtype=torch.float32, device=device)[..., None]
        weight = weight / weight.mean()
        descriptor = torch.as_tensor(descriptors[t], device=device)
        correction = torch.zeros(6, device=device, requires_grad=True)
        adam = torch.optim.Adam([correction], lr=RATE)
        schedule = torch.optim.lr_scheduler.ExponentialLR(adam, FALL)
        for _ in range(STEPS):
            shown = avatar.splat(descriptor, moved(view, correction), K, camera.width, camera.height)[0][0]
            loss = ((shown - truth).abs() * weight).mean()
            (correction.grad,) = torch.autograd.grad(loss, [correction])
            adam.step()
            schedule.step()
        found = moved(view, correction.detach())[0].cpu().numpy().astype(np.float64)
        out[t] = from_world @ avatar.similarity.head_to_camera(found)
    return out
