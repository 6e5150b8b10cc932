"""How far training's descriptors went, and the nearest descriptors there.

What a field has learned holds where it was trained; beyond, it guesses wildly. Under a field that something
else moves the Gaussians (landmarks, a motion prior), it need not guess: it answers as at the edge of what it
was trained on.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class Reach(nn.Module):
    """axes [D, D], low [D], high [D]: principal axes of the training's descriptors, and the box along them
    that they fill.

    >>> reach = Reach(torch.eye(2), torch.zeros(2), torch.ones(2))
    >>> reach.within(torch.tensor([[0.5, 3.0]])).tolist()
    [[0.5, 1.0]]
    """

    axes: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, axes: Tensor, low: Tensor, high: Tensor) -> None:
        super().__init__()
        for name, value in (("axes", axes), ("low", low), ("high", high)):
            self.register_buffer(name, value.float())

    @staticmethod
    def of_training(descriptors: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """axes, low and high of training descriptors [F, D]."""
        values = torch.as_tensor(descriptors, dtype=torch.float32)
        axes = torch.linalg.svd(values - values.mean(0), full_matrices=True)[2].T
        along = values @ axes
        return axes, along.min(0).values, along.max(0).values

    def within(self, descriptors: Tensor) -> Tensor:
        """The nearest descriptors [B, D] in the box that training filled: its own stay what they are."""
        return (descriptors @ self.axes).clamp(self.low, self.high) @ self.axes.T
