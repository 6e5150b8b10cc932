"""Differentiable Gaussian splatting with gsplat's conventions: gsplat itself on CUDA, numba on a CPU, torch
to read and check.

`rasterize.py` is the one public call; `reference.py` is the method in plain torch and the place to start
reading; `projection.py` and `compositing.py` (with `binning.py`) are the same two steps as numba kernels;
`gsplat_backend.py` hands over to gsplat.
"""

from __future__ import annotations

from raf_lite.splatting.rasterize import rasterize

__all__ = ["rasterize"]
