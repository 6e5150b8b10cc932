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
from raf_lite.avatar.reach import Reach


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


def _clamped(avatar: GaussianAvatar, reach: Reach, first: nn.Linear) -> tuple[nn.Linear, nn.Linear]:
    """Two layers for the field's first: a standardised descriptor to what is above the low end and what above
    the high end of the box of training, and from there, by a ReLU, on."""
    mean, scale = avatar.descriptor_mean, avatar.descriptor_scale
    along, shift = scale * reach.axes.T, mean @ reach.axes
    inner = first.weight @ reach.axes / scale
    at_low = first.weight @ ((reach.axes @ reach.low - mean) / scale) + first.bias
    return (
        _linear(torch.cat([along, along]), torch.cat([shift - reach.low, shift - reach.high])),
        _linear(torch.cat([inner, -inner], 1), at_low),
    )


def _beside(one: nn.Linear, weight: Tensor, bias: Tensor, *, shared: bool = False) -> nn.Linear:
    """Two layers as one, each of its own input, or `shared`: both of the same."""
    weights = torch.cat([one.weight, weight]) if shared else torch.block_diag(one.weight, weight)
    return _linear(weights, torch.cat([one.bias, bias]))


@torch.no_grad()
def _with_prior(avatar: GaussianAvatar, field: LearnedBasis) -> Blend:
    """Four layers for three, and the prior's network beside the field's: its hidden values, none of which is
    negative, pass the third unchanged."""
    prior, mean = avatar.prior, avatar.descriptor_mean
    assert prior is not None
    first, second, third = _layers(field.coefficients)
    box, first = _clamped(avatar, prior, first)
    one, two, three = _layers(prior.field.branch)
    # The prior is asked for the descriptor less the rest's, and says how far that is from what it says of 0.
    unit = prior.field.unit
    at_mean = one.bias + one.weight @ (mean - prior.rest) / unit
    of_none = prior.field.branch(torch.zeros_like(mean))
    kept = torch.eye(len(two.weight), device=mean.device)
    layers = [
        _beside(box, one.weight * avatar.descriptor_scale / unit, at_mean, shared=True),
        _beside(first, two.weight, two.bias),
        _beside(second, kept, torch.zeros_like(two.bias)),
        _beside(third, three.weight, three.bias - of_none),
    ]
    rows = torch.zeros(len(prior.components), len(avatar.means), OFFSETS, device=mean.device)
    rows[..., :MOVES] = prior.components.unflatten(-1, (-1, MOVES)) / field.gains[:MOVES]
    return Blend(_sequential(layers), torch.cat([field.basis, rows.flatten(1)]), field.gains)


@torch.no_grad()
def _with_motion(avatar: GaussianAvatar, field: LearnedBasis) -> Blend:
    """Four layers for three: the first clamps to the box of training, all carry the descriptor's two signs
    along, and the last gives its components beside the field's."""
    motion, mean, scale = avatar.motion, avatar.descriptor_mean, avatar.descriptor_scale
    assert motion is not None
    first, second, third = _layers(field.coefficients)
    box, first = _clamped(avatar, motion, first)
    eye = torch.eye(len(mean), device=mean.device)
    signs, none = torch.cat([eye, -eye]), torch.zeros(2 * len(mean), device=mean.device)
    kept = torch.eye(len(none), device=mean.device)
    layers = [
        _beside(box, signs, none, shared=True),
        _beside(first, kept, none),
        _beside(second, kept, none),
        _beside(third, scale * signs.T, mean - motion.rest),
    ]
    rows = torch.zeros(len(mean), len(avatar.means), OFFSETS, device=mean.device)
    rows[..., :3] = motion(motion.rest + eye) / field.gains[:3]
    return Blend(_sequential(layers), torch.cat([field.basis, rows.flatten(1)]), field.gains)
