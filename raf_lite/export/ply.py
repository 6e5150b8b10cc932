"""The PLY of 3D Gaussian splatting: one expression as a file that public viewers of splats open."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from raf_lite._files import atomic_path
from raf_lite.avatar import GaussianAvatar
from raf_lite.export.placing import place

SH_C0 = 0.28209479177387814  # the constant spherical harmonic, sqrt(1 / 4 pi): colour = 0.5 + SH_C0 * f_dc
PROPERTIES = (
    "x",
    "y",
    "z",
    "nx",
    "ny",
    "nz",
    "f_dc_0",
    "f_dc_1",
    "f_dc_2",
    "opacity",
    "scale_0",
    "scale_1",
    "scale_2",
    "rot_0",
    "rot_1",
    "rot_2",
    "rot_3",
)


def write_ply(
    avatar: GaussianAvatar,
    descriptor: np.ndarray,
    path: str | os.PathLike,
    head_pose: np.ndarray | None = None,
) -> Path:
    """Write one expression, descriptor [D], in the property layout of the 3DGS training code (Kerbl et al.
    2023), colours of degree 0. Binary, little-endian, float32.

    Properties: x y z in head radii; nx ny nz, always 0; f_dc_0..2, from which the sRGB colour is 0.5 + 0.2821
    f_dc; opacity before its sigmoid; scale_0..2, natural logarithms of standard deviations; rot_0..3, a unit
    quaternion wxyz. Axes: x right, y down, z away from a viewer who looks at the face, as in the worlds that
    such viewers are made for; the origin is the middle of the unmoved head. One unit is one head radius,
    since viewers start at about that distance; the file's comments say how many of the capture's own units
    that is. head_pose: see `place`.

    Avatars are trained with antialiased splatting: a Gaussian that is widened to a pixel is made as much
    fainter. A viewer that lacks this (it is called "antialiasing" or "Mip-Splatting" where it is there) shows
    thin things, such as eyelashes, hair and the outline, thicker and darker, and the more so the smaller the
    picture: on the demo's avatar the two ways of splatting differ by a PSNR of 36 dB at 128 pixels, 53 dB at
    512.

    Raises ValueError as `place` does.

    >>> from raf_lite import GaussianAvatar
    >>> from raf_lite.manifest import find_data
    >>> avatar = GaussianAvatar.load(find_data() / "checkpoints" / "001-centred.safetensors")
    >>> from raf_lite.avatar import resting_descriptor
    >>> write_ply(avatar, resting_descriptor(avatar), "head.ply").read_bytes()[:3]
    b'ply'
    """
    g = place(avatar, descriptor, head_pose, what="write_ply")
    columns = (
        g.means,
        np.zeros_like(g.means),
        (g.colors - 0.5) / SH_C0,
        g.opacity_logits[:, None],
        g.log_scales,
        g.quats,
    )
    table = np.concatenate(columns, 1).astype("<f4")
    header = "\n".join(
        [
            "ply",
            "format binary_little_endian 1.0",
            "comment raf_lite; x right, y down, z away from a viewer in front of the face",
            f"comment one unit is one head radius, {avatar.similarity.radius:.9g} of the capture's units",
            "comment trained with antialiased splatting",
            f"element vertex {len(table)}",
            *(f"property float {name}" for name in PROPERTIES),
            "end_header",
            "",
        ]
    )
    with atomic_path(path) as tmp:
        tmp.write_bytes(header.encode("ascii") + table.tobytes())
    return Path(path)
