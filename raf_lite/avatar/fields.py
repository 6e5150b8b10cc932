"""Deformation fields: what an expression descriptor does to the canonical Gaussians.

Two families behind one call, `field(descriptors [B, D], means [N, 3]) -> offsets [B, N, 13]`. The 13 numbers
of a Gaussian are 3 of its mean (head units), 4 of its quaternion, 3 of its log scales and 3 of its colour
logits. Both start at exactly zero, so that training begins at the canonical head whatever the descriptor
says.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

OFFSETS = 13
# How far one unit of a field's output moves each kind of number. Means in head radii: a unit is about a
# centimetre.
CHANNEL_GAINS = (0.07,) * 3 + (0.2,) * 4 + (0.2,) * 3 + (0.5,) * 3


class LearnedBasis(nn.Module):
    """A small MLP turns the descriptor into K coefficients of learned per-Gaussian offsets (the idea of
    RGBAvatar).

    At run time an expression is a linear blend of K offsets: fast on a CPU, and it can be played in a
    browser.

    >>> field = LearnedBasis(descriptor_dim=52, gaussians=100)
    >>> field(torch.zeros(2, 52), torch.zeros(100, 3)).shape
    torch.Size([2, 100, 13])
    """

    gains: Tensor

    def __init__(self, descriptor_dim: int, gaussians: int, bases: int = 24, hidden: int = 128) -> None:
        super().__init__()
        self.settings = {"bases": bases, "hidden": hidden}
        self.coefficients = nn.Sequential(
            nn.Linear(descriptor_dim, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, bases),
        )
        self.basis = nn.Parameter(
            torch.zeros(bases, gaussians * OFFSETS)
        )  # zero: no deformation at the start
        self.register_buffer("gains", torch.tensor(CHANNEL_GAINS), persistent=False)

    def forward(self, descriptors: Tensor, means: Tensor) -> Tensor:  # [B, D], [N, 3] -> [B, N, 13]
        blend = self.coefficients(descriptors) @ self.basis
        return blend.view(len(descriptors), -1, OFFSETS) * self.gains


class FieldMLP(nn.Module):
    """An MLP of canonical position and descriptor: the family of fields that RAF was proposed for (Gaussian
    Head Avatar).

    >>> field = FieldMLP(descriptor_dim=52, gaussians=100)
    >>> field(torch.zeros(2, 52), torch.zeros(100, 3)).shape
    torch.Size([2, 100, 13])
    """

    bands: Tensor
    gains: Tensor

    def __init__(self, descriptor_dim: int, gaussians: int, hidden: int = 64, frequencies: int = 4) -> None:
        super().__init__()
        self.settings = {"hidden": hidden, "frequencies": frequencies}
        self.register_buffer("bands", 2.0 ** torch.arange(frequencies), persistent=False)
        self.position = nn.Linear(3 * (2 * frequencies + 1), hidden)
        self.expression = nn.Linear(descriptor_dim, hidden, bias=False)
        self.body = nn.Sequential(
            nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.head = nn.Linear(hidden, OFFSETS)
        nn.init.zeros_(self.head.weight)  # zero: no deformation at the start
        nn.init.zeros_(self.head.bias)
        self.register_buffer("gains", torch.tensor(CHANNEL_GAINS), persistent=False)

    def forward(self, descriptors: Tensor, means: Tensor) -> Tensor:  # [B, D], [N, 3] -> [B, N, 13]
        # Canonical means are inputs here, not something to move: their gradient comes from the picture alone.
        x = means.detach()
        angles = (x[:, None, :] * self.bands[:, None] * math.pi).flatten(1)
        encoded = self.position(torch.cat([x, angles.sin(), angles.cos()], -1))
        # The first layer is linear in (position, descriptor), so both parts are computed once and only added
        # per pair.
        return self.head(self.body(encoded[None] + self.expression(descriptors)[:, None])) * self.gains


FIELDS = {"basis": LearnedBasis, "mlp": FieldMLP}
