"""The learned basis as tensors and a description, for programs that want to move the avatar themselves."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

import raf_lite
from raf_lite._files import sha256_file, write_json, write_tensors
from raf_lite._forms import parts
from raf_lite.avatar import GaussianAvatar, frontal_camera
from raf_lite.avatar.fields import OFFSETS
from raf_lite.avatar.reach import Reach
from raf_lite.descriptors import BLENDSHAPE_NAMES
from raf_lite.export.blend import need_basis

FORMAT = 1  # of the pair of files; raised when its meaning changes

BLEND = [
    (
        "offset = sum over k of c[k] * basis[k], 13 numbers a Gaussian: mean 3, quaternion 4, log scale 3,"
        " colour logit 3"
    ),
    "mean = means + offset[0:3]; quaternion = quats + offset[3:7], then normalised",
    "standard deviations = exp(log_scales + offset[7:10])",
    "colour = sigmoid(color_logits + offset[10:13]); opacity = sigmoid(opacity_logits)",
]
MEANINGS = {
    "means": ("[N, 3]", "centres of the canonical Gaussians, head radii, normalised head space"),
    "quats": ("[N, 4]", "rotations wxyz, not normalised"),
    "log_scales": (
        "[N, 3]",
        "natural logarithms of the standard deviations along the rotated axes, head radii",
    ),
    "opacity_logits": ("[N]", "peak opacity before its sigmoid"),
    "color_logits": ("[N, 3]", "sRGB colour before its sigmoid, the same from every side"),
    "basis": (
        "[K, N, 13]",
        "offsets of each component: mean (head radii), quaternion, log scale, colour logit",
    ),
    "descriptor_mean": ("[D]", "subtracted from a descriptor"),
    "descriptor_scale": ("[]", "divides all dimensions of a descriptor"),
}


def dimension_names(avatar: GaussianAvatar) -> list[str]:
    """What the descriptor's dimensions are called: MediaPipe's names for blendshapes, numbers for what has
    none."""
    dim = len(avatar.descriptor_mean)
    if parts(avatar.descriptor)[0] == "blendshapes" and dim == len(BLENDSHAPE_NAMES):
        return list(BLENDSHAPE_NAMES)
    return [f"{avatar.descriptor} {i}" for i in range(dim)]


def _steps(layers: int, reach: Reach | None) -> list[str]:
    """From a descriptor to Gaussians through so many linear layers, in formulas."""
    values = ["x", *(f"h{i}" for i in range(layers - 1))]
    hidden = [
        f"{values[i + 1]} = max(0, network.{i}.weight @ {values[i]} + network.{i}.bias)"
        for i in range(layers - 1)
    ]
    last = f"network.{layers - 1}.weight @ {values[-1]} + network.{layers - 1}.bias"
    read = ["x = (descriptor - descriptor_mean) / descriptor_scale"]
    if reach is not None:
        read = [
            f"weight[r] = exp(-|descriptor - rows[r]|^2 / (2 * {float(reach.width):.9g}^2)), over their sum",
            "near = sum over r of weight[r] * rows[r]",
            f"asked = near + min(1, {float(reach.gap):.9g} / |descriptor - near|) * (descriptor - near)",
            (
                "x = (descriptor - descriptor_mean) / descriptor_scale, and after it the same of asked: 2 D"
                " numbers"
            ),
        ]
    return [*read, *hidden, f"c = {last}, one coefficient a component", *BLEND]


def write_basis(avatar: GaussianAvatar, path_stem: str | os.PathLike) -> tuple[Path, Path]:
    """Write `path_stem`.safetensors (float32 tensors) and `path_stem`.json (what they mean, and the steps
    from a descriptor to Gaussians, in words and formulas). Returns both paths.

    The JSON is written last and holds the tensors' sha256, so that a pair that does not belong together is
    seen. Nothing is quantised: the Gaussians are those of `GaussianAvatar.gaussians` up to float32's
    rounding.

    Raises ValueError for an avatar without a learned basis.

    >>> from raf_lite import GaussianAvatar
    >>> from raf_lite.manifest import find_data
    >>> avatar = GaussianAvatar.load(find_data() / "checkpoints" / "001-centred.safetensors")
    >>> [path.name for path in write_basis(avatar, "basis")]
    ['basis.safetensors', 'basis.json']
    """
    field = need_basis(avatar, "write_basis")
    stem = Path(path_stem)
    tensors, description = stem.with_name(stem.name + ".safetensors"), stem.with_name(stem.name + ".json")
    state = {
        "means": avatar.means,
        "quats": avatar.quats,
        "log_scales": avatar.log_scales,
        "color_logits": avatar.color_logits,
        "opacity_logits": avatar.opacity_logits,
        "descriptor_mean": avatar.descriptor_mean,
        "descriptor_scale": avatar.descriptor_scale,
        "basis": field.basis.view(len(field.basis), -1, OFFSETS) * field.gains,
    }
    meanings, layers = dict(MEANINGS), field.layers
    if field.reach is not None:
        state["rows"] = field.reach.rows
        meanings["rows"] = ("[R, D]", "descriptors of training, near which the field is asked")
    for i, layer in enumerate(layers):
        state[f"network.{i}.weight"], state[f"network.{i}.bias"] = layer.weight, layer.bias
    write_tensors(tensors, {k: v.float() for k, v in state.items()})
    for i in range(len(layers)):
        meanings[f"network.{i}.weight"] = (
            "[out, in]",
            f"layer {i} of the network from descriptor to coefficients",
        )
        meanings[f"network.{i}.bias"] = ("[out]", f"layer {i} of the network")
    camera = frontal_camera(avatar, 512)
    write_json(
        description,
        {
            "kind": "raf_lite learned basis",
            "format": FORMAT,
            "raf_lite": raf_lite.__version__,
            "tensors": {"file": tensors.name, "sha256": sha256_file(tensors)},
            "sizes": {"N": len(avatar.means), "K": len(field.basis), "D": len(avatar.descriptor_mean)},
            "arrays": {
                name: {"shape": list(state[name].shape), "axes": axes, "dtype": "float32", "meaning": meaning}
                for name, (axes, meaning) in meanings.items()
            },
            "steps": _steps(len(layers), field.reach),
            "descriptor": {"name": avatar.descriptor, "dimensions": dimension_names(avatar)},
            "space": {
                "meaning": "normalised head space: x_normalised = (x_head - centre) / radius",
                "centre": avatar.similarity.centre.tolist(),
                "radius": avatar.similarity.radius,
            },
            "front_view": {
                "meaning": (
                    "a camera that sees the face from the front: normalised head space to camera, row by row;"
                    " OpenCV axes (x right, y down, z forward), unit one head radius; K in pixels"
                ),
                "view": avatar.view(camera, np.eye(4)).tolist(),
                "K": camera.K.tolist(),
                "width": camera.width,
                "height": camera.height,
            },
            "rendering": {
                "rasterize_mode": "antialiased",
                "eps2d": 0.3,
                "background": "any; trained on white",
            },
            "notes": avatar.origin(),
        },
    )
    return tensors, description
