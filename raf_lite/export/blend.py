"""An avatar's expressions as what programs elsewhere compute: linear layers with ReLUs between them, and a
linear blend of offsets.

A learned basis is that already. One whose Gaussians ride on landmarks becomes it: a ReLU can clamp, and a
number that passes as its positive and its negative part passes unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raf_lite.avatar import GaussianAvatar, LearnedBasis
from raf_lite.avatar.fields import OFFSETS


@dataclass(frozen=True)
class Blend:
    """coefficients: from standardised descriptors [B, D] to [B, K]. basis: [K, N * 13]. gains: [13] of the
    offsets."""

    coefficients: nn.Sequential
    basis: Tensor
    gains: Tensor

    @property
    def layers(self) -> list[nn.Linear]:
        """The linear layers; a ReLU stands between two."""
        return [layer for layer in self.coefficients if isinstance(layer, nn.Linear)]


def need_basis(avatar: GaussianAvatar, what: str) -> Blend:
    """The avatar's expressions as a blend. Raises ValueError that begins with `what` for an avatar whose
    expressions are none."""
    field = avatar.field
    if not isinstance(field, LearnedBasis):
        raise ValueError(
            f"{what} needs a learned basis, and this avatar's field is '{avatar.field_name}'; train it with "
            "field='basis', or write a PLY sequence"
        )
    if avatar.motion is None:
        return Blend(field.coefficients, field.basis, field.gains)
    return _with_motion(avatar, field)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device)
    layer.weight, layer.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
    return layer


@torch.no_grad()
def _with_motion(avatar: GaussianAvatar, field: LearnedBasis) -> Blend:
    """Four layers for three: the first clamps to the box of training, all carry the descriptor along, and the
    last gives its components beside the field's."""
    motion, mean, scale = avatar.motion, avatar.descriptor_mean, avatar.descriptor_scale
    assert motion is not None
    first, second, third = (layer for layer in field.coefficients if isinstance(layer, nn.Linear))
    eye = torch.eye(len(mean), device=mean.device)
    none = torch.zeros_like(mean)
    # Hidden: what is above the low end, what is above the high end, and the descriptor's two signs.
    along, shift = scale * motion.axes.T, mean @ motion.axes
    layers = [
        _linear(
            torch.cat([along, along, eye, -eye]),
            torch.cat([shift - motion.low, shift - motion.high, none, none]),
        )
    ]
    inner = first.weight @ motion.axes / scale
    at_low = first.weight @ ((motion.axes @ motion.low - mean) / scale) + first.bias
    carry = torch.cat([eye, -eye], 1)

    def beside(weight: Tensor, bias: Tensor) -> nn.Linear:
        """A layer of the field's, and the descriptor's signs past it."""
        signs = torch.eye(2 * len(mean), device=mean.device)
        return _linear(torch.block_diag(weight, signs), torch.cat([bias, none, none]))

    layers.append(beside(torch.cat([inner, -inner], 1), at_low))
    layers.append(beside(second.weight, second.bias))
    layers.append(
        _linear(torch.block_diag(third.weight, scale * carry), torch.cat([third.bias, mean - motion.rest]))
    )
    steps: list[nn.Module] = [layers[0]]
    for layer in layers[1:]:
        steps += [nn.ReLU(), layer]
    rows = torch.zeros(len(mean), len(avatar.means), OFFSETS, device=mean.device)
    rows[..., :3] = motion(motion.rest + eye) / field.gains[:3]
    return Blend(nn.Sequential(*steps), torch.cat([field.basis, rows.flatten(1)]), field.gains)
