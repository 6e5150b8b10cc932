"""The public call: check the arguments, choose a backend, project, composite."""

from __future__ import annotations

import math
import numbers
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from raf_lite.splatting import gsplat_backend, reference

Backend = Literal["auto", "gsplat", "numba", "torch"]
BACKENDS = ("auto", "gsplat", "numba", "torch")
RENDER_MODES = ("RGB", "D", "ED", "RGB+D", "RGB+ED")
RASTERIZE_MODES = ("classic", "antialiased")
MAX_CHANNELS = 32


def rasterize(
    means: Tensor,  # [N, 3]
    quats: Tensor,  # [N, 4]
    scales: Tensor,  # [N, 3]
    opacities: Tensor,  # [N]
    colors: Tensor,  # [N, D] or [C, N, D]
    viewmats: Tensor,  # [C, 4, 4]
    Ks: Tensor,  # [C, 3, 3]
    width: int,
    height: int,
    *,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    eps2d: float = 0.3,
    radius_clip: float = 0.0,
    backgrounds: Tensor | None = None,  # [C, D]
    render_mode: Literal["RGB", "D", "ED", "RGB+D", "RGB+ED"] = "RGB",
    rasterize_mode: Literal["classic", "antialiased"] = "classic",
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Render 3D Gaussians with gsplat 1.5.3's names, shapes and meaning, on any machine.

    The method is 3D Gaussian splatting (Kerbl et al. 2023) with EWA projection (Zwicker et al. 2001),
    gsplat's opacity-aware extents (Radl et al. 2024, section B.2) and Mip-Splatting's compensation for
    `"antialiased"` (Yu et al. 2024). Gradients flow to means, quats, scales, opacities, colors, viewmats
    (upper 3x4) and backgrounds; Ks gets none.

    Args:
        means: [N, 3] centres, in world units. N may be 0: the background is rendered.
        quats: [N, 4] rotations wxyz, of any length; a zero quaternion means no rotation.
        scales: [N, 3] standard deviations along the rotated axes, in world units.
        opacities: [N] peak opacities in [0, 1], after any sigmoid.
        colors: [N, D], or [C, N, D] per camera; D from 1 to 32 features.
        viewmats: [C, 4, 4] world to camera, OpenCV axes (x right, y down, z forward).
        Ks: [C, 3, 3] intrinsics in pixels; pixel centres lie at +0.5. Skew is ignored, as in gsplat.
        width, height: image size in pixels, at least 1.
        near_plane, far_plane: Gaussians with a camera z outside this range are culled.
        eps2d: variance in pixels^2 added to both axes of every 2D Gaussian.
        radius_clip: Gaussians with neither half extent above this many pixels are culled.
        backgrounds: [C, D] colours behind everything; black if None. Depth channels always have background 0.
        render_mode: "RGB" features, "D" accumulated z, "ED" z expected under the blending weights (0 where
        nothing is
            hit), "RGB+D" and "RGB+ED" features with the depth as last channel.
        rasterize_mode: "antialiased" multiplies opacities by sqrt(det(cov) / det(cov + eps2d)).
        backend: "gsplat" (CUDA tensors), "numba" (fast on a CPU; float32; other devices are copied from and
            to), "torch" (any float dtype, slow, for tests and reading). "auto" is gsplat for CUDA tensors, or
            numba with a warning if gsplat is not usable, and numba for all others.

    Returns:
        render [C, H, W, D], alphas [C, H, W, 1] and gsplat's `meta` of `packed=False`: "means2d" [C, N, 2]
        (in the
        graph: `retain_grad()` works), "radii" [C, N, 2] int32 (0 = culled), "depths" [C, N], "conics" [C, N,
        3], "opacities" [C, N], "tiles_per_gauss", "isect_ids", "flatten_ids", "isect_offsets", "tile_size",
        "tile_width", "tile_height", "width", "height", "n_cameras", "n_batches", and None for "batch_ids",
        "camera_ids",
        "gaussian_ids". What is culled holds zeros (in gsplat: anything). Same bytes for any number of CPU
        threads and in every process that finds the kernels compiled; the process that compiles them may
        differ in the last bit.

    Raises:
        ValueError: an argument has a wrong shape, dtype, device, range or a value that is not finite, or a
            camera is singular; the message names it.
        RuntimeError: backend="gsplat" without a usable gsplat; "numba" in a process forked after its first
        use.

    Conventions: docs/conventions.md#axes-and-cameras, docs/conventions.md#rotations,
    docs/conventions.md#gaussians.

    >>> picture, alphas, meta = rasterize(
    ...     means=torch.tensor([[0.0, 0.0, 2.0]]),
    ...     quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
    ...     scales=torch.full((1, 3), 0.1),
    ...     opacities=torch.ones(1),
    ...     colors=torch.tensor([[1.0, 0.0, 0.0]]),
    ...     viewmats=torch.eye(4)[None],
    ...     Ks=torch.tensor([[[50.0, 0, 16], [0, 50, 16], [0, 0, 1]]]),
    ...     width=32,
    ...     height=32,
    ... )
    >>> picture.shape, meta["means2d"].tolist()
    (torch.Size([1, 32, 32, 3]), [[[16.0, 16.0]]])
    """
    named = {
        "means": means,
        "quats": quats,
        "scales": scales,
        "opacities": opacities,
        "colors": colors,
        "viewmats": viewmats,
        "Ks": Ks,
    }
    if backgrounds is not None:
        named["backgrounds"] = backgrounds
    _check_options(
        width, height, near_plane, far_plane, eps2d, radius_clip, render_mode, rasterize_mode, backend
    )
    _check_tensors(named)
    backend = _choose_backend(backend, means)
    width, height = int(width), int(height)
    if backend == "gsplat" and len(means) > 0:  # gsplat 1.5.3 divides by N
        return gsplat_backend.rasterize(
            means,
            quats,
            scales,
            opacities,
            colors,
            viewmats,
            Ks,
            width,
            height,
            near_plane=near_plane,
            far_plane=far_plane,
            eps2d=eps2d,
            radius_clip=radius_clip,
            backgrounds=backgrounds,
            render_mode=render_mode,
            rasterize_mode=rasterize_mode,
        )
    if backend == "numba":
        from raf_lite.splatting.compositing import composite
        from raf_lite.splatting.projection import project
    else:
        composite, project = reference.composite, reference.project

    radii, means2d, depths, conics, compensations = project(
        means,
        quats,
        scales,
        opacities,
        viewmats,
        Ks.detach(),
        width,
        height,
        float(eps2d),
        float(near_plane),
        float(far_plane),
        float(radius_clip),
        rasterize_mode == "antialiased",
    )
    opacities = opacities.expand(len(viewmats), -1)
    if rasterize_mode == "antialiased":
        opacities = opacities * compensations
    if colors.dim() == 2:
        colors = colors[None]
    if render_mode in ("D", "ED"):
        colors, backgrounds = depths[..., None], None
    elif render_mode in ("RGB+D", "RGB+ED"):
        colors = torch.cat([colors.expand(len(viewmats), -1, -1), depths[..., None]], -1)
        if backgrounds is not None:
            backgrounds = torch.nn.functional.pad(backgrounds, (0, 1))

    render, alphas, tiles = composite(
        means2d, conics, colors, opacities, backgrounds, radii, depths.detach(), width, height
    )
    if render_mode in ("ED", "RGB+ED"):
        render = torch.cat([render[..., :-1], render[..., -1:] / alphas.clamp(min=1e-10)], -1)
    tiles_per_gauss, isect_ids, flatten_ids, isect_offsets = tiles
    meta = {
        "batch_ids": None,
        "camera_ids": None,
        "gaussian_ids": None,
        "radii": radii,
        "means2d": means2d,
        "depths": depths,
        "conics": conics,
        "opacities": opacities,
        "tile_width": isect_offsets.shape[2],
        "tile_height": isect_offsets.shape[1],
        "tiles_per_gauss": tiles_per_gauss,
        "isect_ids": isect_ids,
        "flatten_ids": flatten_ids,
        "isect_offsets": isect_offsets,
        "width": width,
        "height": height,
        "tile_size": reference.TILE,
        "n_batches": 1,
        "n_cameras": len(viewmats),
    }
    return render, alphas, meta


def _check_options(
    width: int,
    height: int,
    near_plane: float,
    far_plane: float,
    eps2d: float,
    radius_clip: float,
    render_mode: str,
    rasterize_mode: str,
    backend: str,
) -> None:
    for name, value in (("width", width), ("height", height)):
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1 pixel, got {value!r}")
    for name, value in (
        ("near_plane", near_plane),
        ("far_plane", far_plane),
        ("eps2d", eps2d),
        ("radius_clip", radius_clip),
    ):
        if not isinstance(value, numbers.Real) or not math.isfinite(value) or value < 0:
            raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}")
    if not 0 < near_plane <= far_plane:
        raise ValueError(
            f"near_plane must be above 0 and at most far_plane, got {near_plane!r} and {far_plane!r}"
        )
    for name, value, known in (
        ("render_mode", render_mode, RENDER_MODES),
        ("rasterize_mode", rasterize_mode, RASTERIZE_MODES),
        ("backend", backend, BACKENDS),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")


def _check_tensors(tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{name} must be a torch tensor, got {type(tensor).__name__}")
    means, viewmats, colors = tensors["means"], tensors["viewmats"], tensors["colors"]
    if means.dim() != 2:
        raise ValueError(f"means must have shape [N, 3], got {list(means.shape)}")
    if viewmats.dim() != 3 or len(viewmats) < 1:
        raise ValueError(
            f"viewmats must have shape [C, 4, 4] with at least one camera, got {list(viewmats.shape)}"
        )
    if colors.dim() not in (2, 3) or not 1 <= colors.shape[-1] <= MAX_CHANNELS:
        raise ValueError(
            f"colors must have shape [N, D] or [C, N, D] with D from 1 to {MAX_CHANNELS}, got"
            f" {list(colors.shape)}"
        )
    n, c, d = len(means), len(viewmats), colors.shape[-1]
    shapes = {
        "means": (n, 3),
        "quats": (n, 4),
        "scales": (n, 3),
        "opacities": (n,),
        "colors": (n, d) if colors.dim() == 2 else (c, n, d),
        "viewmats": (c, 4, 4),
        "Ks": (c, 3, 3),
        "backgrounds": (c, d),
    }
    for name, tensor in tensors.items():
        if tensor.shape != shapes[name]:
            raise ValueError(
                f"{name} must have shape {list(shapes[name])} to go with {n} Gaussians and {c} cameras, got"
                f" {list(tensor.shape)}"
            )
        if tensor.dtype != means.dtype or not tensor.is_floating_point():
            raise ValueError(
                f"{name} must be a floating tensor of the same dtype as means ({means.dtype}), got"
                f" {tensor.dtype}"
            )
        if tensor.device != means.device:
            raise ValueError(f"{name} must be on the device of means ({means.device}), got {tensor.device}")
    if not _sums_are_finite(
        [t.detach() for t in tensors.values()]
    ):  # a sum may also overflow, hence the second, exact look
        for name, tensor in tensors.items():
            bad = (~tensor.detach().isfinite()).nonzero()
            if len(bad):
                raise ValueError(
                    f"{name} must be finite, got {tensor[tuple(bad[0])].item()} at index {bad[0].tolist()}"
                )

    views, K = viewmats.detach().cpu().double().numpy(), tensors["Ks"].detach().cpu().double().numpy()
    last_row_wrong = np.abs(views[:, 3] - (0, 0, 0, 1)).max(1) > 1e-4
    singular = np.abs(np.linalg.det(views[:, :3, :3])) <= 1e-6 * np.linalg.norm(
        views[:, :3, :3], axis=2
    ).prod(1)
    no_focal = (K[:, 0, 0] <= 0) | (K[:, 1, 1] <= 0)
    for camera in np.flatnonzero(last_row_wrong | singular | no_focal):
        if last_row_wrong[camera]:
            row = views[camera, 3].tolist()
            raise ValueError(
                f"viewmats[{camera}] must end in the row 0, 0, 0, 1, got {row}; is the matrix transposed?"
            )
        if singular[camera]:
            raise ValueError(f"viewmats[{camera}] is singular: its upper left 3x3 block must be a rotation")
        raise ValueError(
            f"Ks[{camera}] must have positive focal lengths, got {K[camera, 0, 0]} and {K[camera, 1, 1]}"
        )


def _sums_are_finite(tensors: list[Tensor]) -> bool:
    """Whether each tensor's sum is finite, by the cheapest way to learn it."""
    if tensors[0].device.type == "cpu":  # numpy, since torch would wake its threads for each
        with np.errstate(over="ignore", invalid="ignore"):
            return bool(np.isfinite([t.numpy().sum() for t in tensors]).all())
    return bool(
        torch.stack([t.sum() for t in tensors]).isfinite().all()
    )  # one transfer spares a GPU seven waits


def _choose_backend(backend: Backend, means: Tensor) -> Backend:
    """The backend that will do the work: "gsplat", "numba" or "torch"."""
    if backend in ("auto", "gsplat") and means.is_cuda:
        if gsplat_backend.unusable_because() is None:
            backend = "gsplat"
        elif backend == "gsplat":
            raise RuntimeError(
                f"backend='gsplat' is not usable ({gsplat_backend.unusable_because()});"
                f" {gsplat_backend.INSTALL}"
            )
        else:
            gsplat_backend.warn_fallback()
            backend = "numba"
    elif backend == "gsplat":
        raise ValueError(
            f"backend='gsplat' needs CUDA tensors, but means is on {means.device}; use backend='auto'"
        )
    elif backend == "auto":
        backend = "numba"
    if backend != "torch" and means.dtype != torch.float32:
        raise ValueError(
            f"means must be float32 for backend='{backend}', got {means.dtype}; call .float() or take 'torch'"
        )
    return backend
