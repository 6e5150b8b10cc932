"""An avatar's expressions as what programs elsewhere compute: linear layers with ReLUs between them, and a
linear blend of offsets.

A learned basis is that already. What moves the Gaussians under it becomes networks beside the field's: a
motion prior is one, and landmarks that Gaussians ride on become one, since a number that passes as its
positive and its negative part passes a ReLU unchanged. The field is then not asked beyond its training: a
ReLU can clamp, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raf_lite.avatar import GaussianAvatar, LearnedBasis
from raf_lite.avatar.fields import OFFSETS
from raf_lite.avatar.landmark_motion import LandmarkMotion
from raf_lite.avatar.prior import MOVES, PlacedPrior
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
    sides = []
    if avatar.motion is not None:
        sides.append(_ridden(avatar, avatar.motion))
    if avatar.prior is not None:
        sides.append(_foreseen(avatar, avatar.prior))
    if not sides:
        return Blend(field.coefficients, field.basis, field.gains)
    return _beside(avatar, field, sides)


@dataclass(frozen=True)
class _Side:
    """What stands beside the field: four linear layers with ReLUs between, from standardised descriptors to K
    coefficients. rows: [K, N, at most 13], what a unit of each adds."""

    layers: list[nn.Linear]
    rows: Tensor


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


@torch.no_grad()
def _beside(avatar: GaussianAvatar, field: LearnedBasis, sides: list[_Side]) -> Blend:
    """The field's three layers as four, since it is asked within its training alone, and the sides' beside
    them."""
    reach = avatar.under
    assert reach is not None
    first, second, third = _layers(field.coefficients)
    box, first = _clamped(avatar, reach, first)
    ranks = zip([box, first, second, third], *(side.layers for side in sides), strict=True)
    layers = []
    for number, rank in enumerate(ranks):
        weights = [layer.weight for layer in rank]
        # The first layers read the same descriptor, the others what those before them gave.
        weight = torch.cat(weights) if number == 0 else torch.block_diag(*weights)
        layers.append(_linear(weight, torch.cat([layer.bias for layer in rank])))
    rows = []
    for side in sides:
        row = torch.zeros(*side.rows.shape[:2], OFFSETS, device=side.rows.device)
        row[..., : side.rows.shape[2]] = side.rows / field.gains[: side.rows.shape[2]]
        rows.append(row.flatten(1))
    return Blend(_sequential(layers), torch.cat([field.basis, *rows]), field.gains)


@torch.no_grad()
def _foreseen(avatar: GaussianAvatar, prior: PlacedPrior) -> _Side:
    """The prior's network: its hidden values, none of which is negative, pass the third layer unchanged."""
    one, two, three = _layers(prior.field.branch)
    # It is asked for the descriptor less the rest's, and says how far that is from what it says of 0.
    unit, mean = prior.field.unit, avatar.descriptor_mean
    at_mean = one.bias + one.weight @ (mean - prior.rest) / unit
    of_none = prior.field.branch(torch.zeros_like(mean))
    kept = torch.eye(len(two.weight), device=mean.device)
    return _Side(
        [
            _linear(one.weight * avatar.descriptor_scale / unit, at_mean),
            two,
            _linear(kept, torch.zeros_like(two.bias)),
            _linear(three.weight, three.bias - of_none),
        ],
        prior.components.unflatten(-1, (-1, MOVES)),
    )


@torch.no_grad()
def _ridden(avatar: GaussianAvatar, motion: LandmarkMotion) -> _Side:
    """The landmarks' motion: the descriptor's two signs are carried along, and give it again at the end."""
    mean, scale = avatar.descriptor_mean, avatar.descriptor_scale
    eye = torch.eye(len(mean), device=mean.device)
    signs, none = torch.cat([eye, -eye]), torch.zeros(2 * len(mean), device=mean.device)
    kept = _linear(torch.eye(len(none), device=mean.device), none)
    return _Side(
        [_linear(signs, none), kept, kept, _linear(scale * signs.T, mean - motion.rest)],
        motion(motion.rest + eye),
    )
