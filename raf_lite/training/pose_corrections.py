"""Head poses that are learned with the avatar: a tracker's error of a degree blurs everything that is trained
on it.

Only the frames that a step shows move, and only they are remembered by the optimiser (SparseAdam): a dense
one goes on moving the others by what it remembers of them, and loses more than it gains.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

PREFIX = "pose_corrections."
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def moved(viewmats: Tensor, correction: Tensor) -> Tensor:
    """View matrices [C, 4, 4] of a head that is turned and moved by `correction` [6] in camera space: a
    rotation vector in radians, and a translation in head radii.

    >>> quarter = torch.tensor([0.0, 0, torch.pi / 2, 0, 0, 2])
    >>> moved(torch.eye(4)[None], quarter)[0, :3].round()
    tensor([[ 0., -1.,  0.,  0.],
            [ 1.,  0.,  0.,  0.],
            [ 0.,  0.,  1.,  2.]])
    """
    x, y, z = correction[:3]
    zero = torch.zeros_like(x)
    turn = torch.linalg.matrix_exp(torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3))
    upper = torch.cat([turn, correction[3:, None]], 1)
    last = upper.new_tensor([[0.0, 0.0, 0.0, 1.0]])
    return torch.cat([upper, last]) @ viewmats


class PoseCorrections:
    """A correction [6] of each of `frames` training frames, nothing at the start, and what learns them at
    rate `lr`.

    One camera must film them: what several see of one head, one correction in camera space does not say.
    """

    def __init__(self, frames: int, lr: float, device: torch.device) -> None:
        self.table = nn.Embedding(frames, 6, sparse=True, device=device)
        nn.init.zeros_(self.table.weight)
        self.optimizer = torch.optim.SparseAdam([self.table.weight], lr=lr, betas=(0.5, 0.9))

    def view(self, row: int, viewmats: Tensor) -> Tensor:
        """The view matrices [1, 4, 4] of frame `row`, corrected; its correction learns from them."""
        return moved(viewmats, self.table(torch.tensor(row, device=viewmats.device)))

    def state(self) -> dict[str, Tensor]:
        """Everything that changes, for a checkpoint."""
        weight = self.table.weight.detach()
        kept = self.optimizer.state[self.table.weight]
        empty = {"step": torch.zeros(()), "exp_avg": torch.zeros_like(weight), "exp_avg_sq": torch.zeros_like(weight)}
        moments = {name: torch.as_tensor(kept.get(name, empty[name]), dtype=torch.float32) for name in _MOMENTS}
        return {f"{PREFIX}{name}": value.cpu() for name, value in ({"table": weight} | moments).items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Become what `state` said."""
        weight = self.table.weight
        with torch.no_grad():
            weight.copy_(tensors[f"{PREFIX}table"])
        kept = {name: tensors[f"{PREFIX}{name}"].to(weight) for name in _MOMENTS}
        self.optimizer.state[weight] = kept | {"step": int(kept["step"])}
