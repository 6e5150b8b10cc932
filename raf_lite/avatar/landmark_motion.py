"""Gaussians that ride on the landmarks near them, so that the field learns only what landmarks do not say.

A descriptor of landmarks says where 478 points of the face go, in any expression, whether training had it or
not. A field that starts from nothing has to learn that for each person anew, and beyond what it was trained
on it guesses. Here each Gaussian goes with the landmarks around it from the start; the field adds the rest,
and is asked about no descriptor far from training's (`raf_lite.avatar.reach`).
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn

NEIGHBOURS = 4  # landmarks that a Gaussian goes with
# Of the width between the outermost landmarks, some 14 cm on a grown person:
CORE = 0.013  # nearer to a landmark than this, all are as near
SKIN = 0.03  # so far around the landmarks a Gaussian goes with them entirely
FALL = 0.32  # beyond, it follows less, by a bell of this width
# Lips that touch are one place and yet part: what lies on one does not go with the other. Both without their
# corners, by the number of landmarks.
LIPS = {
    478: (
        [0, 11, 12, 13, 37, 38, 39, 40, 41, 42, 72, 73, 74, 80, 81, 82, 183, 184, 185, 191]
        + [267, 268, 269, 270, 271, 272, 302, 303, 304, 310, 311, 312, 407, 408, 409, 415],
        [14, 15, 16, 17, 77, 84, 85, 86, 87, 88, 89, 90, 91, 95, 96, 146, 178, 179, 180, 181]
        + [307, 314, 315, 316, 317, 318, 319, 320, 321, 324, 325, 375, 402, 403, 404, 405],
    ),
    68: ([49, 50, 51, 52, 53, 61, 62, 63], [55, 56, 57, 58, 59, 65, 66, 67]),
}


class LandmarkMotion(nn.Module):
    """Displacements of N Gaussians by what a descriptor [D] says of L landmarks.

    displacements: [D, L, 3], how far one unit of each dimension moves each landmark, in head radii and the
    axes of the head. nearest: int [N, 4], the landmarks that each Gaussian goes with. weights: [N, 4], how
    much. rest: [D], the descriptor at which nothing is displaced.

    >>> motion = LandmarkMotion.zeros(dim=64, landmarks=478, gaussians=100)
    >>> motion(torch.ones(2, 64)).shape
    torch.Size([2, 100, 3])
    """

    displacements: Tensor
    nearest: Tensor
    weights: Tensor
    rest: Tensor

    def __init__(self, displacements: Tensor, nearest: Tensor, weights: Tensor, rest: Tensor) -> None:
        super().__init__()
        self.register_buffer("displacements", displacements.float())
        self.register_buffer("nearest", nearest.long())
        self.register_buffer("weights", weights.float())
        self.register_buffer("rest", rest.float())

    @classmethod
    def zeros(cls, dim: int, landmarks: int, gaussians: int) -> LandmarkMotion:
        """One of these sizes that moves nothing, for a file's numbers to go into."""
        return cls(
            torch.zeros(dim, landmarks, 3),
            torch.zeros(gaussians, NEIGHBOURS),
            torch.zeros(gaussians, NEIGHBOURS),
            torch.zeros(dim),
        )

    @classmethod
    def attach(
        cls, means: np.ndarray, landmarks: np.ndarray, displacements: np.ndarray, rest: np.ndarray
    ) -> LandmarkMotion:
        """Fasten Gaussians at `means` [N, 3] to `landmarks` [L, 3], both in normalised head space.

        displacements: [D, L, 3] of one unit of each dimension, there. rest: [D], the descriptor of this
        moment.
        """
        width = np.ptp(landmarks[:, 0])
        distance, nearest = cKDTree(landmarks).query(means, k=NEIGHBOURS)
        lips = LIPS.get(len(landmarks), ())
        for lip, other in zip(lips, reversed(lips), strict=True):
            on = np.isin(nearest[:, 0], lip)
            others = np.delete(np.arange(len(landmarks)), other)
            distance[on], among = cKDTree(landmarks[others]).query(means[on], k=NEIGHBOURS)
            nearest[on] = others[among]
        weights = 1 / (distance + CORE * width) ** 2
        beyond = np.maximum(distance[:, 0] - SKIN * width, 0)
        follows = np.exp(-((beyond / (FALL * width)) ** 2))
        weights *= (follows / weights.sum(1))[:, None]
        return cls(
            torch.as_tensor(displacements),
            torch.as_tensor(nearest),
            torch.as_tensor(weights),
            torch.as_tensor(rest),
        )

    def forward(self, descriptors: Tensor) -> Tensor:
        """How far each Gaussian is taken along: [B, D] -> [B, N, 3], head radii."""
        return self.carried(torch.einsum("bd,dlc->blc", descriptors - self.rest, self.displacements))

    def carried(self, moved: Tensor) -> Tensor:
        """What the Gaussians make of `moved` [B, L, 3], by which the landmarks move: [B, N, 3]."""
        return (moved[:, self.nearest] * self.weights[..., None]).sum(2)
