"""Gaussian splatting in plain torch: any float dtype, autograd, no speed. Read this first; the other backends
must agree.

Two steps, as everywhere in this room: `project` turns 3D Gaussians into 2D ones (EWA splatting, Zwicker et
al. 2001, as in 3DGS, Kerbl et al. 2023), `composite` blends those front to back. Constants and decisions are
gsplat 1.5.3's.
"""

from __future__ import annotations

import torch
from torch import Tensor

TILE = 16  # pixels; a Gaussian is blended in every tile that its bounding box touches
ALPHA_MIN = 1.0 / 255.0  # a contribution below this is skipped
ALPHA_MAX = 0.999  # keeps 1 - alpha, by which the backward pass divides, away from zero
TRANSMITTANCE_MIN = 1e-4  # a pixel is finished before its transmittance would fall to this
EXTENT_MAX = 3.33  # standard deviations at which a Gaussian of opacity 1 falls to 1/255
CLAMP_MARGIN = 0.3  # the Jacobian is evaluated at most this part of the half field of view outside the image


def rotation_matrices(quats: Tensor) -> Tensor:  # [..., 4] wxyz -> [..., 3, 3]
    """Rotations of quaternions of any length; a zero quaternion gives the identity."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
    ]
    return torch.stack(rows, -2)


def project(
    means: Tensor,  # [N, 3]
    quats: Tensor,  # [N, 4]
    scales: Tensor,  # [N, 3]
    opacities: Tensor,  # [N]
    viewmats: Tensor,  # [C, 4, 4]
    Ks: Tensor,  # [C, 3, 3]
    width: int,
    height: int,
    eps2d: float,
    near_plane: float,
    far_plane: float,
    radius_clip: float,
    antialiased: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """2D Gaussians of every camera; all zeros, without gradient, where a Gaussian is culled.

    Returns:
        radii [C, N, 2] int32 half extents in pixels (0 = culled), means2d [C, N, 2] pixels, depths [C, N]
        camera z,
        conics [C, N, 3] the inverse 2D covariance (xx, xy, yy), compensations [C, N], the loss of peak height
        through the `eps2d` blur (ones unless `antialiased`).
    """
    rotation, translation = viewmats[:, None, :3, :3], viewmats[:, None, :3, 3]
    in_camera = (rotation @ means[None, :, :, None]).squeeze(-1) + translation  # [C, N, 3]
    in_range = (in_camera[..., 2] >= near_plane) & (in_camera[..., 2] <= far_plane)
    # Culled Gaussians get a harmless position: an infinity there would turn other gradients into NaN, even
    # times zero.
    x, y, z = torch.where(in_range[..., None], in_camera, torch.ones_like(in_camera)).unbind(-1)

    fx, fy, cx, cy = (Ks[:, i, j, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))  # [C, 1] each
    means2d = torch.stack([fx * x / z + cx, fy * y / z + cy], -1)
    margin_x, margin_y = CLAMP_MARGIN * 0.5 * width / fx, CLAMP_MARGIN * 0.5 * height / fy
    tx = z * torch.minimum(torch.maximum(x / z, -cx / fx - margin_x), (width - cx) / fx + margin_x)
    ty = z * torch.minimum(torch.maximum(y / z, -cy / fy - margin_y), (height - cy) / fy + margin_y)
    zero = torch.zeros_like(z)
    jacobian = torch.stack(
        [torch.stack([fx / z, zero, -fx * tx / z**2], -1), torch.stack([zero, fy / z, -fy * ty / z**2], -1)],
        -2,
    )  # [C, N, 2, 3]
    half = jacobian @ rotation @ (rotation_matrices(quats) * scales[:, None, :])  # [C, N, 2, 3]
    covariance = half @ half.transpose(-1, -2)  # [C, N, 2, 2]

    det_sharp = covariance[..., 0, 0] * covariance[..., 1, 1] - covariance[..., 0, 1] ** 2
    a, b, c = covariance[..., 0, 0] + eps2d, covariance[..., 0, 1], covariance[..., 1, 1] + eps2d
    det = a * c - b * b
    visible = in_range & (det > 0)
    safe_det = torch.where(visible, det, torch.ones_like(det))
    conics = torch.stack([c, -b, a], -1) / safe_det[..., None]
    compensations = torch.ones_like(z)
    if antialiased:
        ratio = torch.where(visible & (det_sharp > 0), det_sharp / safe_det, torch.ones_like(z))
        compensations = torch.where(det_sharp > 0, ratio.sqrt(), zero)

    with torch.no_grad():
        peak = opacities * compensations
        extent = (2 * (peak / ALPHA_MIN).clamp(min=1).log()).sqrt().clamp(max=EXTENT_MAX)
        radius = torch.ceil(extent[..., None] * torch.stack([a, c], -1).sqrt())
        size = torch.tensor([width, height], dtype=radius.dtype, device=radius.device)
        visible = visible & (peak >= ALPHA_MIN) & (radius > radius_clip).any(-1)
        visible = visible & ((means2d + radius > 0) & (means2d - radius < size)).all(-1)
        radii = (radius * visible[..., None]).int()
    means2d, conics = (torch.where(visible[..., None], v, torch.zeros_like(v)) for v in (means2d, conics))
    depths, compensations = (torch.where(visible, v, zero) for v in (z, compensations))
    return radii, means2d, depths, conics, compensations


@torch.no_grad()
def intersect_tiles(
    means2d: Tensor,  # [C, N, 2]
    radii: Tensor,  # [C, N, 2] int32
    depths: Tensor,  # [C, N]
    width: int,
    height: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Which Gaussian is blended in which tile, sorted by camera, tile, float32 depth and index.

    Returns:
        tiles_per_gauss [C, N] int32, isect_ids [M] int64 (bits: camera | tile | float32 depth), flatten_ids
        [M] int32 into C * N, isect_offsets [C, tile rows, tile columns] int32: where each tile's run in the
        two lists begins.
    """
    cameras, count = depths.shape
    columns, rows = -(-width // TILE), -(-height // TILE)
    last = torch.tensor([columns, rows], device=radii.device)
    first_tile = torch.minimum(torch.floor((means2d - radii) / TILE).clamp(min=0).long(), last)
    end_tile = torch.minimum(torch.ceil((means2d + radii) / TILE).clamp(min=0).long(), last)
    extent = (end_tile - first_tile) * (radii > 0).all(-1, keepdim=True)
    tiles_per_gauss = extent.prod(-1)  # [C, N]

    counts = tiles_per_gauss.flatten()
    ids = torch.repeat_interleave(torch.arange(cameras * count, device=counts.device), counts)  # [M]
    within = torch.arange(len(ids), device=ids.device) - (counts.cumsum(0) - counts)[ids]
    span = extent[..., 0].flatten()[ids]
    tile_x = first_tile[..., 0].flatten()[ids] + within % span
    tile_y = first_tile[..., 1].flatten()[ids] + within // span
    camera = ids // max(count, 1)
    depth_bits = depths.float().flatten()[ids].view(torch.int32).long() & 0xFFFFFFFF
    tile_bits = (columns * rows).bit_length()
    keys = (camera << (32 + tile_bits)) | ((tile_y * columns + tile_x) << 32) | depth_bits
    isect_ids, order = torch.sort(keys, stable=True)
    run_lengths = torch.bincount(
        (camera * rows + tile_y) * columns + tile_x, minlength=cameras * rows * columns
    )
    offsets = (run_lengths.cumsum(0) - run_lengths).reshape(cameras, rows, columns)
    return tiles_per_gauss.int(), isect_ids, ids[order].int(), offsets.int()


def composite(
    means2d: Tensor,  # [C, N, 2]
    conics: Tensor,  # [C, N, 3]
    colors: Tensor,  # [C, N, D] or [1, N, D]
    opacities: Tensor,  # [C, N]
    backgrounds: Tensor | None,  # [C, D]
    radii: Tensor,  # [C, N, 2] int32
    depths: Tensor,  # [C, N]
    width: int,
    height: int,
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Blend front to back: C = sum_i c_i alpha_i prod_{j<i} (1 - alpha_j) + T background, tile by tile.

    Returns:
        render [C, H, W, D], alphas [C, H, W, 1], and the four results of `intersect_tiles`.
    """
    tiles = intersect_tiles(means2d, radii, depths, width, height)
    _, _, flatten_ids, offsets = tiles
    cameras, count = depths.shape
    ends = [*offsets.flatten().tolist()[1:], len(flatten_ids)]
    renders, alphas = [], []
    for camera in range(cameras):
        rows = []
        for tile_y in range(offsets.shape[1]):
            row = []
            for tile_x in range(offsets.shape[2]):
                start = int(offsets[camera, tile_y, tile_x])
                end = ends[(camera * offsets.shape[1] + tile_y) * offsets.shape[2] + tile_x]
                n = flatten_ids[start:end].long() - camera * count  # Gaussians of this tile, nearest first
                row.append(
                    _blend_tile(
                        means2d[camera, n],
                        conics[camera, n],
                        colors[camera if len(colors) > 1 else 0, n],
                        opacities[camera, n],
                        range(tile_x * TILE, min(width, (tile_x + 1) * TILE)),
                        range(tile_y * TILE, min(height, (tile_y + 1) * TILE)),
                    )
                )
            rows.append(torch.cat(row, 1))
        blended = torch.cat(rows, 0)  # [H, W, D + 1], transmittance last
        render, transmittance = blended[..., :-1], blended[..., -1:]
        renders.append(render if backgrounds is None else render + transmittance * backgrounds[camera])
        alphas.append(1 - transmittance)
    return torch.stack(renders), torch.stack(alphas), tiles


def _blend_tile(
    means2d: Tensor,  # [n, 2], nearest first
    conics: Tensor,  # [n, 3]
    colors: Tensor,  # [n, D]
    opacities: Tensor,  # [n]
    columns: range,
    rows: range,
) -> Tensor:  # [h, w, D + 1]: colour without background, transmittance
    pixel_x = torch.arange(columns.start, columns.stop, dtype=means2d.dtype, device=means2d.device) + 0.5
    pixel_y = torch.arange(rows.start, rows.stop, dtype=means2d.dtype, device=means2d.device) + 0.5
    dx = means2d[:, 0, None, None] - pixel_x  # [n, 1, w]
    dy = means2d[:, 1, None, None] - pixel_y[:, None]  # [n, h, 1]
    a, b, c = (conics[:, k, None, None] for k in range(3))
    sigma = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy  # [n, h, w]
    alpha = (opacities[:, None, None] * torch.exp(-sigma)).clamp(max=ALPHA_MAX)
    alpha = torch.where((sigma >= 0) & (alpha >= ALPHA_MIN), alpha, torch.zeros_like(alpha))
    # The product only falls, so everything behind the first Gaussian that would finish a pixel is left out
    # with it.
    unfinished = torch.cumprod(1 - alpha.detach(), 0) > TRANSMITTANCE_MIN
    alpha = torch.where(unfinished, alpha, torch.zeros_like(alpha))
    after = torch.cumprod(1 - alpha, 0)
    after = torch.cat([torch.ones_like(dx[:0].sum(0) + dy[:0].sum(0))[None], after])  # [n + 1, h, w]
    color = torch.einsum("nhw,nd->hwd", alpha * after[:-1], colors)
    return torch.cat([color, after[-1][..., None]], -1)
