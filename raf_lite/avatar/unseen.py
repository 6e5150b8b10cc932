"""What no frame of a film showed, filled from what is beside it.

A Gaussian that other ones hide in every frame keeps the colour and the opacity that it started with, and
lies there as a hole or a speck once the head turns farther than the film did.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from torch import Tensor

from raf_lite.avatar.gaussian_avatar import GaussianAvatar
from raf_lite.splatting import rasterize

SEEN = 0.3  # pixels that a Gaussian has to make up in some view; less is unseen
LEFT = 0.5  # opacity; what training has made clearer than that is not hidden but unwanted
SOLID = 0.85  # opacity of what is filled, at least
BESIDE = 8  # seen Gaussians whose colours it gets
AROUND = 12  # Gaussians whose plane it lies in
WIDE, FLAT = 1.8, 0.4  # times its extent, along that plane and across it: holes close, the outline stays


def pixels_made(
    avatar: GaussianAvatar, descriptors: Tensor, viewmats: Tensor, Ks: Tensor, counts: Sequence[Tensor]
) -> Tensor:
    """How many pixels each Gaussian makes up, in the one of V views where they are most: [N]. Teeth are seen
    in few.

    descriptors: [V, D]. viewmats: [V, 4, 4], as `GaussianAvatar.view` says. Ks: [V, 3, 3]. counts: of each
    view float [H, W] in [0, 1], how much its pixels count.
    """
    made = torch.zeros(len(avatar.means), device=avatar.means.device)
    for descriptor, viewmat, K, count in zip(descriptors, viewmats, Ks, counts, strict=True):
        with torch.no_grad():
            shown, _ = avatar.gaussians(descriptor[None])
        # A picture is linear in the colours: how far it follows one of them is how much of it that one makes.
        colors = torch.zeros_like(shown["colors"][0], requires_grad=True)
        height, width = count.shape
        image, _, _ = rasterize(
            shown["means"][0],
            shown["quats"][0],
            shown["scales"][0],
            shown["opacities"],
            colors,
            viewmat[None],
            K[None],
            width,
            height,
            rasterize_mode="antialiased",
        )
        (share,) = torch.autograd.grad((image[0, ..., 0] * count).sum(), colors)
        made = torch.maximum(made, share[:, 0])
    return made


@torch.no_grad()
def fill_unseen(avatar: GaussianAvatar, made: Tensor) -> None:
    """Give the Gaussians that hardly a pixel is `made` of [N] the colours of those near them that are seen,
    lay them flat on the surface, and let them hide what is behind."""
    opacities = torch.sigmoid(avatar.opacity_logits)
    seen = (made > SEEN).cpu().numpy()
    hidden = ~seen & (opacities > LEFT).cpu().numpy()
    if not hidden.any() or seen.sum() < BESIDE:
        return
    means = avatar.means.cpu().numpy()
    distance, beside = cKDTree(means[seen]).query(means[hidden], k=BESIDE)
    weights = 1 / (distance + 0.01) ** 2  # a hundredth of the head's radius: nearer ones are all as near
    weights /= weights.sum(1, keepdims=True)
    colors = torch.sigmoid(avatar.color_logits).cpu().numpy()[seen]
    filled = (colors[beside] * weights[..., None]).sum(1)
    rows = torch.from_numpy(np.flatnonzero(hidden)).to(opacities.device)
    avatar.color_logits[rows] = torch.logit(torch.as_tensor(filled, dtype=torch.float32), eps=1e-4).to(
        opacities.device
    )
    avatar.opacity_logits[rows] = torch.logit(opacities[rows].clamp(min=SOLID), eps=1e-6)
    _, around = cKDTree(means).query(means[hidden], k=min(AROUND, len(means)))
    near = means[around] - means[around].mean(1, keepdims=True)
    axes = np.linalg.svd(near, full_matrices=False)[2].swapaxes(1, 2)  # the last one is across the plane
    axes[np.linalg.det(axes) < 0, :, 0] *= -1
    quats = np.roll(Rotation.from_matrix(axes).as_quat(), 1, axis=-1)  # scipy writes xyzw
    avatar.quats[rows] = torch.as_tensor(quats, dtype=torch.float32).to(opacities.device)
    extents = avatar.log_scales[rows].mean(1, keepdim=True)
    avatar.log_scales[rows] = extents + extents.new_tensor([WIDE, WIDE, FLAT]).log()
