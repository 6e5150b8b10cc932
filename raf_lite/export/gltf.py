"""glTF 2.0 with KHR_gaussian_splatting: one expression as a .glb."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import numpy as np

import raf_lite
from raf_lite._files import atomic_path
from raf_lite.avatar import GaussianAvatar
from raf_lite.captures.cameras import OPENGL_AXES
from raf_lite.export.placing import place
from raf_lite.export.ply import SH_C0

_AXES = OPENGL_AXES[:3, :3]  # glTF's are OpenGL's: y up, the front looks along +z
_TYPES = {(): "SCALAR", (3,): "VEC3", (4,): "VEC4"}


def write_glb(
    avatar: GaussianAvatar,
    descriptor: np.ndarray,
    path: str | os.PathLike,
    head_pose: np.ndarray | None = None,
) -> Path:
    """Write one expression, descriptor [D], as binary glTF 2.0 with the extension KHR_gaussian_splatting.

    The extension is ratified by Khronos (2026). It stores still splats: opacities after the sigmoid, scales
    as standard deviations, rotations xyzw. It says nothing of splats that deform, and glTF's own morph
    targets do not reach its attributes, so there is no kept standard for an animated avatar: `write_sequence`
    writes one file a frame instead. Programs without the extension show coloured points. Axes are glTF's (y
    up, the face looks along +z), the origin the middle of the unmoved head. glTF counts in metres, and a
    capture need not know its unit: here one unit is one head radius, and `asset.extras` gives the radius in
    the capture's units. What `write_ply` says of antialiased splatting holds here too.

    Raises ValueError as `place` does.

    >>> from raf_lite import GaussianAvatar
    >>> from raf_lite.manifest import find_data
    >>> avatar = GaussianAvatar.load(find_data() / "checkpoints" / "001-centred.safetensors")
    >>> from raf_lite.avatar import resting_descriptor
    >>> write_glb(avatar, resting_descriptor(avatar), "head.glb").read_bytes()[:4]
    b'glTF'
    """
    g = place(avatar, descriptor, head_pose, what="write_glb").turned(_AXES)
    opacities = 1 / (1 + np.exp(-g.opacity_logits.astype(np.float64)))
    name = "KHR_gaussian_splatting"
    attributes = {
        "POSITION": g.means,
        "COLOR_0": np.concatenate([g.colors, opacities[:, None]], 1),
        f"{name}:ROTATION": g.quats[:, [1, 2, 3, 0]],
        f"{name}:SCALE": np.exp(g.log_scales),
        f"{name}:OPACITY": opacities,
        f"{name}:SH_DEGREE_0_COEF_0": (g.colors - 0.5) / SH_C0,
    }
    arrays = {k: np.ascontiguousarray(v, "<f4") for k, v in attributes.items()}
    offsets = np.cumsum([0, *(a.nbytes for a in arrays.values())]).tolist()
    accessors = [
        {"bufferView": i, "componentType": 5126, "count": len(a), "type": _TYPES[a.shape[1:]]}
        for i, a in enumerate(arrays.values())
    ]
    accessors[0] |= {"min": g.means.min(0).tolist(), "max": g.means.max(0).tolist()}
    document = {
        "asset": {
            "version": "2.0",
            "generator": f"raf_lite {raf_lite.__version__}",
            "extras": {"head_radius_in_capture_units": avatar.similarity.radius, "splatting": "antialiased"},
        },
        "extensionsUsed": [name],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "head"}],
        "meshes": [
            {
                "primitives": [
                    {
                        "mode": 0,
                        "attributes": {k: i for i, k in enumerate(arrays)},
                        "extensions": {
                            name: {
                                "kernel": "ellipse",
                                "colorSpace": "srgb_rec709_display",
                                "projection": "perspective",
                                "sortingMethod": "cameraDistance",
                            }
                        },
                    }
                ]
            }
        ],
        "accessors": accessors,
        "bufferViews": [
            {"buffer": 0, "byteOffset": offset, "byteLength": a.nbytes, "target": 34962}
            for offset, a in zip(offsets, arrays.values(), strict=False)
        ],
        "buffers": [{"byteLength": offsets[-1]}],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    body = b"".join(a.tobytes() for a in arrays.values())  # float32 throughout, so a multiple of 4 already
    with atomic_path(path) as tmp:
        tmp.write_bytes(
            struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(body))
            + struct.pack("<I4s", len(text), b"JSON")
            + text
            + struct.pack("<I4s", len(body), b"BIN\0")
            + body
        )
    return Path(path)
