"""What the numba rasteriser is measured against: tiles in vectorised torch, the usual way to splat without a
GPU.

Projection and tile lists are those of `raf_lite.splatting.reference`. Each tile is blended at once, as an
array of Gaussians x pixels with a running product, and autograd does the rest. A first look without gradients
cuts each tile's list where all of its pixels are finished; without it, crowded tiles would take several times
as long.
"""

from __future__ import annotations

import torch
from torch import Tensor

from raf_lite.splatting.reference import (
    ALPHA_MAX,
    ALPHA_MIN,
    TILE,
    TRANSMITTANCE_MIN,
    intersect_tiles,
    project,
)

BLOCK = 128  # Gaussians between two looks for finished pixels


def _alphas(splats: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Opacity of n splats (mean, conic, opacity: [n, 6 or more]) at pixel centres x [w], y [h]: [n, h, w],
    skipped ones zero."""
    dx, dy = splats[:, 0, None] - x, splats[:, 1, None] - y  # [n, w], [n, h]
    xx, xy, yy, opacity = (splats[:, k, None] for k in (2, 3, 4, 5))
    # What depends on the column or the row alone is computed once for it, not once a pixel.
    sigma = (
        (0.5 * xx * dx * dx)[:, None, :]
        + (0.5 * yy * dy * dy)[:, :, None]
        + (xy * dy)[:, :, None] * dx[:, None, :]
    )
    alpha = torch.clamp_max(opacity[..., None] * torch.exp(-sigma), ALPHA_MAX)
    return torch.where((sigma >= 0) & (alpha >= ALPHA_MIN), alpha, 0.0)


@torch.no_grad()
def _needed(splats: Tensor, x: Tensor, y: Tensor) -> int:
    """How many of a tile's splats, rounded up to whole blocks, come before its last pixel is finished."""
    transmittance = torch.ones(len(y), len(x), dtype=splats.dtype)
    for start in range(0, len(splats), BLOCK):
        transmittance *= (1 - _alphas(splats[start : start + BLOCK], x, y)).prod(0)
        if transmittance.max() <= TRANSMITTANCE_MIN:
            return min(len(splats), start + BLOCK)
    return len(splats)


def _blend(splats: Tensor, x: Tensor, y: Tensor, background: Tensor) -> tuple[Tensor, Tensor]:
    """Colour [h, w, D] and alpha [h, w, 1] of one tile; splats [n, 6 + D], nearest first."""
    if len(splats) > BLOCK:
        splats = splats[: _needed(splats.detach(), x, y)]
    alpha = _alphas(splats, x, y)
    after = torch.cumprod(1 - alpha, 0)
    open_ = after.detach() > TRANSMITTANCE_MIN
    before = torch.cat([torch.ones_like(after[:1]), after[:-1]]) if len(splats) else after
    weights = alpha * open_ * before
    hit = weights.sum(0)[..., None]
    return torch.einsum("nhw,nd->hwd", weights, splats[:, 6:]) + (1 - hit) * background, hit


def rasterize_tiles(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    backgrounds: Tensor,
) -> tuple[Tensor, Tensor]:
    """Arguments as `raf_lite.splatting.rasterize` (colors [N, D]); returns render [C, H, W, D] and alphas [C,
    H, W, 1]."""
    radii, means2d, depths, conics, _ = project(
        means, quats, scales, opacities, viewmats, Ks, width, height, 0.3, 0.01, 1e10, 0.0, False
    )
    _, _, flatten_ids, offsets = intersect_tiles(means2d, radii, depths, width, height)
    ends = torch.cat([offsets.flatten()[1:], torch.tensor([len(flatten_ids)])]).reshape(offsets.shape)
    renders, alphas = [], []
    for c in range(len(viewmats)):
        splats = torch.cat([means2d[c], conics[c], opacities[:, None], colors], 1)  # one gather a tile
        rows = []
        for tile_y in range(offsets.shape[1]):
            y = torch.arange(tile_y * TILE, min(height, (tile_y + 1) * TILE), dtype=means.dtype) + 0.5
            row = []
            for tile_x in range(offsets.shape[2]):
                x = torch.arange(tile_x * TILE, min(width, (tile_x + 1) * TILE), dtype=means.dtype) + 0.5
                ids = flatten_ids[offsets[c, tile_y, tile_x] : ends[c, tile_y, tile_x]].long() - c * len(
                    means
                )
                row.append(torch.cat(_blend(splats[ids], x, y, backgrounds[c]), -1))
            rows.append(torch.cat(row, 1))
        blended = torch.cat(rows, 0)
        renders.append(blended[..., :-1])
        alphas.append(blended[..., -1:])
    return torch.stack(renders), torch.stack(alphas)
