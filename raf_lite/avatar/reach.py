"""How far training's descriptors went, and what a field is asked of those beyond.

What a field has learned holds where it was trained; beyond, it guesses wildly, and most where several
dimensions leave at once, each by a little. Under a field that something else moves the Gaussians (landmarks,
a motion prior), it need not guess: it is asked near what it was trained on.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

ROWS = 128  # descriptors that stand for all of training's
# Of the deviation of training's descriptors, all dimensions together:
WIDTH = 0.25  # of the bell by which those near a descriptor count
GAP = 1.0  # how far from their mean the field is asked


class Reach(nn.Module):
    """rows: [R, D], descriptors of training, spread over all of them. spread: their deviation, of all
    dimensions together.

    >>> reach = Reach.of_training(np.array([[0, 0], [1, 0], [0, 1]], np.float32))
    >>> reach.within(torch.tensor([[1.0, 0.0]])).tolist()
    [[1.0, 0.0]]
    >>> bool(reach.within(torch.tensor([[9.0, 0.0]])).norm() < 2)
    True
    """

    rows: Tensor
    spread: Tensor

    def __init__(self, rows: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows.float())
        self.register_buffer("spread", spread.float())

    @classmethod
    def zeros(cls, rows: int, dim: int) -> Reach:
        """One of these sizes, for a file's numbers to go into."""
        return cls(torch.zeros(rows, dim), torch.zeros(()))

    @classmethod
    def of_training(cls, descriptors: np.ndarray) -> Reach:
        """That of training descriptors [F, D]: ROWS of them at most, each the farthest from those before
        it."""
        values = np.asarray(descriptors, np.float32)
        picked = [int(np.square(values - values.mean(0)).sum(1).argmin())]
        apart = np.square(values - values[picked[0]]).sum(1)
        while len(picked) < ROWS and apart.max() > 0:
            picked.append(int(apart.argmax()))
            apart = np.minimum(apart, np.square(values - values[picked[-1]]).sum(1))
        return cls(torch.from_numpy(values[picked]), torch.tensor(float(np.sqrt(values.var(0).sum()))))

    @property
    def width(self) -> Tensor:
        """Of the bell by which rows near a descriptor count."""
        return (WIDTH * self.spread).clamp(min=1e-6)

    @property
    def gap(self) -> Tensor:
        """How far from the mean of the rows near it a descriptor stays what it is."""
        return GAP * self.spread

    def within(self, descriptors: Tensor) -> Tensor:
        """Descriptors [B, D] as near to training's as the field is asked: those that are stay what they are,
        others come so near to the mean of the rows around them."""
        apart = torch.cdist(descriptors, self.rows, compute_mode="donot_use_mm_for_euclid_dist")
        near = torch.softmax(-0.5 * (apart / self.width).square(), -1) @ self.rows
        off = descriptors - near
        length = off.norm(dim=-1, keepdim=True)
        return torch.where(length <= self.gap, descriptors, near + off * (self.gap / length.clamp(min=1e-12)))
