"""The same call on a CUDA device: gsplat's own rasteriser, imported only when it is wanted."""

from __future__ import annotations

import functools
import warnings

from torch import Tensor

INSTALL = (
    "install it with `pip install gsplat==1.5.3` (it compiles at first use and needs the CUDA toolkit; "
    "compiled wheels are listed at https://docs.gsplat.studio/whl)"
)


@functools.cache
def unusable_because() -> str | None:
    """None if gsplat is installed with its CUDA kernels, else the reason in a few words. May compile gsplat,
    once."""
    try:
        from gsplat.cuda._backend import _C
    except (
        Exception
    ) as error:  # a broken build raises anything from ImportError to ninja's CalledProcessError
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    return None if _C is not None else "it found no CUDA toolkit to compile its kernels"


@functools.cache
def warn_fallback() -> None:
    """Say once per process that a CUDA scene is rendered on the CPU."""
    warnings.warn(
        f"gsplat is not usable ({unusable_because()}), so CUDA tensors are rasterised on the CPU, which is"
        f" slow; {INSTALL}.",
        stacklevel=4,
    )


def rasterize(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    *,
    near_plane: float,
    far_plane: float,
    eps2d: float,
    radius_clip: float,
    backgrounds: Tensor | None,
    render_mode: str,
    rasterize_mode: str,
) -> tuple[Tensor, Tensor, dict]:
    """gsplat 1.5.3's `rasterization`, unpacked so that `meta` has the [C, N, ...] shapes of the other
    backends."""
    from gsplat import rasterization

    return rasterization(
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
        packed=False,
        tile_size=16,
        backgrounds=backgrounds,
        render_mode=render_mode,
        rasterize_mode=rasterize_mode,
    )
