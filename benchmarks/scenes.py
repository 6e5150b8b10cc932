"""Scenes to measure and compare on: Gaussians spread over a ball, as an avatar's are over a head."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from raf_lite.splatting.reference import ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_MIN

GAUSSIAN_PARAMETERS = ("means", "quats", "scales", "opacities", "colors")
PARAMETERS = (*GAUSSIAN_PARAMETERS, "viewmats", "backgrounds")  # everything that gets a gradient


def head_scene(
    gaussians: int, size: int, *, cameras: int = 1, channels: int = 3, distance: float = 4.0, seed: int = 0
) -> dict:
    """Arguments of `rasterize`, float32: a shell of radius 1 that covers 60 % of each of `cameras` size x
    size pictures.

    Standard deviations are 3 to 6 pixels of a 128-pixel picture along the first two axes and 0.3 of that
    along the third; the same seed gives the same scene at every size. distance: of the cameras from the
    ball's centre; below 1 they stand in it."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=(gaussians, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    means = direction * (1 - 0.03 * rng.random((gaussians, 1)))
    edge = 4 / math.sqrt(
        4**2 - 1
    )  # silhouette of a unit ball at distance 4: its radius in the plane of its centre
    focal = math.sqrt(0.6 / math.pi) * size * 4 / edge
    sigma = (
        np.exp(rng.uniform(math.log(3), math.log(6), (gaussians, 3))) * (size / 128) * 4 / focal * [1, 1, 0.3]
    )
    viewmats = np.tile(np.eye(4), (cameras, 1, 1))
    for c in range(cameras):
        cos, sin = math.cos(0.5 * c), math.sin(0.5 * c)
        viewmats[c, :3] = [[cos, 0, sin, 0], [0, 1, 0, 0], [-sin, 0, cos, distance]]
    K = [[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]]
    arrays = {
        "means": means,
        "quats": rng.normal(size=(gaussians, 4)),
        "scales": sigma,
        "opacities": rng.uniform(0.1, 0.95, gaussians),
        "colors": rng.random((gaussians, channels)),
        "viewmats": viewmats,
        "Ks": np.tile(K, (cameras, 1, 1)),
        "backgrounds": rng.random((cameras, channels)),
    }
    return {
        **{k: torch.tensor(v, dtype=torch.float32) for k, v in arrays.items()},
        "width": size,
        "height": size,
    }


def moved(
    scene: dict,
    *,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    requires_grad: tuple[str, ...] = (),
) -> dict:
    """A copy of a scene's tensors on another device or of another dtype, as leaves that ask for gradients
    where named."""
    out = {
        k: v.detach().to(device=device, dtype=dtype).clone() if torch.is_tensor(v) else v
        for k, v in scene.items()
    }
    for name in requires_grad:
        out[name].requires_grad_(True)
    return out


@torch.no_grad()
def decided_pixels(meta: dict, width: int, height: int) -> Tensor:  # -> [C, H, W] bool
    """Pixels where no decision (skip, clamp, stop, order) is so close that two float32 rasterisers may take
    it differently.

    meta: of a float64 reference rendering of the scene. Elsewhere they differ by rounding; at a flip by up to
    1/255 of a colour."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels, out = torch.stack([x, y], -1), []
    fields = (meta[k] for k in ("means2d", "conics", "opacities", "depths", "radii"))
    for means2d, conics, opacities, depths, radii in zip(*fields, strict=True):
        ids = (radii > 0).all(-1).nonzero()[:, 0]
        ids = ids[torch.argsort(depths[ids])]
        transmittance, decided = (
            torch.ones(height, width, dtype=means2d.dtype),
            torch.ones(height, width, dtype=torch.bool),
        )
        touched_before, depth_before = torch.zeros_like(decided), -math.inf
        for n in ids.tolist():  # Gaussian by Gaussian: all of them at once would need gigabytes
            d, (a, b, c) = means2d[n] - pixels, conics[n]
            sigma = 0.5 * (a * d[..., 0] ** 2 + c * d[..., 1] ** 2) + b * d[..., 0] * d[..., 1]
            raw = opacities[n] * torch.exp(-sigma)
            touched = raw >= ALPHA_MIN
            after = transmittance * (1 - torch.where(touched, raw.clamp(max=ALPHA_MAX), 0.0))
            close = ((raw / ALPHA_MIN - 1).abs() < 1e-3) | ((raw - ALPHA_MAX).abs() < 1e-4)
            close |= touched & ((after / TRANSMITTANCE_MIN - 1).abs() < 1e-2)
            if depths[n] - depth_before < 3e-6 * depths[n]:
                close |= touched & touched_before
            decided &= ~(close & (transmittance > 0))
            # What is finished stays so and can decide nothing any more.
            transmittance = torch.where(after > TRANSMITTANCE_MIN, after, 0.0)
            touched_before, depth_before = touched, float(depths[n])
        out.append(decided)
    return torch.stack(out)
