"""An avatar's expressions as what programs elsewhere compute: linear layers with ReLUs between them, and a
linear blend of offsets.

A learned basis is that already. What moves the Gaussians under it becomes networks beside the field's: a
motion prior is one, and landmarks that Gaussians ride on become one, since a number that passes as its
positive and its negative part passes a ReLU unchanged. The field is then not asked far from its training,
which is one step before the layers.
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
    """network: from descriptors [B, D], standardised by mean [D] and scale, to coefficients [B, K]; where
    there is a reach, from these and, beside them, those that the field is asked: [B, 2 D]. basis: [K, N *
    13]. gains: [13] of the offsets."""

    network: nn.Sequential
    basis: Tensor
    gains: Tensor
    mean: Tensor
    scale: Tensor
    reach: Reach | None = None

    def coefficients(self, descriptors: Tensor) -> Tensor:
        """Of descriptors [B, D]: [B, K]."""
        read = [descriptors] if self.reach is None else [descriptors, self.reach.within(descriptors)]
        return self.network(torch.cat([(values - self.mean) / self.scale for values in read], 1))

    @property
    def layers(self) -> list[nn.Linear]:
        """The linear layers; a ReLU stands between two."""
        return _layers(self.network)


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
        standard = avatar.descriptor_mean, avatar.descriptor_scale
        return Blend(field.coefficients, field.basis, field.gains, *standard)
    return _beside(avatar, field, sides)


@dataclass(frozen=True)
class _Side:
    """What stands beside the field: three linear layers with ReLUs between, from standardised descriptors to
    K coefficients. rows: [K, N, at most 13], what a unit of each adds."""

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


@torch.no_grad()
def _beside(avatar: GaussianAvatar, field: LearnedBasis, sides: list[_Side]) -> Blend:
    """The field's three layers and the sides' beside them. These read the first half of what is read: the
    descriptor as it is; the field the second: what it is asked."""
    network = []
    for number, rank in enumerate(zip(*(s.layers for s in sides), _layers(field.coefficients), strict=True)):
        weights = [layer.weight for layer in rank]
        if number == 0:  # the sides share their half
            weights = [torch.cat(weights[:-1]), weights[-1]]
        network.append(_linear(torch.block_diag(*weights), torch.cat([layer.bias for layer in rank])))
    rows = []
    for side in sides:
        row = torch.zeros(*side.rows.shape[:2], OFFSETS, device=side.rows.device)
        row[..., : side.rows.shape[2]] = side.rows / field.gains[: side.rows.shape[2]]
        rows.append(row.flatten(1))
    return Blend(
        _sequential(network),
        torch.cat([*rows, field.basis]),
        field.gains,
        avatar.descriptor_mean,
        avatar.descriptor_scale,
        avatar.reach,
    )


@torch.no_grad()
def _foreseen(avatar: GaussianAvatar, prior: PlacedPrior) -> _Side:
    """The prior's network: asked for the descriptor less the rest's, it says how far that is from what it
    says of 0."""
    one, two, three = _layers(prior.field.branch)
    unit, mean = prior.field.unit, avatar.descriptor_mean
    at_mean = one.bias + one.weight @ (mean - prior.rest) / unit
    of_none = prior.field.branch(torch.zeros_like(mean))
    return _Side(
        [
            _linear(one.weight * avatar.descriptor_scale / unit, at_mean),
            two,
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
        [_linear(signs, none), kept, _linear(scale * signs.T, mean - motion.rest)], motion(motion.rest + eye)
    )
