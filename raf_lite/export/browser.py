"""An avatar packed for a browser: its learned basis, small enough for a page or a widget.

The basis is turned into its principal components first, with coefficients of unit variance: then one step
serves all components, and the weak ones become almost all zeros, which gzip likes. 13 MB of 10,000 Gaussians
with 24 components come to 1 MB.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass

import numpy as np
import torch

from raf_lite.avatar import GaussianAvatar, frontal_camera, resting_descriptor
from raf_lite.avatar.fields import OFFSETS
from raf_lite.avatar.views import BEYOND
from raf_lite.export.basis import dimension_names
from raf_lite.export.blend import Blend, need_basis
from raf_lite.export.expressions import expression_directions
from raf_lite.export.placing import checked_descriptors

PROBE = 2.0  # standard scales by which each dimension is moved to see what it does
REACH = 3.0  # of a slider: standard deviations of a component, standard scales of a dimension
SHOWN = 8  # sliders of each kind
PROBED = (
    1e-2  # weight of the probes beside known descriptors, so that dimensions that these lack are kept too
)
USUAL = (0.02, 0.98)  # quantiles between which a dimension is at home


@dataclass(frozen=True)
class PackedAvatar:
    """What `model.js` unpacks. header: JSON-able sizes, names, camera, and where each array lies. data:
    gzipped bytes."""

    header: dict
    data: bytes


def _probes(avatar: GaussianAvatar) -> np.ndarray:
    """The mean descriptor, and it with each dimension moved either way: [1 + 2 D, D]."""
    mean, scale = avatar.descriptor_mean.cpu().numpy(), float(avatar.descriptor_scale)
    moves = PROBE * scale * np.eye(len(mean), dtype=np.float32)
    return np.concatenate([mean[None], mean + moves, mean - moves])


def _principal(
    avatar: GaussianAvatar, field: Blend, descriptors: np.ndarray | None
) -> tuple[np.ndarray, ...]:
    """The basis, its offset and last layer in principal components: components [K, N, 13], mean offset [N,
    13], weight [K, H], bias [K], share of each component in the movement [K], coefficient of one standard
    deviation of each [K].

    Offsets are those of the field, before its gains. Components are principal ones of `descriptors`, else of
    probes, and sorted by how far the Gaussians' centres move; sizes and colours come along.
    """

    def coefficients(values: np.ndarray) -> np.ndarray:
        asked = torch.as_tensor(values, device=avatar.means.device)
        return field.coefficients(asked).cpu().numpy().astype(np.float64)

    c = known = coefficients(_probes(avatar))
    basis, covariance = (
        field.basis.cpu().numpy().astype(np.float64),
        np.cov(c.T, bias=True).reshape(len(field.basis), -1),
    )
    if descriptors is not None:
        c = coefficients(descriptors)
        known = np.concatenate([known, c])
        covariance = np.cov(c.T, bias=True).reshape(covariance.shape) + PROBED * covariance
    mean = c.mean(0)
    # A little of every direction, since somebody may drive the avatar where these descriptors do not reach.
    covariance += (1e-2 * np.trace(covariance) / len(basis) + 1e-12) * np.eye(len(basis))
    root = np.linalg.cholesky(covariance)
    # c - mean = root @ white, so centres = white @ (root.T @ moves) = (white @ U) @ (S Vt). The K x K product
    # is enough.
    moves = basis.reshape(len(basis), -1, OFFSETS)[..., :3].reshape(len(basis), -1)
    square, U = np.linalg.eigh(root.T @ (moves @ moves.T) @ root)
    U, square = U[:, ::-1], square[::-1].clip(0)
    to_principal = U.T @ np.linalg.inv(root)
    # Where probes go farther than the descriptors, a component is kept larger and its coefficient smaller:
    # else a slider's far end would multiply the rounding to 8 bits.
    reach = np.sqrt((((known - mean) @ to_principal.T) ** 2).mean(0)).clip(1)
    to_principal /= reach[:, None]
    last = field.layers[-1]
    weight, bias = (p.detach().cpu().numpy().astype(np.float64) for p in (last.weight, last.bias))
    shape = (-1, basis.shape[1] // OFFSETS, OFFSETS)
    return (
        ((reach[:, None] * U.T) @ (root.T @ basis)).reshape(shape),
        (mean @ basis).reshape(shape[1:]),
        to_principal @ weight,
        to_principal @ (bias - mean),
        square / max(square.sum(), 1e-30),
        1 / reach,
    )


def _effects(avatar: GaussianAvatar, field: Blend, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """How far each dimension moves the offsets between its ends, the others at their mean: [D]."""
    mean = avatar.descriptor_mean.cpu().numpy()
    ends = [np.where(np.eye(len(mean), dtype=bool), end, mean).astype(np.float32) for end in (low, high)]
    c = [field.coefficients(torch.as_tensor(e, device=avatar.means.device)) for e in ends]
    gram = field.basis @ field.basis.T
    change = c[1] - c[0]
    return ((change @ gram) * change).sum(1).clamp(min=0).sqrt().cpu().numpy()


@torch.no_grad()
def pack_avatar(
    avatar: GaussianAvatar, descriptors: np.ndarray | None = None, *, size: int = 512
) -> PackedAvatar:
    """Pack an avatar with a learned basis.

    descriptors: [T, D] that the avatar will be driven by, if known: components are the principal ones of
    these, else of probes that move each dimension. The sliders are the dimensions that move the avatar most
    within the range of these: not those that hardly ever move, whose far ends no training has seen. For an
    avatar of landmarks they are the named expressions of `raf_lite.export.expressions`. size:
    pixels on the longer side of the picture. Canonical Gaussians become 16-bit numbers, the components 8-bit
    ones of one common step, the network stays float32.

    Raises ValueError for an avatar without a learned basis, and for descriptors of another kind or not
    finite.

    >>> from raf_lite import GaussianAvatar
    >>> from raf_lite.manifest import find_data
    >>> avatar = GaussianAvatar.load(find_data() / "checkpoints" / "001-centred.safetensors")
    >>> pack_avatar(avatar).header["descriptor"]
    'blendshapes'
    """
    field = need_basis(avatar, "the player")
    if descriptors is not None:
        descriptors = checked_descriptors(avatar, descriptors, "the player")
    components, offset, weight, bias, share, unit = _principal(avatar, field, descriptors)
    mean, scale = avatar.descriptor_mean.cpu().numpy(), float(avatar.descriptor_scale)
    low, high = (
        (np.zeros_like(mean), np.ones_like(mean))
        if avatar.descriptor == "blendshapes"
        else (mean - REACH * scale, mean + REACH * scale)
    )
    canonical = torch.cat(
        [avatar.means, avatar.quats, avatar.log_scales, avatar.color_logits, avatar.opacity_logits[:, None]],
        1,
    )
    canonical = canonical.cpu().numpy().astype(np.float64)
    canonical[:, :OFFSETS] += offset * field.gains.cpu().numpy()
    canonical_low = canonical.min(0)
    canonical_step = np.maximum(canonical.max(0) - canonical_low, 1e-6) / 65535
    # One step for all, which gzip likes; but landmarks and a motion prior move farther than what is learned.
    step, moved = np.empty(OFFSETS), avatar.reach is not None
    for group in (slice(0, 3), slice(3, OFFSETS)) if moved else (slice(0, OFFSETS),):
        step[group] = max(float(np.abs(components[..., group]).max()), 1e-6) / 127
    # What rounds to nothing is not sent.
    kept = (np.abs(components) >= step / 2).any((1, 2))
    components, weight, bias, share, unit = (x[kept] for x in (components, weight, bias, share, unit))
    arrays = {
        "canonical": np.round((canonical - canonical_low) / canonical_step).astype("<u2").T,
        "components": np.round(components / step).astype("i1").transpose(0, 2, 1),
    }
    layers = [(p.weight.cpu().numpy(), p.bias.cpu().numpy()) for p in field.layers[:-1]] + [(weight, bias)]
    for i, (w, b) in enumerate(layers):
        arrays |= {f"weight{i}": w.astype("<f4"), f"bias{i}": b.astype("<f4")}
    if avatar.reach is not None:
        arrays["rows"] = avatar.reach.rows.cpu().numpy().astype("<f4")
    body, places = b"", {}
    # Wide numbers first, so that each array starts at a multiple of its number's size.
    for name, array in sorted(arrays.items(), key=lambda item: -item[1].itemsize):
        places[name] = {"type": array.dtype.str[-2:], "offset": len(body), "shape": list(array.shape)}
        body += np.ascontiguousarray(array).tobytes()
    camera = frontal_camera(avatar, size)
    usual = (low, high) if descriptors is None else np.quantile(descriptors, USUAL, axis=0).astype(np.float32)
    names, order = (
        dimension_names(avatar),
        np.lexsort((-_effects(avatar, field, low, high), -_effects(avatar, field, *usual)))[:SHOWN],
    )
    dimensions = [
        {"index": int(i), "name": names[i], "low": float(low[i]), "high": float(high[i])} for i in order
    ]
    expressions = [
        {"name": name, "direction": direction.tolist(), "low": 0.0, "high": 1.0}
        for name, direction in expression_directions(avatar).items()
    ]
    header = {
        "gaussians": len(canonical),
        "layers": len(layers),
        "arrays": places,
        "descriptor": avatar.descriptor,
        "mean": mean.tolist(),
        "scale": scale,
        "reach": None
        if avatar.reach is None
        else {"width": float(avatar.reach.width), "gap": float(avatar.reach.gap)},
        "start": resting_descriptor(avatar).tolist(),
        "canonicalLow": canonical_low.tolist(),
        "canonicalStep": canonical_step.tolist(),
        "componentStep": (step * field.gains.cpu().numpy().astype(np.float64)).tolist(),
        "componentSliders": [
            {
                "index": i,
                "name": f"component {i + 1}",
                "share": round(float(share[i]), 4),
                "unit": float(unit[i]),
                "low": -REACH,
                "high": REACH,
            }
            for i in range(min(SHOWN, len(share)))
        ],
        "dimensionSliders": expressions or dimensions,
        "camera": {
            "view": avatar.view(camera, np.eye(4)).tolist(),
            "K": camera.K.tolist(),
            "width": camera.width,
            "height": camera.height,
        },
        "views": None
        if avatar.views is None
        else {
            "words": str(avatar.views),
            "beyond": float(BEYOND),
            **dict(zip(("yaw", "pitch"), avatar.views.limits().tolist(), strict=True)),
        },
    }
    return PackedAvatar(header, gzip.compress(body, 9, mtime=0))
