"""An avatar's expressions as what programs elsewhere compute: linear layers with ReLUs between them, and a
linear blend of offsets.

A learned basis is that already. One over a motion prior is two of them side by side. One whose Gaussians ride
on landmarks becomes it: a ReLU can clamp, and a number that passes as its positive and its negative part
passes unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raf_lite.avatar import GaussianAvatar, LearnedBasis
from raf_lite.avatar.fields import OFFSETS
from raf_lite.avatar.prior import MOVES


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
        return _layers(self.coefficients)


def need_basis(avatar: GaussianAvatar, what: str) -> Blend:
    """The avatar's expressions as a blend. Raises ValueError that begins with `what` for an avatar whose
    expressions are none."""
    field = avatar.field
    if not isinstance(field, LearnedBasis):
        raise ValueError(
            f"{what} needs a learned basis, and this avatar's field is '{avatar.field_name}'; train it with "
            "field='basis', or write a PLY sequence"
        )
    if avatar.prior is not None:
        return _with_prior(avatar, field)
    if avatar.motion is None:
        return Blend(field.coefficients, field.basis, field.gains)
    return _with_motion(avatar, field)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device)
    layer.weight, layer.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
    return layer


def _layers(network: nn.Sequential) -> list[nn.Linear]:
    return [layer for layer in network if isinstance(layer, nn.Linear)]


def _sequential(layers: list[nn.Linear]) -> nn.Sequential:
    """Layers with ReLUs between them."""
    steps: list[nn.Module] = [layers[0]]
    for layer in layers[1:]:
        steps += [nn.ReLU(), layer]
    return nn.Sequential(*steps)


@torch.no_grad()
def _with_prior(avatar: GaussianAvatar, field: LearnedBasis) -> Blend:
    """The field's network and the prior's, both of three layers, side by side: one block each."""
    prior = avatar.prior
    assert prior is not None
    own, theirs = _layers(field.coefficients), _layers(prior.field.branch)
    mean, scale = avatar.descriptor_mean, avatar.descriptor_scale
    # The prior is asked for the descriptor less the rest's, and says how far that is from what it says of 0.
    weights: list[Tensor] = [layer.weight for layer in theirs]
    biases: list[Tensor] = [layer.bias for layer in theirs]
    biases[0] = biases[0] + weights[0] @ (mean - prior.rest) / prior.field.unit
    weights[0] = weights[0] * scale / prior.field.unit
    biases[-1] = biases[-1] - prior.field.branch(torch.zeros_like(mean))
    layers = [_linear(torch.cat([own[0].weight, weights[0]]), torch.cat([own[0].bias, biases[0]]))]
    layers += [
        _linear(torch.block_diag(mine.weight, weight), torch.cat([mine.bias, bias]))
        for mine, weight, bias in zip(own[1:], weights[1:], biases[1:], strict=True)
    ]
    rows = torch.zeros(len(prior.components), len(avatar.means), OFFSETS, device=mean.device)
    rows[..., :MOVES] = prior.components.unflatten(-1, (-1, MOVES)) / field.gains[:MOVES]
    return Blend(_sequential(layers), torch.cat([field.basis, rows.flatten(1)]), field.gains)


@torch.no_grad()
def _with_motion(avatar: GaussianAvatar, field: LearnedBasis) -> Blend:
    """Four layers for three: the first clamps to the box of training, all carry the descriptor along, and the
    last gives its components beside the field's."""
    motion, mean, scale = avatar.motion, avatar.descriptor_mean, avatar.descriptor_scale
    assert motion is not None
    first, second, third = _layers(field.coefficients)
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
    rows = torch.zeros(len(mean), len(avatar.means), OFFSETS, device=mean.device)
    rows[..., :3] = motion(motion.rest + eye) / field.gains[:3]
    return Blend(_sequential(layers), torch.cat([field.basis, rows.flatten(1)]), field.gains)
