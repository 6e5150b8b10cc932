"""Head poses that are learned with the avatar: a tracker's error of a degree blurs everything that is trained
on it.

Only the frames that a step shows move, and only they are remembered by the optimiser (SparseAdam): a dense
one goes on moving the others by what it remembers of them, and loses more than it gains.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from raf_lite.avatar import moved

PREFIX = "pose_corrections."
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


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
        empty = {
            "step": torch.zeros(()),
            "exp_avg": torch.zeros_like(weight),
            "exp_avg_sq": torch.zeros_like(weight),
        }
        moments = {
            name: torch.as_tensor(kept.get(name, empty[name]), dtype=torch.float32) for name in _MOMENTS
        }
        return {
            f"{PREFIX}{name}": value.detach().cpu().clone()
            for name, value in ({"table": weight} | moments).items()
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Become what `state` said."""
        weight = self.table.weight
        with torch.no_grad():
            weight.copy_(tensors[f"{PREFIX}table"])
        kept = {name: tensors[f"{PREFIX}{name}"].to(weight) for name in _MOMENTS}
        self.optimizer.state[weight] = kept | {"step": int(kept["step"])}
