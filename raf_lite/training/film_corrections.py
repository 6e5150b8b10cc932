"""What is learned of a film beside its avatar: head poses, exposures and a focal length. A tracker's error of
a degree blurs everything that is trained on it, light that changes gets into the colours, and a camera that
is guessed bends the face.

One camera must film: what several see of one head, one correction in camera space does not say. Avatars keep
little of it: they have the film's mean exposure, and the camera that sees them from the front has the focal
length that was learned. Held-out frames are graded by the camera and as bright as the capture has them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from raf_lite.avatar import moved
from raf_lite.captures import Camera

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
# What holds exposures at none: a gain less 1, or an offset, costs this part of the squared error that it
# would make on a white head.
PRIOR = 3e-3
FOCAL_PRIOR = 1e-2  # weight of the squared logarithm of a focal length's factor
FOCAL_BOUND = math.log(2)  # of that logarithm: from half to twice


class _Descended:
    """A table [rows, width], nothing at the start, and what learns it at rate `lr`.

    Only the rows that a step uses move, and only they are remembered by the optimiser (SparseAdam): a dense
    one goes on moving the others by what it remembers of them, and loses more than it gains.
    """

    prefix: str
    width: int
    betas = (0.5, 0.9)  # a frame is seen a few times

    def __init__(self, rows: int, lr: float, device: torch.device) -> None:
        self.table = nn.Embedding(rows, self.width, sparse=True, device=device)
        nn.init.zeros_(self.table.weight)
        self.optimizer = torch.optim.SparseAdam([self.table.weight], lr=lr, betas=self.betas)

    def row(self, row: int) -> Tensor:
        """Row `row` [width] of the table, which learns from it."""
        return self.table(torch.tensor(row, device=self.table.weight.device))

    def state(self) -> dict[str, Tensor]:
        """Everything that changes, for a checkpoint."""
        weight = self.table.weight.detach()
        kept = self.optimizer.state[self.table.weight]
        empty = {
            "step": torch.zeros(()),
            "exp_avg": torch.zeros_like(weight),
            "exp_avg_sq": torch.zeros_like(weight),
        }
        moments = {
            name: torch.as_tensor(kept.get(name, empty[name]), dtype=torch.float32) for name in _MOMENTS
        }
        return {
            f"{self.prefix}.{name}": value.detach().cpu().clone()
            for name, value in ({"table": weight} | moments).items()
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Become what `state` said."""
        weight = self.table.weight
        with torch.no_grad():
            weight.copy_(tensors[f"{self.prefix}.table"])
        kept = {name: tensors[f"{self.prefix}.{name}"].to(weight) for name in _MOMENTS}
        self.optimizer.state[weight] = kept | {"step": int(kept["step"])}


class PoseCorrections(_Descended):
    """How each of `rows` training frames moves its head: a rotation vector in radians and a translation in
    head radii (`moved`)."""

    prefix, width = "pose_corrections", 6

    def view(self, row: int, viewmats: Tensor) -> Tensor:
        """The view matrices [1, 4, 4] of frame `row`, corrected; its correction learns from them."""
        return moved(viewmats, self.row(row))


class ExposureCorrections:
    """A gain and an offset of each colour for each of `frames` training frames, with which the picture of the
    avatar is compared with the film.

    They follow from that picture by least squares, so nothing has to descend to them: at each look a frame's
    go the part `rate` of the way. Their mean over the frames is none, whatever was found: what all frames
    have is the avatar's own colour.
    """

    prefix = "exposure_corrections"

    def __init__(self, frames: int, rate: float, device: torch.device) -> None:
        self.rate = rate
        self.table = torch.zeros(frames, 2, 3, device=device)  # gain - 1, offset

    def correction(self, row: int) -> Tensor:
        """Gains less 1 and offsets [2, 3] of frame `row`."""
        return self.table[row] - self.table.mean(0)

    @torch.no_grad()
    def look(self, row: int, image: Tensor, alpha: Tensor, film: Tensor, counts: Tensor | None) -> None:
        """Learn from what the avatar looks like and the film, [C, H, W, 3] over white. alpha: [C, H, W, 1].
        counts: [C, H, W]."""
        weight = torch.ones_like(alpha) if counts is None else counts[..., None]
        white = 1 - alpha
        bases = torch.stack([image - white, alpha.expand_as(image)]).flatten(1, -2)  # [2, P, 3]
        weighted = bases * weight.flatten(0, -2)
        left = (film - image).flatten(0, -2)
        normal = torch.einsum("apc,bpc->cab", weighted, bases)
        normal += PRIOR * (weight * alpha).sum().clamp(min=1) * torch.eye(2, device=normal.device)
        found = torch.linalg.solve(normal, torch.einsum("apc,pc->ca", weighted, left))  # [3, 2]
        self.table[row] += self.rate * (found.T - self.table[row])

    def shown(self, row: int, image: Tensor, alpha: Tensor) -> Tensor:
        """The picture [C, H, W, 3] over white, as frame `row` was exposed. alpha: [C, H, W, 1]; the
        background, which was put behind the film, stays white."""
        gain, offset = self.correction(row)
        return image + gain * (image - (1 - alpha)) + offset * alpha

    def state(self) -> dict[str, Tensor]:
        """Everything that changes, for a checkpoint."""
        return {f"{self.prefix}.table": self.table.cpu().clone()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Become what `state` said."""
        self.table.copy_(tensors[f"{self.prefix}.table"])


class FocalCorrection(_Descended):
    """One factor of the focal length for all of a film.

    A head that is filmed with a longer lens from as much farther away is as large and has less perspective:
    this alone is learned. In the picture it is the same as a head whose depth is smaller by the factor.
    """

    prefix, width = "focal_correction", 1
    betas = (0.9, 0.999)  # every step sees it

    def __init__(self, lr: float, device: torch.device) -> None:
        super().__init__(1, lr, device)

    def log_factor(self) -> Tensor:
        """The logarithm of the factor [], within FOCAL_BOUND of none."""
        return FOCAL_BOUND * torch.tanh(self.row(0)[0] / FOCAL_BOUND)

    def cost(self) -> Tensor:
        """What holds it at none []: its weighted square, a term of the loss."""
        return FOCAL_PRIOR * self.log_factor().square()

    def view(self, viewmats: Tensor) -> Tensor:
        """View matrices [C, 4, 4] by which the given camera shows a head as one of the corrected focal length
        would; they are not rigid."""
        rotation, at = viewmats[:, :3, :3], viewmats[:, :3, 3:]
        # Along the ray to the head's middle: which side of it is seen stays.
        upper = rotation + (torch.exp(-self.log_factor()) - 1) * (at / at[:, 2:]) * rotation[:, 2:]
        return torch.cat([torch.cat([upper, at], -1), viewmats[:, 3:]], 1)

    @torch.no_grad()
    def camera(self, camera: Camera) -> Camera:
        """`camera` with the corrected focal length, and as much farther from the origin of its world."""
        factor = float(self.log_factor().exp())
        K, view = camera.K.copy(), camera.world_to_camera.copy()
        K[:2, :2] *= factor
        view[2, 3] *= factor
        return replace(camera, K=K, world_to_camera=view)
